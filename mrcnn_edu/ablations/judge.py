"""From result files to judged claims: what each effect of a table came to, and the verdict.

Everything is read from the files; nothing is typed. Chapter 15.
"""

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mrcnn_edu.ablations.engine import make_run, read
from mrcnn_edu.ablations.intervals import Difference, Verdict, paired_difference, verdict
from mrcnn_edu.ablations.profiles import Profile
from mrcnn_edu.ablations.table import COLUMNS, DataName, Effect, Table

Results = dict[str, dict[int, dict[str, Any]]]  # arm -> seed -> the content of its file


@dataclass(frozen=True)
class Judged:
    """An effect, what was measured of it, and the verdict."""

    table: Table
    data: DataName
    effect: Effect
    difference: Difference
    ratio: float | None  # of the two means over the same seeds; None: the second is below 1 AP
    verdict: Verdict
    complete: bool = True  # all the seeds are there that the profile states beforehand

    @property
    def published(self) -> tuple[float, float] | None:
        """The published difference and ratio of the two arms, if both are published."""
        first, second = (
            self.table.arm(name).published.get(self.effect.metric)
            for name in (self.effect.first, self.effect.second)
        )
        return None if first is None or second is None else (first - second, first / second)


def collect(table: Table, profile: Profile, data: DataName, results: Path) -> Results:
    """The results of a table that are there.

    Args:
        table: the table, with its arms.
        profile: how large the runs are, and with how many seeds.
        data: the set they were trained on.
        results: the folder of the runs' JSON files.

    Returns:
        for each arm, the content of its files by seed; an arm without results has none.
    """
    found: Results = {}
    for arm in table.arms:
        found[arm.name] = {}
        for seed in range(profile.seeds_for(table.key)):
            result = read(make_run(table, arm, profile, data, seed), results)
            if result is not None:
                found[arm.name][seed] = result
    return found


def values(results: Mapping[int, dict[str, Any]], metric: str) -> dict[int, float]:
    """One metric by seed; runs without such a head, or without such objects, are left out."""
    kind, name = COLUMNS[metric]
    found = {seed: r["metrics"].get(kind, {}).get(name) for seed, r in results.items()}
    return {seed: value for seed, value in found.items() if value is not None}


def judge(table: Table, profile: Profile, data: DataName, results: Path) -> list[Judged]:
    """The effects of a table of which at least one pair of runs is there.

    Args:
        table: the table, with the effects that it claims.
        profile: how large the runs are, and with how many seeds.
        data: the set they were trained on.
        results: the folder of the runs' JSON files.

    Returns:
        one judged effect for each claim with a pair: two arms, one seed, the same kind of device.
        Until all the seeds are there that the profile states, a claim is undecided by rule: who
        looks after every seed, and stops where the interval happens to leave 0, finds too much.
    """
    found = collect(table, profile, data, results)
    judged = []
    for effect in table.effects:
        first, second = (
            values(found[name], effect.metric) for name in (effect.first, effect.second)
        )
        # A GPU's results are not compared with a CPU's.
        common = [
            seed
            for seed in first.keys() & second.keys()
            if found[effect.first][seed]["device"] == found[effect.second][seed]["device"]
        ]
        if common:
            first, second = ({seed: arm[seed] for seed in common} for arm in (first, second))
            difference = paired_difference(first, second)
            a, b = (statistics.fmean(arm.values()) for arm in (first, second))
            ruling = verdict(difference, effect.smallest, effect.alike, max(a, b))
            complete = len(common) == profile.seeds_for(table.key)
            ratio = a / b if b >= 1 else None
            judged.append(
                Judged(
                    table, data, effect, difference, ratio,
                    ruling if complete else "undecided", complete,
                )
            )  # fmt: skip
    return judged


def interval_text(d: Difference) -> str:
    """A difference as a table shows it: mean, and in brackets the 95 % interval."""
    if math.isinf(d.low):
        return f"{signed(d.mean)} (one seed)"
    return f"{signed(d.mean)} [{signed(d.low)},\u00a0{signed(d.high)}]"


def signed(value: float) -> str:
    """A difference with its sign and one decimal, near 0 with two: a verdict may hang on it."""
    text = f"{value:+.{2 if abs(value) < 0.05 else 1}f}".replace("-", "−")
    return "0.0" if text[1:] == "0.00" else text
