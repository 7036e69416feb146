"""The one command, on a small scale: what it leaves behind, and that it goes on where it was."""

import json
import os
import signal
from collections import Counter

import pytest
from PIL import Image

import mrcnn_edu.cli.quickstart
from mrcnn_edu.cli.quickstart import quickstart
from mrcnn_edu.data.shapes import ShapesConfig, ShapesDataset, generate
from mrcnn_edu.training.config import TrainConfig
from mrcnn_edu.training.stop import TrainingInterruptedError
from mrcnn_edu.weights.checkpoint import load_model
from tests.fake_data import small_config

FILES = {
    "config.json",
    "curves.png",
    "detections.json",
    "detections.png",
    "metrics.jsonl",
    "model.safetensors",
    "run.lock",
    "state.pt",
    "summary.json",
}
SCHEDULE = TrainConfig(steps=3, batch_size=2)


@pytest.fixture(autouse=True)
def small_sets(monkeypatch):
    config = ShapesConfig(image_size=64)
    sets = generate(config, 4, seed=1), generate(config, 6, seed=2)
    monkeypatch.setattr(mrcnn_edu.cli.quickstart, "default_sets", lambda: sets)


def test_it_leaves_a_complete_folder_and_goes_no_further(tmp_path, capsys):
    metrics = quickstart(tmp_path, SCHEDULE, small_config())
    printed = capsys.readouterr().out
    assert {p.name for p in tmp_path.iterdir()} == FILES
    assert set(metrics) == {"box", "mask", "seconds"}
    for word in ("AP50", "Three things to try next", "predict", "train --steps", "data check"):
        assert word in printed
    assert load_model(tmp_path).step == 3
    for name in ("detections.png", "curves.png"):
        with Image.open(tmp_path / name) as picture:
            assert picture.width > 600
    results = json.loads((tmp_path / "detections.json").read_text())
    assert all(
        {"image_id", "category_id", "bbox", "score", "segmentation"} <= r.keys() for r in results
    )
    assert json.loads((tmp_path / "config.json").read_text())["train"]["steps"] == 3
    lines = (tmp_path / "metrics.jsonl").read_bytes()
    again = quickstart(tmp_path, SCHEDULE, small_config())
    assert (tmp_path / "metrics.jsonl").read_bytes() == lines
    assert {k: again[k] for k in ("box", "mask")} == {k: metrics[k] for k in ("box", "mask")}


def test_ctrl_c_leaves_a_usable_checkpoint_and_the_next_run_goes_on(tmp_path, monkeypatch):
    calls = Counter()
    load_image = ShapesDataset.load_image

    def interrupt(self, index):
        calls["images"] += 1
        if calls["images"] == 3:  # in the second step
            os.kill(os.getpid(), signal.SIGINT)
        return load_image(self, index)

    monkeypatch.setattr(ShapesDataset, "load_image", interrupt)
    with pytest.raises(TrainingInterruptedError, match="after step 2 of 3"):
        quickstart(tmp_path, SCHEDULE, small_config())
    assert {"metrics.jsonl", "model.safetensors", "run.lock", "state.pt"} == {
        p.name for p in tmp_path.iterdir()
    }
    assert load_model(tmp_path).step == 2
    quickstart(tmp_path, SCHEDULE, small_config())
    assert {p.name for p in tmp_path.iterdir()} == FILES
    steps = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").open()]
    assert steps == [1, 2, 3]
