"""Configurations: presets, JSON, and values that cannot be."""

import dataclasses
import inspect

import pytest
from torchvision.models.detection import MaskRCNN as TorchvisionMaskRCNN

from mrcnn_edu.config import (
    ModelConfig,
    difference,
    from_json,
    to_json,
)
from mrcnn_edu.errors import UserError
from mrcnn_edu.presets import PRESETS, R50_FPN, TINY_FPN, preset
from mrcnn_edu.training.config import TrainConfig


def test_r50_fpn_has_torchvisions_numbers():
    """Against the defaults in torchvision's own signature."""
    theirs = {
        name: p.default for name, p in inspect.signature(TorchvisionMaskRCNN).parameters.items()
    }
    c = R50_FPN
    assert (c.short_side, c.long_side) == (theirs["min_size"], theirs["max_size"])
    assert (c.rpn_fg_iou, c.rpn_bg_iou) == (
        theirs["rpn_fg_iou_thresh"],
        theirs["rpn_bg_iou_thresh"],
    )
    assert c.rpn_samples == theirs["rpn_batch_size_per_image"]
    assert c.rpn_positive_fraction == theirs["rpn_positive_fraction"]
    assert c.rpn_top_before_nms == (
        theirs["rpn_pre_nms_top_n_train"],
        theirs["rpn_pre_nms_top_n_test"],
    )
    assert c.rpn_top_after_nms == (
        theirs["rpn_post_nms_top_n_train"],
        theirs["rpn_post_nms_top_n_test"],
    )
    assert c.rpn_nms_iou == theirs["rpn_nms_thresh"]
    assert c.box_fg_iou == theirs["box_fg_iou_thresh"] == theirs["box_bg_iou_thresh"]
    assert c.box_samples == theirs["box_batch_size_per_image"]
    assert c.box_positive_fraction == theirs["box_positive_fraction"]
    assert c.score_threshold == theirs["box_score_thresh"]
    assert c.detection_nms_iou == theirs["box_nms_thresh"]
    assert c.detections_per_image == theirs["box_detections_per_img"]


@pytest.mark.parametrize("config", [*PRESETS.values(), TrainConfig(), TrainConfig(steps=7)])
def test_json_round_trip(config):
    assert from_json(type(config), to_json(config)) == config


def test_configurations_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        R50_FPN.num_classes = 3  # type: ignore[misc]


def test_unknown_names_suggest_the_nearest():
    assert preset("tiny_fpn") is TINY_FPN
    with pytest.raises(
        UserError, match=r"no preset 'r50fpn' \(did you mean 'r50_fpn'\?\). Presets: "
    ):
        preset("r50fpn")
    with pytest.raises(UserError, match=r"Unknown option 'step' in a TrainConfig.*'steps'"):
        from_json(TrainConfig, '{"step": 3}')


def test_difference():
    other = dataclasses.replace(R50_FPN, num_classes=3)
    assert difference(R50_FPN, other) == {"num_classes": (80, 3)}
    assert difference(R50_FPN, R50_FPN) == {}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_classes": 0}, "at least one"),
        ({"pixel_mean": (0.5,)}, "each of R, G and B"),
        ({"anchor_sizes": (32, 64)}, "five levels"),
        ({"roi_reduce": "max", "roi_sampling_ratio": 0}, "fixed number"),
    ],
)
def test_impossible_models_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(ModelConfig(), **changes)


@pytest.mark.parametrize("changes", [{"steps": 0}, {"batch_size": 0}])
def test_impossible_schedules_are_refused(changes):
    with pytest.raises(ValueError, match="at least 1"):
        TrainConfig(**changes)
