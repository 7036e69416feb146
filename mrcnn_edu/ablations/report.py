"""Tables of what was measured, beside what was published, and the page that holds them.

An arm shows its mean over seeds and their standard deviation, an effect its interval and verdict.
Chapter 15.
"""

import statistics
from collections import Counter
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, get_args

from mrcnn_edu.ablations.forest import forest
from mrcnn_edu.ablations.intervals import FEWEST, FLOOR, Verdict
from mrcnn_edu.ablations.judge import Judged, collect, interval_text, judge, signed, values
from mrcnn_edu.ablations.profiles import Profile
from mrcnn_edu.ablations.table import DataName, Table
from mrcnn_edu.files import write_atomically

BLANK = "–"


def markdown(table: Table, profile: Profile, data: DataName, results: Path) -> str:
    """One table as Markdown: the arms, then the effects, then what they rest on.

    Args:
        table: the table, with its arms and effects.
        profile: how large the runs are, and with how many seeds.
        data: the set they were trained on.
        results: the folder of the runs' JSON files.

    Returns:
        the text; empty where fewer than two arms were run, since there is nothing to compare.
    """
    found = collect(table, profile, data, results)
    if sum(bool(runs) for runs in found.values()) < 2:
        return ""
    on = f" ({data})" if len(table.data) > 1 else ""
    whose = "The paper: " if table.source else "Expected: "
    lines = [f"## {table.key}: {table.title}{on}", "", whose + table.claim, ""]
    published = [m for m in table.columns if any(m in arm.published for arm in table.arms)]
    everything = [r for runs in found.values() for r in runs.values()]
    heads = ["arm", *(f"{metric}, published" for metric in published), *table.columns]
    heads += ["seeds", "parameters", "ms a step"]
    lines += [_row(heads), _row(["---", *["--:"] * (len(heads) - 1)])]
    for arm in table.arms:
        runs = found[arm.name]
        cells = [arm.name, *(_number(arm.published.get(metric)) for metric in published)]
        cells += [_mean(list(values(runs, metric).values())) for metric in table.columns]
        times = [_step_seconds(r) for r in runs.values()]
        steps = [1000 * seconds for seconds in times if seconds is not None]
        parameters = {f"{r['parameters'] / 1e6:.2f}\u00a0M" for r in runs.values()}
        cells += [str(len(runs)), ", ".join(parameters) or BLANK]
        cells.append(f"{statistics.median(steps):.0f}" if steps else BLANK)
        lines.append(_row(cells))
    judged = judge(table, profile, data, results)
    if judged:
        heads = ["claim", "published", "measured, 95 %", "ratio, published", "ratio"]
        heads += ["matters from", "verdict"]
        lines += ["", _row(heads), _row(["---", *["--:"] * 5, "---"])]
    for j in judged:
        difference, ratio = j.published or (None, None)
        cells = [f"{j.effect}, {j.effect.metric}"]
        cells += [BLANK if difference is None else signed(difference), interval_text(j.difference)]
        cells += [_ratio(ratio), _ratio(j.ratio), f"{j.effect.smallest:.1f}", f"**{j.verdict}**"]
        lines.append(_row(cells))
    lines += ["", _footnote(table, everything)]
    return "\n".join(lines) + "\n"


def coverage(pairs: Sequence[tuple[Table, DataName]], profile: Profile, results: Path) -> str:
    """Which tables were run with all their seeds, which were begun, and which were not run.

    Args:
        pairs: tables, and what they are trained on.
        profile: with how many seeds.
        results: the folder of the runs' JSON files.

    Returns:
        one sentence for each of the three; empty where every table was run.
    """
    whole, begun, missing = list[str](), list[str](), list[str]()
    for table, data in pairs:
        name = f"{table.key} on {data}" if len(table.data) > 1 else table.key
        made = [set(seeds) for seeds in collect(table, profile, data, results).values()]
        done, wanted = len(set.intersection(*made)), profile.seeds_for(table.key)
        if done == wanted:
            whole.append(name)
        elif done:
            begun.append(f"{name} ({done} of {wanted} seeds)")
        else:
            missing.append(name)
    found = {"Run with all their seeds": whole, "Begun": begun, "Not run": missing}
    if not begun and not missing:
        return ""
    return " ".join(f"{what}: {', '.join(names)}." for what, names in found.items() if names)


def page(
    texts: Sequence[str],
    judged: Sequence[Judged],
    profile: Profile,
    plot: str,
    covered: str = "",
) -> str:
    """All tables on one page, below the plot and what is needed to read it.

    Args:
        texts: the tables, from `markdown`.
        judged: the effects of all tables, to count the verdicts.
        profile: how large the runs are.
        plot: the name of the forest plot's file, beside the page.
        covered: which tables there are, from `coverage`.

    Returns:
        the page as Markdown.
    """
    counts = Counter(j.verdict for j in judged)
    verdicts = ", ".join(f"{counts[name]} {name}" for name in get_args(Verdict))
    early = sum(not j.complete for j in judged)
    if early:
        verdicts += f" ({early} of them by rule: seeds are missing)"
    t = profile.train
    lines = [
        f"# The paper's tables, profile {profile.name}",
        "",
        "Made by `mrcnn-edu ablate` from the JSON files in this folder. Published numbers are COCO "
        "AP of large networks; measured ones are small networks on other data, "
        f"{t.steps:,} steps of {t.batch_size} images. Only signs can be compared: how large an "
        "effect is, as a difference or as a ratio of the two arms' means, depends on network and "
        "images. Milliseconds a step are processor time of one core, on a GPU wall time; ± is the "
        "standard deviation over seeds.",
        "",
    ]
    if covered:
        lines += [covered, ""]
    if judged:
        lines += [
            f"![Forest plot: every claimed difference with its interval]({plot})",
            "",
            f"{len(judged)} claims: {verdicts}. That one arm is *over* another is reproduced when "
            "the interval of the difference, paired by seed, lies above 0; not reproduced when it "
            'lies otherwise below half of the least difference that matters (the column "matters '
            'from"). That one arm is *like* another is reproduced when the interval lies within ± '
            "that difference (the pale band), not reproduced when it lies wholly outside. All else "
            f"is undecided, and so is every claim with fewer than {FEWEST} seeds, or before all "
            "the seeds are there that the profile states, or where neither arm reaches "
            f"{FLOOR:.0f} AP. Claims of one table share runs, and tables share arms, "
            "so they are not independent; no correction is made for their number.",
            "",
        ]
    return "\n".join([*lines, *texts])


def write(
    tables: Sequence[Table], profile: Profile, data: Sequence[DataName], results: Path
) -> list[Path]:
    """Write `PROFILE.md` and `PROFILE.svg` beside the results.

    Args:
        tables: the tables to show, in this order.
        profile: how large the runs are, and with how many seeds.
        data: the sets to show, where a table was run on them.
        results: the folder of the runs' JSON files.

    Returns:
        the files written; none if nothing was measured yet.
    """
    pairs = [(t, d) for t in tables for d in t.data if d in data]
    texts = [text for t, d in pairs if (text := markdown(t, profile, d, results))]
    if not texts:
        return []
    judged = [j for t, d in pairs for j in judge(t, profile, d, results)]
    file, plot = results / f"{profile.name}.md", results / f"{profile.name}.svg"
    text = page(texts, judged, profile, plot.name, coverage(pairs, profile, results))
    write_atomically(file, text.encode())
    if not judged:
        return [file]
    import matplotlib
    import matplotlib.pyplot as plt

    figure, picture = forest(judged), BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "mrcnn_edu"}):
        figure.savefig(picture, format="svg", metadata={"Date": None})
    plt.close(figure)
    write_atomically(plot, picture.getvalue())
    return [file, plot]


def _footnote(table: Table, results: Sequence[dict[str, Any]]) -> str:
    machines = {
        f"{r['device'] if r['device'] != 'cpu' else r['machine']['cpu']}, torch "
        f"{r['versions']['torch']}"
        for r in results
    }
    commits = sorted({_commit(r) for r in results})
    dates = sorted({r["date"] for r in results})
    parts = [table.note, f"Published: {table.source}." if table.source else ""]
    parts.append(
        f"Measured: {_count(len(results), 'run')}, {' to '.join({dates[0]: 0, dates[-1]: 0})}; "
        f"{'; '.join(sorted(machines))}; commit {', '.join(commits)}."
    )
    return " ".join(part for part in parts if part)


def _commit(result: dict[str, Any]) -> str:
    if result["commit"] is None:
        return "unknown"
    return f"`{result['commit'][:7]}`{'' if result['clean'] else ' with changes'}"


def _step_seconds(result: dict[str, Any]) -> float | None:
    """Of the processor; None for a run that was killed after its last step."""
    return result["step_processor_seconds" if result["device"] == "cpu" else "step_seconds"]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _number(value: float | None) -> str:
    return BLANK if value is None else f"{value:.1f}"


def _ratio(value: float | None) -> str:
    return BLANK if value is None else f"×{value:.2f}"


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def _mean(found: list[float]) -> str:
    if not found:
        return BLANK
    spread = f"\u00a0±\u00a0{statistics.stdev(found):.1f}" if len(found) > 1 else ""
    return f"{statistics.fmean(found):.1f}{spread}"
