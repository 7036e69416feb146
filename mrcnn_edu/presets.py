"""The models of the paper by name, each in the dialect of the code it should equal.

A preset says what is built (backbone, neck, heads). A dialect says how one code base does what
papers leave open: rounding, alignment, counts of proposals, β. `preset("r50_fpn", "detectron2")` is
detectron2's R50-FPN. The sources of every value are detectron2's `configs/`, torchvision's
`models/detection/` and, for the paper, its text and then Detectron's configurations. What each
difference costs is in the book's appendix B. Chapter 10.

Three things stay ours in every dialect. Box arithmetic never adds 1; Detectron's did, which comes
to the same for anchors, deltas, IoU and clipping, but pools RoIs one pixel smaller. Images are RGB
in 0..1; other pixel orders and scales are folded into the first convolution when weights are read.
Class 0 is background.
"""

import dataclasses
from typing import Any, Literal, get_args

from mrcnn_edu.config import ModelConfig, suggest
from mrcnn_edu.errors import UserError

Dialect = Literal["torchvision", "detectron2", "paper"]

R50_FPN = ModelConfig()
C4 = dataclasses.replace(R50_FPN, neck="c4", box_pool=14, mask_convs=0)
C5 = dataclasses.replace(R50_FPN, neck="c5")
FASTER = dataclasses.replace(R50_FPN, mask_head="none")
KEYPOINT = dataclasses.replace(FASTER, num_classes=1, keypoints=17)
# torchvision's second recipe (Li et al. 2021): normalisation everywhere, deeper heads.
R50_FPN_V2 = dataclasses.replace(
    R50_FPN,
    backbone_norm="batch_norm",
    head_norm="batch_norm",
    rpn_convs=2,
    box_convs=4,
    box_fcs=1,
)

# For training from scratch on a CPU. These belong to no dialect but their own.
TINY_FPN = ModelConfig(
    num_classes=10,
    short_side=192,  # Shapes has 128: enlarged, an object of 8 pixels covers nine cells of P2
    long_side=192,
    resize_rounding="nearest",
    backbone="tiny",
    backbone_norm="group_norm",
    frozen_stages=0,  # there is nothing pretrained to keep
    fpn_channels=48,
    head_norm="group_norm",
    lateral_norm=False,
    anchor_sizes=(18, 36, 72, 120, 168),
    rpn_samples=128,
    rpn_top_before_nms=(400, 400),
    rpn_top_after_nms=(200, 200),
    roi_canonical_size=96,
    roi_aligned=True,
    box_convs=2,
    box_fcs=1,
    box_hidden=320,
    box_samples=32,
    mask_convs=2,
    mask_channels=48,
    mask_targets_aligned=True,
    mask_paste="continuous",
)
TINY_C4 = dataclasses.replace(TINY_FPN, neck="c4", box_pool=14, mask_convs=0)
TINY_C5 = dataclasses.replace(TINY_FPN, neck="c5")

PRESETS: dict[str, ModelConfig] = {
    "r50_c4": C4,
    "r101_c4": dataclasses.replace(C4, backbone="resnet101"),
    "r50_c5": C5,
    "r50_fpn": R50_FPN,
    "r101_fpn": dataclasses.replace(R50_FPN, backbone="resnet101"),
    "x101_fpn": dataclasses.replace(R50_FPN, backbone="resnext101_32x8d"),
    "x101_64x4d_fpn": dataclasses.replace(R50_FPN, backbone="resnext101_64x4d"),
    "r50_fpn_v2": R50_FPN_V2,
    "faster_r50_fpn": FASTER,
    "faster_r50_fpn_v2": dataclasses.replace(R50_FPN_V2, mask_head="none"),
    "keypoint_r50_fpn": KEYPOINT,
    "tiny_fpn": TINY_FPN,
    "tiny_c4": TINY_C4,
    "tiny_c5": TINY_C5,
}

# How each code base does what every model has. torchvision's values are ModelConfig's defaults.
_DETECTRON2: dict[str, Any] = {
    "resize_rounding": "nearest",
    "anchor_rounding": "none",
    "anchor_stride": "level",
    "rpn_smooth_l1_beta": 0.0,
    "rpn_min_size": 0.0,
    "roi_sampling_ratio": 0,
    "roi_aligned": True,
    "roi_level_rule": "detectron2",
    "box_smooth_l1_beta": 0.0,
    "mask_targets_aligned": True,
    "mask_targets_binary": True,
    "mask_paste": "continuous",
    "detection_min_size": 0.0,
}
_PAPER: dict[str, Any] = {
    "resize_rounding": "nearest",
    "anchor_rounding": "legacy",
    "anchor_stride": "level",
    "border_anchors": "drop",
    "rpn_min_size": 0.0,
    "roi_sampling_ratio": 2,
    "roi_level_rule": "detectron",
    "box_smooth_l1_beta": 1.0,
    "mask_targets_aligned": True,  # polygons were cut exactly
    "mask_targets_binary": True,
    "detection_min_size": 0.0,
}
# Proposals before NMS (a level) and after it (an image) in training and test, and RoIs an image.
_ONE_MAP: dict[str, Any] = {"rpn_top_before_nms": (12000, 6000), "size_multiple": 1}
_COUNTS: dict[tuple[Dialect, bool], dict[str, Any]] = {
    ("detectron2", True): {"rpn_top_after_nms": (1000, 1000)},
    ("detectron2", False): _ONE_MAP | {"rpn_top_after_nms": (2000, 1000)},
    ("paper", True): {"rpn_top_after_nms": (2000, 1000), "rpn_top_scope": "batch"},
    ("paper", False): _ONE_MAP
    | {"rpn_top_after_nms": (2000, 300), "box_samples": 64, "roi_sampling_ratio": 0},
}


def preset(name: str, dialect: Dialect | None = None) -> ModelConfig:
    """Return the model configuration called `name`.

    Args:
        name: a key of `PRESETS`.
        dialect: whose constants to take. By default torchvision's; the tiny models have their own
            and take no other.

    Raises:
        UserError: there is no such preset or dialect, or the preset belongs to one code base only;
            the message says what there is.
    """
    if name not in PRESETS:
        raise UserError(
            f"There is no preset {name!r}{suggest(name, PRESETS)}. Presets: {', '.join(PRESETS)}."
        )
    config = PRESETS[name]
    if dialect is None:
        return config
    if dialect not in get_args(Dialect):
        raise UserError(
            f"There is no dialect {dialect!r}{suggest(dialect, get_args(Dialect))}. "
            f"Dialects: {', '.join(get_args(Dialect))}."
        )
    if name.startswith("tiny"):
        raise UserError(
            f"The preset {name} is this project's own and has no dialects; leave it out."
        )
    if dialect == "torchvision":
        return config
    if name.endswith("_v2"):
        raise UserError(f"{name} is torchvision's own recipe and exists in no other dialect.")
    habits = _DETECTRON2 if dialect == "detectron2" else _PAPER
    changes = habits | _COUNTS[dialect, config.neck == "fpn"]
    if config.backbone in ("resnet50", "resnet101"):
        changes["stride_in"] = "1x1"  # the ImageNet weights of MSRA; ResNeXt has it in the 3×3
    if config.keypoints and dialect == "detectron2":
        changes |= {"rpn_top_after_nms": (1500, 1000), "box_smooth_l1_beta": 0.5}
    return dataclasses.replace(config, **changes)
