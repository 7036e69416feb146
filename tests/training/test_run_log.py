"""What a run tells: lines that a kill cannot break, evaluations, TensorBoard if it is there."""

import importlib
import json

import pytest

from mrcnn_edu.errors import UserError
from mrcnn_edu.training.run_log import (
    STEP_LOG,
    RunLog,
    drop_lines_after,
    read_evaluations,
    read_metrics,
)

STEP = {"step": 4, "lr": 0.1, "box": 1.5, "loss": 2.5, "seconds": 0.2, "waited": 0.05}


def test_lines_of_lost_steps_are_dropped(tmp_path):
    path = tmp_path / STEP_LOG
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"st')
    drop_lines_after(path, 2)
    assert [m["step"] for m in read_metrics(path)] == [1, 2]
    with RunLog(tmp_path, first=1, steps=9, progress=False):
        assert [m["step"] for m in read_metrics(path)] == [1]


def test_the_bar_shows_losses_input_and_what_is_left(tmp_path, capsys):
    with RunLog(tmp_path, first=3, steps=9) as log:
        log.step(STEP)
        log.step({**STEP, "step": 5, "box": None})  # a step that was left out
        log.evaluation({"step": 5, "loss": 1.25, "box": {"AP": 12.34}, "mask": {"AP": None}})
        log.evaluation({"step": 5, "loss": 1.5, "box": {"AP": 2.0}, "keypoints": {"AP": 3.0}})
    printed = capsys.readouterr()
    assert "loss=2.500" in printed.err
    assert "input=25%" in printed.err
    assert "5/9" in printed.err
    assert "step 5: validation loss 1.2500, box AP 12.3" in printed.out + printed.err
    assert "loss 1.5000, box AP 2.0, keypoints AP 3.0" in printed.out + printed.err
    assert read_metrics(tmp_path / STEP_LOG)[1]["box"] is None
    assert read_evaluations(tmp_path)[0]["box"] == {"AP": 12.34}


def test_other_processes_write_nothing(tmp_path):
    with RunLog(tmp_path, 0, 9, silent=True) as log:
        log.step(STEP)
        log.evaluation({"step": 4, "loss": 1.0})
    assert list(tmp_path.iterdir()) == []
    assert read_evaluations(tmp_path) == []


def test_a_full_disk_is_told(tmp_path):
    (tmp_path / STEP_LOG).mkdir()
    with RunLog(tmp_path / "other", 0, 9, progress=False) as log:
        log.folder = tmp_path
        with pytest.raises(UserError, match=r"Cannot write .*metrics.jsonl.*Free some space"):
            log.step(STEP)


def test_without_tensorboard_there_is_one_line(tmp_path, monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(UserError, match="pip install tensorboard"):
        RunLog(tmp_path, 0, 9, progress=False, tensorboard=True)
    RunLog(tmp_path, 0, 9, progress=False)


def test_tensorboard_gets_every_number(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with RunLog(tmp_path, 0, 9, progress=False, tensorboard=True) as log:
        log.step(STEP)
        log.evaluation({"step": 4, "loss": 1.0, "box": {"AP": 12.5, "APs": None}})
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert events.Scalars("metrics/box")[0].value == 1.5
    assert events.Scalars("evaluations/box/AP")[0].step == 4
    assert "evaluations/box/APs" not in events.Tags()["scalars"]


def test_lines_are_json(tmp_path):
    with RunLog(tmp_path, 0, 9, progress=False) as log:
        log.step(STEP)
    assert [json.loads(line) for line in (tmp_path / STEP_LOG).read_text().splitlines()] == [STEP]
