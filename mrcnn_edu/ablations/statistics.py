"""Differences between arms, paired by seed, with an interval, and the verdict that follows.

Two runs with one seed see the same images in the same order, so their difference varies less than
two separate results do. The interval is Student's, 95 %, over those differences. The verdict is
computed from the interval and from numbers that the table names in advance. Chapter 15.
"""

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["reproduced", "not reproduced", "undecided"]
FEWEST = 3  # seeds for a verdict

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


def paired_difference(better: Mapping[int, float], worse: Mapping[int, float]) -> Difference:
    """The difference of two arms over the seeds that both have.

    Args:
        better: seed -> AP.
        worse: the same for the other arm.

    Raises:
        ValueError: no seed is in both.
    """
    common = sorted(better.keys() & worse.keys())
    if not common:
        raise ValueError("The two arms have no seed in common.")
    differences = [better[seed] - worse[seed] for seed in common]
    mean = statistics.fmean(differences)
    if len(common) < 2:
        return Difference(1, mean, -math.inf, math.inf)
    error = statistics.stdev(differences) / math.sqrt(len(common))
    t = T_95[len(common) - 2] if len(common) - 2 < len(T_95) else 1.96
    return Difference(len(common), mean, mean - t * error, mean + t * error)


def verdict(difference: Difference, smallest: float, alike: bool = False) -> Verdict:
    """Judge a claim that the difference is positive, or that two arms are alike.

    Args:
        difference: what was measured.
        smallest: the least effect that would matter, named in advance.
        alike: the claim is that there is no such effect in either direction.

    Returns:
        "reproduced" if the interval lies above 0; "not reproduced" if it lies below half of
        ``smallest``. For arms that should be alike: "reproduced" if it lies within ± ``smallest``,
        "not reproduced" if it lies outside. Else, and by rule with fewer than three seeds,
        "undecided".
    """
    low, high = difference.low, difference.high
    if difference.seeds < FEWEST:
        return "undecided"
    if alike:
        yes, no = -smallest < low and high < smallest, low > smallest or high < -smallest
    else:
        yes, no = low > 0, high < smallest / 2
    return "reproduced" if yes else "not reproduced" if no else "undecided"
