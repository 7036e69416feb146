"""Differences between arms, paired by seed, with an interval, and the verdict that follows.

Two runs with one seed see the same images in the same order, so what a seed does to both arms
cancels; how much that is differs from claim to claim. The interval is Student's, 95 %, over the
differences. All seeds share one training and one validation set: the interval says what another
seed would give, not what other images would. The verdict follows from the interval and from the
smallest effect that the table names. Chapter 15.
"""

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["reproduced", "not reproduced", "undecided"]
FEWEST = 3  # seeds for a verdict
FLOOR = 2.0  # AP: where neither arm reaches it, nothing has been learned that could differ

# Two-sided 95 % quantiles of Student's t for 1, 2, … degrees of freedom (Abramowitz and Stegun
# 1964, table 26.10); beyond 30 the normal distribution's, which is off by less than 0.09.
T_95 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


@dataclass(frozen=True)
class Difference:
    """A mean difference over paired seeds, in AP points."""

    seeds: int
    mean: float
    low: float  # of the 95 % interval; −inf and inf with fewer than two seeds
    high: float


def paired_difference(first: Mapping[int, float], second: Mapping[int, float]) -> Difference:
    """The difference of two arms, first − second, over the seeds that both have.

    Args:
        first: seed -> AP.
        second: the same for the other arm.

    Raises:
        ValueError: no seed is in both.
    """
    common = sorted(first.keys() & second.keys())
    if not common:
        raise ValueError("The two arms have no seed in common.")
    differences = [first[seed] - second[seed] for seed in common]
    mean = statistics.fmean(differences)
    if len(common) < 2:
        return Difference(1, mean, -math.inf, math.inf)
    error = statistics.stdev(differences) / math.sqrt(len(common))
    t = T_95[len(common) - 2] if len(common) - 2 < len(T_95) else 1.96
    return Difference(len(common), mean, mean - t * error, mean + t * error)


def unpaired_difference(first: Mapping[int, float], second: Mapping[int, float]) -> Difference:
    """The same difference without its pairs: Student's interval of two means.

    Only to be shown beside the paired one. Both arms are taken to scatter alike, so the interval
    has 2n − 2 degrees of freedom. It is wider where runs with one seed rise and fall together.

    Args:
        first: seed -> AP.
        second: the same for the other arm.

    Raises:
        ValueError: no seed is in both.
    """
    paired = paired_difference(first, second)
    if paired.seeds < 2:
        return paired
    common = first.keys() & second.keys()
    both = sum(statistics.variance([arm[seed] for seed in common]) for arm in (first, second))
    freedom = 2 * paired.seeds - 2
    t = T_95[freedom - 1] if freedom <= len(T_95) else 1.96
    half = t * math.sqrt(both / paired.seeds)
    return Difference(paired.seeds, paired.mean, paired.mean - half, paired.mean + half)


def verdict(
    difference: Difference, smallest: float, alike: bool = False, level: float = math.inf
) -> Verdict:
    """Judge a claim that the difference is positive, or that two arms are alike.

    Args:
        difference: what was measured.
        smallest: the least effect that would matter.
        alike: the claim is that there is no such effect in either direction.
        level: the mean AP of the arm that has more.

    Returns:
        "reproduced" if the interval lies above 0, however little; else "not reproduced" if it lies
        below half of `smallest`. For arms that should be alike: "reproduced" if it lies within
        ± `smallest`, "not reproduced" if it lies wholly outside. (The usual test of equivalence
        takes the 90 % interval; this is stricter.) Else, and by rule with fewer than three seeds or
        below `FLOOR`, "undecided".
    """
    low, high = difference.low, difference.high
    if difference.seeds < FEWEST or level < FLOOR:
        return "undecided"
    if alike:
        yes, no = -smallest < low and high < smallest, low > smallest or high < -smallest
    else:
        yes, no = low > 0, high < smallest / 2
    return "reproduced" if yes else "not reproduced" if no else "undecided"
