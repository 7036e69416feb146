"""Presets and dialects: the published configurations value by value, and what follows."""

import dataclasses
import itertools
from typing import get_args

import pytest
import torch

from mrcnn_edu.config import ModelConfig, difference
from mrcnn_edu.errors import UserError
from mrcnn_edu.model import MaskRCNN, parameter_count
from mrcnn_edu.presets import PRESETS, R50_FPN, Dialect, preset

# detectron2: config/defaults.py, configs/Base-RCNN-{C4,FPN}.yaml and the model's own file.
DETECTRON2 = {
    "r50_fpn": {
        "rpn_top_before_nms": (2000, 1000),
        "rpn_top_after_nms": (1000, 1000),
        "rpn_smooth_l1_beta": 0.0,
        "box_smooth_l1_beta": 0.0,
        "roi_sampling_ratio": 0,
        "roi_aligned": True,
        "box_pool": 7,
        "mask_pool": 14,
        "mask_convs": 4,
        "box_samples": 512,
        "stride_in": "1x1",
        "frozen_stages": 2,
        "anchor_rounding": "none",
        "size_multiple": 32,
    },
    "r50_c4": {
        "rpn_top_before_nms": (12000, 6000),
        "rpn_top_after_nms": (2000, 1000),
        "box_pool": 14,
        "mask_convs": 0,
        "roi_sampling_ratio": 0,
        "anchor_sizes": (32, 64, 128, 256, 512),
        "size_multiple": 1,
    },
    "x101_fpn": {"stride_in": "3x3", "backbone": "resnext101_32x8d"},
    "keypoint_r50_fpn": {
        "num_classes": 1,
        "keypoints": 17,
        "rpn_top_after_nms": (1500, 1000),
        "box_smooth_l1_beta": 0.5,
        "mask_head": "none",
    },
}
# The paper's §3.1; where it is silent, Detectron's configs/12_2017_baselines.
PAPER = {
    "r50_fpn": {
        "box_samples": 512,
        "rpn_top_after_nms": (2000, 1000),
        "rpn_top_scope": "batch",
        "rpn_smooth_l1_beta": 1 / 9,
        "box_smooth_l1_beta": 1.0,
        "roi_sampling_ratio": 2,
        "roi_aligned": False,
        "border_anchors": "drop",
        "anchor_rounding": "legacy",
        "mask_paste": "torchvision",
        "stride_in": "1x1",
    },
    "r50_c4": {
        "box_samples": 64,
        "rpn_top_after_nms": (2000, 300),
        "rpn_top_scope": "image",
        "roi_sampling_ratio": 0,
    },
}


@pytest.mark.parametrize(("dialect", "expected"), [("detectron2", DETECTRON2), ("paper", PAPER)])
def test_dialects_have_the_published_values(dialect, expected):
    for name, values in expected.items():
        config = preset(name, dialect)
        for field, value in values.items():
            assert getattr(config, field) == value, (name, field)


def test_torchvision_is_the_default_dialect():
    assert preset("r50_fpn") == preset("r50_fpn", "torchvision") == ModelConfig() == R50_FPN
    assert difference(preset("r50_fpn"), preset("faster_r50_fpn")) == {"mask_head": ("fcn", "none")}


def test_what_does_not_exist_is_refused():
    with pytest.raises(UserError, match=r"no dialect 'detectron' \(did you mean 'detectron2'\?\)"):
        preset("r50_fpn", "detectron")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="tiny_fpn is this project's own"):
        preset("tiny_fpn", "paper")
    with pytest.raises(UserError, match="torchvision's own recipe"):
        preset("r50_fpn_v2", "detectron2")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"neck": "c4"}, "the same number"),
        ({"neck": "c4", "mask_head": "none", "keypoints": 17}, "another neck"),
    ],
)
def test_models_that_do_not_fit_together_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(R50_FPN, **changes)


@pytest.mark.parametrize(
    ("name", "dialect"), list(itertools.product(PRESETS, [None, *get_args(Dialect)]))
)
def test_every_model_can_be_built(name, dialect):
    """On the meta device: shapes without memory. A dialect changes no weight's shape."""
    try:
        config = preset(name, dialect)
    except UserError:
        assert dialect is not None
        assert name.startswith("tiny") or name.endswith("_v2")
        return
    with torch.device("meta"):
        model, plain = MaskRCNN(config), MaskRCNN(preset(name))
    shapes = {k: v.shape for k, v in model.state_dict().items()}
    assert shapes == {k: v.shape for k, v in plain.state_dict().items()}
    frozen = [n for n, p in model.named_parameters() if not p.requires_grad]
    assert all(n.startswith(("backbone.stem.", "backbone.stages.0.")) for n in frozen)
    assert bool(frozen) == (not name.startswith("tiny"))


# Published by torchvision with its weights, for 91 classes (2 for keypoints), background included.
PUBLISHED = {
    "r50_fpn": (90, 44_401_393),
    "r50_fpn_v2": (90, 46_359_409),
    "faster_r50_fpn": (90, 41_755_286),
    "faster_r50_fpn_v2": (90, 43_712_278),
    "keypoint_r50_fpn": (1, 59_137_258),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameter_counts_are_torchvisions(name):
    """But for its unused background rows: 4 of deltas, 1 of masks; and it counts no frozen norm."""
    classes, published = PUBLISHED[name]
    with torch.device("meta"):
        model = MaskRCNN(dataclasses.replace(PRESETS[name], num_classes=classes))
    unused = 4 * 1025 + (257 if PRESETS[name].mask_head == "fcn" else 0)
    if name == "r50_fpn_v2":
        unused = 4 * 1025 + 257
    assert parameter_count(model)["total"] == published - unused
