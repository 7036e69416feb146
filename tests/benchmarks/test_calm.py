"""The scatter between seeds: both profiles train one model, and old results are still found."""

import pytest

from benchmarks.calm import STORED, summarise, the_run
from mrcnn_edu.ablations.engine import read


def test_two_recipes_of_one_experiment():
    old, new = the_run("cpu", 3), the_run("calm", 3)
    assert old.model == new.model
    assert old.shapes == new.shapes
    assert old.train.steps == new.train.steps
    assert (old.train.optimizer, new.train.optimizer) == ("adamw", "muon")
    assert old.name != new.name


def test_what_was_measured_with_the_old_recipe_is_found():
    assert all(read(the_run("cpu", seed), STORED) is not None for seed in range(5))


def test_mean_and_deviation_over_seeds():
    runs = {"calm": {"0": {"box_AP": 10, "mask_AP": 1}, "1": {"box_AP": 10, "mask_AP": 3}}}
    (row,) = summarise(runs).values()
    assert row["seeds"] == 2
    assert (row["box_AP_mean"], row["box_AP_deviation"]) == (10, 0)
    assert row["mask_AP_mean"] == 2
    assert row["mask_AP_deviation"] == pytest.approx(2**0.5, abs=0.01)
