"""The trained model that ships with the course is small, and as good as the run it came from."""

import json
from pathlib import Path

import pytest
import torch

from mrcnn_edu.data.shapes import ShapesDataset, default_set
from mrcnn_edu.evaluation.detect import coco_results
from mrcnn_edu.evaluation.measure import measure
from mrcnn_edu.weights.checkpoint import load_model

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = ROOT / "data" / "tiny_fpn_shapes.safetensors"
RESULT = json.loads((ROOT / "results" / "course_weights.json").read_text())


def test_the_file_is_small():
    assert WEIGHTS.stat().st_size <= 3.2e6


def test_halving_the_weights_costs_no_precision():
    """AP of the shipped file here, against AP of the float32 weights where they were measured."""
    loaded = load_model(WEIGHTS)
    dataset = ShapesDataset(default_set("val"))
    assert loaded.categories.names == tuple(dataset.class_names)
    assert all(p.dtype == torch.float32 for p in loaded.model.parameters())
    results = coco_results(loaded.model, dataset, batch_size=8, progress=False)
    metrics = measure(dataset, results, loaded.model.config)
    for kind in ("box", "mask"):
        assert metrics[kind]["AP"] == pytest.approx(
            RESULT["metrics"]["float32"][kind]["AP"], abs=0.3
        )
