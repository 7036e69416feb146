"""What is measured while training: repeatable losses, AP, a picture."""

import dataclasses
import json

import pytest
import torch
from PIL import Image

from mrcnn_edu.data.subset import Subset
from mrcnn_edu.evaluation.detect import coco_results
from mrcnn_edu.evaluation.measure import coco_metrics
from mrcnn_edu.model import MaskRCNN
from mrcnn_edu.processes import Processes
from mrcnn_edu.training.config import TrainConfig
from mrcnn_edu.training.run_log import read_evaluations
from mrcnn_edu.training.train import train
from mrcnn_edu.training.validation import score, validate, validation_losses
from tests.fake_data import small_config, small_shapes

ALONE = Processes(0, 1, "cpu")


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return MaskRCNN(small_config()).train()


def test_an_evaluation_is_repeatable_and_leaves_the_model_in_its_mode(model, tmp_path):
    data = small_shapes(3)
    first = validate(model, data, TrainConfig(), 7, tmp_path, ALONE)
    again = validate(model, data, TrainConfig(flip_probability=1), 7, tmp_path, ALONE)
    assert model.training
    assert {k: v for k, v in first.items() if k != "seconds"} == {
        k: v for k, v in again.items() if k != "seconds"
    }
    assert first["step"] == 7
    results = coco_results(model, data, progress=False)
    assert first["mask"] == coco_metrics(data.ground_truth(), results, "segm")
    with Image.open(tmp_path / "detections_0000007.png") as picture:
        assert picture.width > 100


def test_losses_are_means_over_images(model):
    model.eval()
    data = small_shapes(4)
    halves = [
        validation_losses(model, Subset(data, part), TrainConfig(), ALONE)
        for part in ([0, 1], [2, 3])
    ]
    whole = validation_losses(model, data, TrainConfig(), ALONE)
    for name, value in whole.items():
        assert value == pytest.approx((halves[0][name] + halves[1][name]) / 2, abs=2e-6)
    parts = [v for k, v in whole.items() if k != "loss"]
    assert whole["loss"] == pytest.approx(sum(parts), abs=1e-5)


def test_the_better_of_two():
    assert score({"mask": {"AP": 3.0}, "box": {"AP": 9.0}}) == 3
    assert score({"box": {"AP": 9.0}}) == 9
    assert score({"mask": {"AP": None}, "box": {"AP": 9.0}}) == 9
    assert score({}) == float("-inf")


def test_seeds_choose_the_rois(model):
    data = small_shapes(2)
    one = validation_losses(model, data, TrainConfig(), ALONE)
    other = validation_losses(model, data, dataclasses.replace(TrainConfig(), seed=1), ALONE)
    assert one != other


@pytest.mark.parametrize(
    ("heads", "kinds"),
    [
        ({"mask_head": "none"}, {"box"}),
        (
            {"keypoints": 17, "keypoint_convs": 1, "keypoint_channels": 16},
            {"box", "mask", "keypoints"},
        ),
    ],
)
def test_a_run_measures_what_its_model_has_heads_for(tmp_path, heads, kinds):
    """And goes on where a kill came between a checkpoint and its evaluation."""
    data, config = small_shapes(6), small_config(**heads)
    schedule = TrainConfig(steps=2, batch_size=2, warmup_steps=1, evaluate_every=1)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        train(config, schedule, data, folder, progress=False, validation=data)
    lines = read_evaluations(whole)
    assert [line["step"] for line in lines] == [1, 2]
    for line in lines:
        assert {k for k, v in line.items() if isinstance(v, dict)} == kinds
        assert all(line[kind]["AP"] is not None for kind in kinds)
    (killed / "evaluations.jsonl").write_text(json.dumps(lines[0]) + "\n")
    train(config, schedule, data, killed, progress=False, validation=data)
    again = read_evaluations(killed)
    assert [line["step"] for line in again] == [1, 2]
    assert {k: again[1][k] for k in kinds} == {k: lines[1][k] for k in kinds}
