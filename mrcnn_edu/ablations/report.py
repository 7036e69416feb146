"""Tables and plots of what was measured, beside what was published.

Everything is read from the result files; nothing is typed. An arm shows its mean over seeds and
their standard deviation, an effect its interval and verdict. Chapter 15.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrcnn_edu.ablations.engine import make_run, read
from mrcnn_edu.ablations.profiles import Profile
from mrcnn_edu.ablations.statistics import Difference, Verdict, paired_difference, verdict
from mrcnn_edu.ablations.table import METRICS, DataName, Effect, Table
from mrcnn_edu.provenance import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLANK = "–"


@dataclass(frozen=True)
class Judged:
    """An effect, what was measured of it, and the verdict."""

    table: Table
    data: DataName
    effect: Effect
    difference: Difference
    verdict: Verdict


def collect(
    table: Table, profile: Profile, data: DataName, results: Path
) -> dict[str, dict[int, dict[str, Any]]]:
    """The results that are there: arm -> seed -> the content of the file."""
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for arm in table.arms:
        found[arm.name] = {}
        for seed in range(profile.seeds_for(table.key)):
            result = read(make_run(table, arm, profile, data, seed), results)
            if result is not None:
                found[arm.name][seed] = result
    return found


def values(results: Mapping[int, dict[str, Any]], metric: str) -> dict[int, float]:
    """One metric by seed; runs without such a head, or without such objects, are left out."""
    kind, name = METRICS[metric]
    found = {seed: r["metrics"].get(kind, {}).get(name) for seed, r in results.items()}
    return {seed: value for seed, value in found.items() if value is not None}


def judge(table: Table, profile: Profile, data: DataName, results: Path) -> list[Judged]:
    """The effects of a table of which at least one pair of runs is there."""
    found = collect(table, profile, data, results)
    judged = []
    for effect in table.effects:
        better, worse = (
            values(found[name], effect.metric) for name in (effect.better, effect.worse)
        )
        if better.keys() & worse.keys():
            difference = paired_difference(better, worse)
            judged.append(
                Judged(table, data, effect, difference, verdict(difference, effect.smallest))
            )
    return judged


def markdown(table: Table, profile: Profile, data: DataName, results: Path) -> str:
    """One table as Markdown: the arms, then the effects, then what they rest on."""
    found = collect(table, profile, data, results)
    if not any(found.values()):
        return ""
    lines = [
        f"### {table.key}: {table.title} ({data}, profile {profile.name})",
        "",
        table.claim,
        "",
    ]
    published = [m for m in table.columns if any(m in arm.published for arm in table.arms)]
    heads = ["arm", *(f"{metric}, published" for metric in published), *table.columns]
    heads += ["seeds", "parameters", "step, ms"]
    lines.append(_row(heads))
    lines.append(_row(["---", *["--:"] * (len(heads) - 1)]))
    for arm in table.arms:
        runs = found[arm.name]
        cells = [arm.name, *(_number(arm.published.get(metric)) for metric in published)]
        cells += [_mean(list(values(runs, metric).values())) for metric in table.columns]
        steps = [1000 * _step_seconds(r) for r in runs.values()]
        parameters = {f"{r['parameters']:,}" for r in runs.values()}
        cells += [str(len(runs)), ", ".join(parameters) or BLANK]
        cells.append(f"{statistics.median(steps):.0f}" if steps else BLANK)
        lines.append(_row(cells))
    judged = judge(table, profile, data, results)
    if judged:
        lines += ["", _row(["effect", "metric", "published", "difference, 95 %", "verdict"])]
        lines.append(_row(["---", "---", "--:", "--:", "---"]))
    for j in judged:
        lines.append(
            _row(
                [
                    f"{j.effect.better} over {j.effect.worse}",
                    j.effect.metric,
                    _number(_published(table, j.effect), sign=True),
                    _interval(j.difference),
                    f"**{j.verdict}** ({j.difference.seeds} seeds)",
                ]
            )
        )
    everything = [r for runs in found.values() for r in runs.values()]
    lines += ["", _footnote(table, everything)]
    return "\n".join(lines) + "\n"


def forest(judged: Sequence[Judged]) -> "Figure":
    """All effects under each other: the difference, its interval, the verdict's colour."""
    import matplotlib.pyplot as plt

    from mrcnn_edu.show import BLUE, GREEN, RED, use_style

    use_style()
    colours = {"reproduced": GREEN, "not reproduced": RED, "undecided": "0.5"}
    figure, axis = plt.subplots(figsize=(7.0, 0.6 + 0.3 * max(1, len(judged))))
    for row, j in enumerate(reversed(judged)):
        low, high = max(j.difference.low, -30), min(j.difference.high, 60)
        axis.plot([low, high], [row, row], color=colours[j.verdict])
        axis.plot(j.difference.mean, row, "o", color=colours[j.verdict])
        published = _published(j.table, j.effect)
        if published is not None:
            axis.plot(published, row, "|", color=BLUE, markersize=10, markeredgewidth=1.8)
    labels = [
        f"{j.table.key}, {j.data}: {j.effect.better} over {j.effect.worse}, {j.effect.metric}"
        for j in reversed(judged)
    ]
    axis.axvline(0, color="0.3", linewidth=0.8)
    axis.set_yticks(range(len(labels)), labels=labels, fontsize=7)
    axis.set(xlabel="difference in AP points, 95 % interval; blue: published", ylim=(-0.7, None))
    for name, colour in colours.items():
        axis.plot([], [], "o-", color=colour, label=name)
    figure.legend(loc="outside upper right", ncols=3)
    return figure


def write(
    tables: Sequence[Table], profile: Profile, data: Sequence[DataName], results: Path
) -> list[Path]:
    """Write ``PROFILE.md`` and ``PROFILE.svg`` beside the results.

    Returns:
        the files; none if nothing was measured yet.
    """
    pairs = [(t, d) for t in tables for d in t.data if d in data]
    texts = [text for t, d in pairs if (text := markdown(t, profile, d, results))]
    if not texts:
        return []
    title = (
        f"# The paper's tables, profile `{profile.name}`\n\nMade by `mrcnn-edu ablate` from the "
    )
    title += "JSON files in this folder. Published numbers are other networks on other data.\n\n"
    page = results / f"{profile.name}.md"
    write_atomically(page, (title + "\n".join(texts)).encode())
    judged = [j for t, d in pairs for j in judge(t, profile, d, results)]
    if not judged:
        return [page]
    import matplotlib

    plot = results / f"{profile.name}.svg"
    figure = forest(judged)
    with matplotlib.rc_context({"svg.hashsalt": "mrcnn_edu"}):
        figure.savefig(plot, metadata={"Date": None})
    return [page, plot]


def _published(table: Table, effect: Effect) -> float | None:
    better, worse = (
        table.arm(name).published.get(effect.metric) for name in (effect.better, effect.worse)
    )
    return None if better is None or worse is None else better - worse


def _footnote(table: Table, results: Sequence[dict[str, Any]]) -> str:
    machines = {
        f"{r['device'] if r['device'] != 'cpu' else r['machine']['cpu']}, torch "
        f"{r['versions']['torch']}"
        for r in results
    }
    commits = sorted({f"`{r['commit'][:7]}`" for r in results})
    trains = {r["config"]["train"]["steps"] for r in results}
    parts = [table.note, f"Published: {table.source}." if table.source else ""]
    parts.append(
        f"Measured: {len(results)} runs of {', '.join(map(str, sorted(trains)))} steps; "
        f"{'; '.join(sorted(machines))}; commits {', '.join(commits)}."
    )
    return " ".join(part for part in parts if part)


def _step_seconds(result: dict[str, Any]) -> float:
    return result["step_processor_seconds" if result["device"] == "cpu" else "step_seconds"]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _number(value: float | None, sign: bool = False) -> str:
    if value is None:
        return BLANK
    return f"{value:+.1f}" if sign else f"{value:.1f}"


def _mean(found: list[float]) -> str:
    if not found:
        return BLANK
    spread = f" ± {statistics.stdev(found):.1f}" if len(found) > 1 else ""
    return f"{statistics.fmean(found):.1f}{spread}"


def _interval(d: Difference) -> str:
    if math.isinf(d.low):
        return f"{d.mean:+.1f} (one seed)"
    return f"{d.mean:+.1f} [{d.low:+.1f}, {d.high:+.1f}]"
