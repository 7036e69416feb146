"""Intervals equal SciPy's, and verdicts follow their rule."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mrcnn_edu.ablations.intervals import (
    FLOOR,
    T_95,
    Difference,
    paired_difference,
    unpaired_difference,
    verdict,
)

APS = st.floats(0, 100)


@pytest.mark.parametrize("degrees", range(1, 31))
def test_quantiles_are_student_s(degrees):
    assert T_95[degrees - 1] == pytest.approx(stats.t.ppf(0.975, degrees), abs=6e-4)


@given(st.lists(st.tuples(APS, APS), min_size=2, max_size=12))
def test_the_interval_is_scipy_s_paired_one(pairs):
    better, worse = (dict(enumerate(values)) for values in zip(*pairs, strict=True))
    found = paired_difference(better, worse)
    differences = np.array([a - b for a, b in pairs])
    assert found.mean == pytest.approx(differences.mean(), abs=1e-9)
    if differences.std() > 1e-6:
        expected = stats.ttest_rel(*zip(*pairs, strict=True)).confidence_interval()
        # The table of quantiles has three decimals.
        margin = 6e-4 * differences.std(ddof=1)
        assert found.low == pytest.approx(expected.low, abs=margin + 1e-6)
        assert found.high == pytest.approx(expected.high, abs=margin + 1e-6)


def test_only_seeds_that_both_arms_have_are_compared():
    found = paired_difference({0: 10.0, 1: 12.0, 7: 99.0}, {1: 10.0, 0: 9.0, 3: 0.0})
    assert (found.seeds, found.mean) == (2, 1.5)
    with pytest.raises(ValueError, match="no seed in common"):
        paired_difference({0: 1.0}, {1: 1.0})


def test_one_seed_has_no_interval():
    found = paired_difference({4: 3.0}, {4: 1.0})
    assert found == Difference(1, 2.0, -math.inf, math.inf)
    assert verdict(found, 1.0) == "undecided"


@pytest.mark.parametrize(
    ("low", "high", "seeds", "expected"),
    [
        (0.1, 5.0, 5, "reproduced"),
        (0.1, 5.0, 2, "undecided"),  # by rule
        (-0.1, 5.0, 5, "undecided"),
        (-3.0, 0.4, 5, "not reproduced"),  # even half of the smallest effect is excluded
        (-3.0, 0.6, 5, "undecided"),
        (-3.0, -1.0, 2, "undecided"),
        (0.1, 0.4, 5, "reproduced"),  # small, but of the claimed sign
    ],
)
def test_the_verdict_follows_its_rule(low, high, seeds, expected):
    assert verdict(Difference(seeds, (low + high) / 2, low, high), smallest=1.0) == expected


@pytest.mark.parametrize(
    ("low", "high", "seeds", "expected"),
    [
        (-0.9, 0.9, 5, "reproduced"),
        (0.2, 0.9, 5, "reproduced"),  # a difference, but none that matters
        (-0.9, 0.9, 2, "undecided"),  # by rule
        (-0.5, 1.1, 5, "undecided"),
        (0.5, 3.0, 5, "undecided"),
        (1.1, 3.0, 5, "not reproduced"),
        (-3.0, -1.1, 5, "not reproduced"),
    ],
)
def test_arms_are_alike_when_no_difference_that_matters_is_left(low, high, seeds, expected):
    found = Difference(seeds, (low + high) / 2, low, high)
    assert verdict(found, smallest=1.0, alike=True) == expected


def test_arms_that_have_learned_nothing_are_not_compared():
    for difference, alike in (
        (Difference(5, 0.5, 0.4, 0.6), False),
        (Difference(5, 0, 0, 0), True),
    ):
        assert verdict(difference, 1.0, alike, level=FLOOR) == "reproduced"
        assert verdict(difference, 1.0, alike, level=FLOOR - 0.1) == "undecided"


def test_without_pairs_the_interval_is_student_s_of_two_samples():
    rng = np.random.default_rng(1)
    for seeds in (2, 3, 5, 9, 16):
        first, second = (dict(enumerate(rng.normal(30, 3, seeds).tolist())) for _ in "ab")
        expected = stats.ttest_ind(list(first.values()), list(second.values()), equal_var=True)
        interval = expected.confidence_interval()
        found = unpaired_difference(first, second)
        assert (found.low, found.high) == pytest.approx((interval.low, interval.high), abs=2e-3)
    assert unpaired_difference({0: 3.0, 4: 9.0}, {0: 1.0}) == paired_difference({0: 3.0}, {0: 1.0})
