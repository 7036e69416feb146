"""The loader's stages: all are timed, and arithmetic that holds."""

import json

import pytest
import torch

from benchmarks import loader
from benchmarks.loader import PATHS, measure, stages_of, summarise, workers_for
from mrcnn_edu.data.coco import CocoDataset
from mrcnn_edu.data.rehearsal import write_rehearsal


@pytest.fixture
def data(tmp_path):
    return CocoDataset(tmp_path / "train", write_rehearsal(tmp_path, 2, seed=0))


def test_every_stage_of_every_way_is_timed(data):
    seconds = stages_of(data, 0, 80, 133, flips=0.5)
    assert set(seconds) == {stage for stages in PATHS.values() for stage in stages}
    assert all(value >= 0 for value in seconds.values())


def test_a_flip_counts_as_often_as_training_does_it(data, monkeypatch):
    clock = iter(range(1000))  # each stage takes one second
    monkeypatch.setattr(loader.time, "process_time", lambda: next(clock))
    ms = measure(data, 80, 133, flips=0.25, rounds=2)
    assert ms.pop(loader.FLIP) == 250
    assert set(ms.values()) == {1000}


def test_workers_follow_from_milliseconds():
    assert workers_for(100, 9) == 1
    assert workers_for(100, 10) == 1
    assert workers_for(100, 25) == 3
    summary = summarise(dict.fromkeys(PATHS["for a CPU"], 2.0))
    assert summary["paths"]["for a GPU"]["ms"] == 6
    assert summary["paths"]["for a CPU"]["images_s_of_a_worker"] == 83.3
    assert summary["paths"]["for a CPU"]["projected_workers"]["200"] == 3


def test_it_writes_what_it_measured(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["loader", "--images", "2", "--rounds", "1", "--size", "80"])
    threads = torch.get_num_threads()
    try:
        loader.main()
    finally:
        torch.set_num_threads(threads)
    result = json.loads((tmp_path / "results/loader_cpu.json").read_text())
    assert {"config", "seed", "commit", "clean", "machine", "date", "ms", "paths"} <= set(result)
    assert "images/s a worker" in capsys.readouterr().out
