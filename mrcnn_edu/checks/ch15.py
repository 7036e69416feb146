"""Checks of chapter 15: an interval, a verdict, enough seeds, signs; of runs: `ch15_runs`."""

import itertools
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mrcnn_edu.ablations.intervals import T_95, Difference, paired_difference, verdict
from mrcnn_edu.checks.ch15_runs import check_arm_of, check_differences
from mrcnn_edu.checks.common import (
    case,
    check,
    inputs_kept,
    numbers,
    parts,
    require,
    require_equal,
    require_not,
)

__all__ = [
    "check_arm_of",
    "check_differences",
    "check_interval",
    "check_seeds",
    "check_sign_flips",
    "check_verdict",
]

Arm = Mapping[int, float]


@check("15.1")
def check_interval(answer: Callable[[Arm, Arm], Any]) -> None:
    """Check the paired 95 % interval of the difference of two arms: mean, low, high."""
    answer = inputs_kept(answer)

    def run(first: dict[int, float], second: dict[int, float]) -> list[float]:
        mean, low, high = parts(answer(first, second), "mean", "low", "high")
        return [float(mean), float(low), float(high)]

    case("three seeds")
    first, second = {0: 30.0, 1: 34.0, 2: 32.0}, {0: 27.0, 1: 30.0, 2: 27.0}  # 3, 4, 5
    mean, low, high = run(first, second)
    require_not(mean, -4.0, "Your mean is second − first: the difference is first − second.")
    require_equal(mean, 4.0, "Differences of 3, 4 and 5.")
    half = (high - low) / 2
    for wrong, message in {
        1.96 / math.sqrt(3): "1.96 is for very many seeds. With three there are two degrees of "
        "freedom: T_95[1], which is 4.303.",
        T_95[2] / math.sqrt(3): "T_95[0] is for one degree of freedom, and three seeds have two: "
        "you are one place too far.",
        T_95[1]: "The deviation of the differences is not that of their mean: divide by √n.",
        T_95[1] / 3: "The deviation of a mean falls with √n, not with n.",
        T_95[1] * math.sqrt(2) / 3: "That is the deviation of these three numbers (divided by n). "
        "Of what they were drawn from it is estimated with n − 1: statistics.stdev, or ddof=1.",
    }.items():
        require_not(half, wrong, message)
    unpaired = T_95[1] * math.sqrt((statistics.variance([30, 34, 32]) + 7 / 3 + 2 / 3) / 3)
    require_not(half, unpaired, "These are the deviations of the two arms, added up: unpaired.")
    require_equal(
        [low, high], [1.5159, 6.4841], "Differences of 3, 4 and 5; 4.303 · 1 / √3 to each side."
    )
    case("seeds in another order")
    shuffled = {2: 27.0, 0: 27.0, 1: 30.0}
    got = run(first, shuffled)
    require(
        got[2] < 6.5,
        "The second arm's seeds came in another order, and the interval became wider: pair by "
        "seed, not by place.",
    )
    require_equal(got, [4.0, 1.5159, 6.4841], "The same runs, their seeds in another order.")
    case("a seed that one arm lacks")
    more, fewer = {0: 30.0, 1: 34.0, 2: 32.0, 7: 90.0}, {0: 27.0, 1: 30.0, 2: 27.0, 5: 1.0}
    got = run(more, fewer)
    require_equal(got, [4.0, 1.5159, 6.4841], "Seeds 5 and 7 have no partner: leave them out.")
    case("one seed")
    got = run({4: 3.0}, {4: 1.0})
    require_equal(got[0], 2.0, "One seed, a difference of 2.")
    require(
        got[1:] == [-math.inf, math.inf],
        "One seed says nothing about scatter: the interval goes from −math.inf to math.inf; yours: "
        f"{got[1:]}.",
    )
    case("no scatter")
    require_equal(run({0: 2.0, 1: 3.0}, {0: 1.0, 1: 2.0}), [1.0, 1.0, 1.0], "Differences 1 and 1.")
    rng = np.random.default_rng(0)
    for trial in range(30):
        case(f"random {trial}")
        seeds = rng.choice(99, int(rng.integers(2, 30)), replace=False).tolist()
        a, b = ({s: float(rng.normal(30, 4)) for s in seeds} for _ in "ab")
        want = paired_difference(a, b)
        require_equal(
            run(a, b), [want.mean, want.low, want.high], f"Random case {trial}: {len(seeds)} seeds."
        )


@check("15.2")
def check_verdict(answer: Callable[..., Any]) -> None:
    """Check the rule that turns an interval into one of three verdicts."""
    answer = inputs_kept(answer)
    words = ("reproduced", "not reproduced", "undecided")

    def run(low: float, high: float, smallest: float = 1.0, alike: bool = False) -> str:
        got = answer(low, high, smallest, alike)
        require(got in words, f"One of {', '.join(words)}, please; yours: {got!r}.")
        return got

    case("over")
    got = run(0.2, 0.6)
    require(
        got != "undecided",
        "[0.2, 0.6] lies above 0: that is reproduced, though it is less than the effect that "
        "matters. The claim was about the sign.",
    )
    require(
        got != "not reproduced",
        "[0.2, 0.6] lies above 0, so the claim is reproduced; ask that first.",
    )
    require(run(-3.0, 4.0) == "undecided", "[−3, 4] holds 0 and much else: undecided.")
    got = run(-0.3, 0.7)
    require(
        got != "not reproduced",
        "[−0.3, 0.7] still holds half of the effect that matters (0.5): not refuted. An interval "
        "that holds 0 does not say that there is nothing.",
    )
    require(got == "undecided", f"[−0.3, 0.7] with an effect of 1: undecided; yours: {got}.")
    require(
        run(-0.9, 0.4) == "not reproduced",
        "[−0.9, 0.4] excludes even half of the effect that matters (0.5): not reproduced.",
    )
    require(run(-4.0, -1.0) == "not reproduced", "[−4, −1] is the opposite: not reproduced.")
    require(run(-4.0, 0.7, 2.0) == "not reproduced", "[−4, 0.7], and half of 2 is 1.")
    require(run(0.0, 3.0) == "undecided", "An interval that begins at 0 holds 0: undecided.")
    require(run(-1.0, 0.5) == "undecided", "[−1, 0.5] holds half of the effect, 0.5: undecided.")
    case("alike")
    got = run(-0.4, 0.6, alike=True)
    require(
        got != "undecided",
        "[−0.4, 0.6] lies within ± 1: two arms that differ by less than what matters are alike.",
    )
    require(got == "reproduced", f"[−0.4, 0.6] lies within ± 1: alike; yours: {got}.")
    got = run(0.2, 0.6, alike=True)
    require(
        got == "reproduced",
        "[0.2, 0.6] excludes 0 but lies within ± 1. The difference is real, and too small to "
        "matter: alike.",
    )
    got = run(0.5, 1.5, alike=True)
    require(
        got == "undecided",
        f"[0.5, 1.5] lies partly within ± 1 and partly outside: undecided; yours: {got}.",
    )
    require(run(1.5, 3.0, alike=True) == "not reproduced", "[1.5, 3] lies wholly outside ± 1.")
    require(
        run(-3.0, -1.5, alike=True) == "not reproduced",
        "[−3, −1.5] lies wholly outside ± 1, on the other side.",
    )
    require(run(-3.0, 2.0, alike=True) == "undecided", "[−3, 2] holds all of ± 1: undecided.")
    require(run(-3.0, 0.2, alike=True) == "undecided", "[−3, 0.2] leaves ± 1 on one side.")
    for low, high in ((-1.0, 0.0), (0.0, 1.0), (1.0, 2.0), (-2.0, -1.0)):
        require(
            run(low, high, alike=True) == "undecided",
            f"[{low:g}, {high:g}] touches the limit of 1: neither within it nor outside.",
        )
    rng = np.random.default_rng(0)
    for trial in range(300):
        case(f"random {trial}")
        low, high = sorted(rng.normal(0, 2, 2).tolist())
        smallest, alike = float(rng.choice([0.5, 1.0, 2.0])), bool(rng.random() < 0.5)
        want = verdict(Difference(5, (low + high) / 2, low, high), smallest, alike)
        got = run(low, high, smallest, alike)
        require(
            got == want,
            f"Random case {trial}: [{low:.2f}, {high:.2f}], effect {smallest:g}, alike {alike}: "
            f"{want}; yours: {got}.",
        )


@check("15.3")
def check_seeds(answer: Callable[[float, float], Any]) -> None:
    """Check the least number of seeds whose half interval is below an effect."""

    def half(deviation: float, seeds: int) -> float:
        return T_95[seeds - 2] * deviation / math.sqrt(seeds)

    def run(deviation: float, effect: float) -> int | None:
        got = answer(deviation, effect)
        if got is None:
            return None
        require(
            isinstance(got, int | np.integer) and not isinstance(got, bool),
            f"A whole number of seeds, or None; yours: {got!r}.",
        )
        return int(got)

    case("deviation 4.6, effect 3")
    got = run(4.6, 3.0)
    require(
        got != math.ceil((1.96 * 4.6 / 3) ** 2),
        "That is the number for 1.96. With few seeds t is larger, and more are needed: try one "
        "number after the other.",
    )
    require_equal(-1 if got is None else got, 12, "A deviation of 4.6 and an effect of 3.")
    got = run(2.0, 2.0)
    require(
        got != 6,
        "Six seeds have five degrees of freedom, T_95[4] = 2.571, which gives ± 2.10: not below 2.",
    )
    require_equal(-1 if got is None else got, 7, "A deviation of 2 and an effect of 2.")
    require(
        run(2.0, T_95[2]) == 5,
        "Four seeds give ± 3.182, which is the effect asked for, and not below it: five.",
    )
    case("hardly any scatter")
    require(
        run(0.01, 5.0) == 3,
        "Two seeds would do here, by the numbers, but with fewer than three no claim is judged.",
    )
    case("too much scatter")
    got = run(40.0, 0.5)
    require(
        got is None,
        f"Even 31 seeds give ± {half(40, 31):.1f}, not 0.5: return None; yours: {got}.",
    )
    require(
        run(half(1, 31) ** -1 * 1.001, 1.0) is None, "31 seeds miss the effect by a thousandth."
    )
    require(run(half(1, 31) ** -1 * 0.999, 1.0) == 31, "31 seeds are just enough: T_95[29].")
    rng = np.random.default_rng(0)
    for trial in range(60):
        case(f"random {trial}")
        deviation, effect = float(rng.uniform(0.3, 8)), float(rng.uniform(0.8, 6))
        enough = [n for n in range(3, 32) if half(deviation, n) < effect]
        want = enough[0] if enough else None
        got = run(deviation, effect)
        require(
            got == want,
            f"Random case {trial}: deviation {deviation:.2f}, effect {effect:.2f}: {want} seeds; "
            f"yours: {got}.",
        )


@check("15.4")
def check_sign_flips(answer: Callable[[Sequence[float]], Any]) -> None:
    """Check the share of sign patterns whose mean is as far from 0 as the one measured."""
    answer = inputs_kept(answer)

    def run(differences: list[float]) -> float:
        got = numbers(answer(differences))
        require(got.numel() == 1, "Return one number, the share of the patterns.")
        return float(got)

    case("three that are positive")
    got = run([1.0, 2.0, 3.0])
    require_not(
        got,
        0.0,
        "Your share is 0. The pattern that was measured is one of the eight, and counts.",
    )
    require_not(
        got,
        1 / 8,
        "1 of 8: with all signs turned the mean is as far from 0, on the other side. It counts.",
    )
    require_not(got, 2.0, "That is a number of patterns: divide by how many there are.")
    require_equal(got, 2 / 8, "Differences 1, 2, 3: of the 8 patterns +++ and −−− reach ± 2.")
    case("negative")
    require_equal(
        run([-1.0, -2.0, -3.0]), 2 / 8, "Differences −1, −2, −3: as far from 0 as 1, 2, 3."
    )
    case("mixed")
    require_equal(run([4.0, -1.0]), 1.0, "4 and −1: means of ± 1.5 and ± 2.5; 1.5 was measured.")
    require_equal(run([4.0, 1.0]), 0.5, "4 and 1: 2.5 was measured.")
    case("rounded differently")
    got = run([0.6, 0.2, 0.1, -0.3])
    require_not(
        got,
        0.5,
        "Some patterns give the same mean as the one measured, but for the last bit, in floating "
        "point. Allow for 1e-9.",
    )
    require_equal(got, 0.625, "Differences 0.6, 0.2, 0.1, −0.3.")
    case("one")
    require_equal(run([0.7]), 1.0, "One difference: both patterns are as far from 0.")
    rng = np.random.default_rng(0)
    for trial in range(25):
        case(f"random {trial}")
        found = [round(v, 1) for v in rng.normal(1, 2, int(rng.integers(2, 9))).tolist()]
        signs = np.array(list(itertools.product((-1, 1), repeat=len(found))))
        means = np.abs(signs @ np.array(found)) / len(found)
        want = float((means >= abs(np.mean(found)) - 1e-9).mean())
        require_equal(run(found), want, f"Random case {trial}: {found}.", 1e-6)
