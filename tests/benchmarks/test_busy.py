"""The measurement on a busy machine: a fresh process trains, and the arithmetic holds."""

from benchmarks.busy import OURS, SETTINGS, busy, seconds_per_step, summarise


def test_a_fresh_process_trains_beside_others_that_end():
    with busy(1) as (child,):
        assert child.poll() is None
        assert 0 < seconds_per_step(SETTINGS[OURS], 2) < 60
    assert child.poll() is not None


def test_speeds_are_medians_over_rounds():
    found = {
        "libgomp's default": {"undisturbed": [0.1, 0.1, 9], "beside_two": [0.8, 0.8, 0.1]},
        OURS: {"undisturbed": [0.102, 9, 0.102], "beside_two": [0.204, 0.204, 3]},
    }
    rows = summarise(found)
    assert rows["libgomp's default"]["kept_speed"] == 0.125
    assert rows[OURS] == {
        "undisturbed_seconds": 0.102,
        "beside_two_seconds": 0.204,
        "kept_speed": 0.5,
        "slower_than_default": 0.02,
    }
