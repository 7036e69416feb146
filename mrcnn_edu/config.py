"""Every number of a Mask R-CNN on one page.

`ModelConfig`, a frozen dataclass, says what the network is and how it selects boxes (how it is
trained is `mrcnn_edu.training.config`'s). Its defaults are torchvision's `maskrcnn_resnet50_fpn`;
`mrcnn_edu.presets` names the other models and the habits of other code. Sizes are in pixels of the
network's input unless a name says otherwise. Chapter 10 walks through the page.
"""

import dataclasses
import difflib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from mrcnn_edu.errors import UserError

Backbone = Literal[
    "resnet50",
    "resnet101",
    "resnext101_32x8d",
    "resnext101_64x4d",
    "tiny",
    "tiny_deep",
    "tiny_grouped",
]
RoIOp = Literal["align", "pool", "warp"]

# Names that fields had in files of commit 73924fa and before.
_RENAMED = {"trunk": "backbone", "trunk_norm": "backbone_norm"}


@dataclass(frozen=True)
class ModelConfig:
    """What the network is. Class 0 is background; objects are classes 1 to `num_classes`."""

    num_classes: int = 80  # K, without the background

    # Input: RGB in 0..1, then (image − mean) / std; padded right and below to a multiple.
    short_side: int = 800  # images are scaled to it; 0 takes them as they are
    long_side: int = 1333  # … but the longer side never passes this
    resize_rounding: Literal["nearest", "floor"] = "floor"  # of the scaled size
    pixel_mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    pixel_std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    size_multiple: int = 32

    # Backbone: C2, C3, C4, C5 have strides 4, 8, 16, 32.
    backbone: Backbone = "resnet50"
    backbone_norm: Literal["frozen_bn", "batch_norm", "sync_bn", "group_norm"] = "frozen_bn"
    frozen_bn_eps: float = 1e-5  # torchvision's COCO_V1 weights want 0
    stride_in: Literal["3x3", "1x1"] = "3x3"  # of a bottleneck; the 2015 ResNet has it in the 1×1
    frozen_stages: int = 2  # the stem and res2 keep their weights

    # Neck. fpn: a pyramid P2 to P6 of equal channels, P6 is P5 subsampled. c4: C4 alone, and res5
    # runs on every RoI. c5: C5 alone, stride 32.
    neck: Literal["fpn", "c4", "c5"] = "fpn"
    fpn_channels: int = 256
    # Of the pyramid's 3×3 convolutions and of the heads' convolutions.
    head_norm: Literal["none", "frozen_bn", "batch_norm", "sync_bn", "group_norm"] = "none"
    lateral_norm: bool = True  # head_norm also behind the pyramid's 1×1 convolutions

    # Anchors: one size a level with fpn, else all sizes on the one map. Ratio: height / width.
    anchor_sizes: tuple[float, ...] = (32, 64, 128, 256, 512)
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    # none: as computed. round: corners to integers. legacy: as py-faster-rcnn enumerated them.
    anchor_rounding: Literal["none", "round", "legacy"] = "round"
    anchor_stride: Literal["map", "level"] = "map"  # image size // map size, or 4, 8, …, 64
    border_anchors: Literal["keep", "drop"] = "keep"  # in training, those that leave the image

    # Region proposal network.
    rpn_convs: int = 1
    rpn_classifier: Literal["sigmoid", "softmax"] = "sigmoid"  # one output an anchor, or two
    rpn_fg_iou: float = 0.7
    rpn_bg_iou: float = 0.3
    rpn_low_quality_matches: bool = True  # the best anchor of every object is positive
    rpn_samples: int = 256  # anchors an image in the loss
    rpn_positive_fraction: float = 0.5
    rpn_box_weights: tuple[float, float, float, float] = (1, 1, 1, 1)
    rpn_smooth_l1_beta: float = 1 / 9  # 0 is the L1 loss
    rpn_top_before_nms: tuple[int, int] = (2000, 1000)  # a level; (training, test)
    rpn_top_after_nms: tuple[int, int] = (2000, 1000)  # an image; (training, test)
    rpn_top_scope: Literal["image", "batch"] = "image"  # in training: "batch" shares the number
    rpn_nms_iou: float = 0.7
    rpn_min_size: float = 1e-3

    # RoI layer of all heads. Level of a RoI: floor(4 + log2(√area / canonical_size)).
    roi_op: RoIOp = "align"
    roi_reduce: Literal["mean", "max"] = "mean"  # of a bin's samples; RoIPool is always max
    roi_sampling_ratio: int = 2  # samples a bin side; 0: as many as the bin has cells
    roi_aligned: bool = False  # torchvision pools half a pixel off, as Detectron did
    roi_canonical_size: float = 224
    roi_level_rule: Literal["torchvision", "detectron2", "detectron"] = "torchvision"

    # Box head. With c4 it is res5, a mean and the two predictors: convs, fcs and hidden are unused.
    box_pool: int = 7  # 14 with c4, whose res5 halves it
    box_convs: int = 0  # 3×3 convolutions before the fully connected layers
    box_fcs: int = 2
    box_hidden: int = 1024
    box_class_agnostic: bool = False  # one box a RoI instead of one for each class
    box_fg_iou: float = 0.5
    box_samples: int = 512  # RoIs an image in the loss
    box_positive_fraction: float = 0.25
    box_weights: tuple[float, float, float, float] = (10, 10, 5, 5)
    box_smooth_l1_beta: float = 1 / 9  # 0 is the L1 loss

    # Mask head. fcn: convolutions, then a ×2 deconvolution, so masks are 2 · mask_pool a side; with
    # c4 it reads res5's output, 7 a side. mlp: fully connected layers. none: Faster R-CNN.
    mask_head: Literal["none", "fcn", "mlp"] = "fcn"
    mask_pool: int = 14
    mask_convs: int = 4
    mask_channels: int = 256
    mask_fcs: int = 2  # of the mlp, before its output layer
    mask_hidden: int = 1024
    # sigmoid: K masks, the true class's counts. softmax: classes compete for every pixel.
    # agnostic: one mask for all classes.
    mask_prediction: Literal["sigmoid", "softmax", "agnostic"] = "sigmoid"
    mask_targets_aligned: bool = False  # crop the true masks without the half-pixel shift
    mask_targets_binary: bool = False  # targets of 0 and 1 instead of covered fractions
    mask_paste: Literal["continuous", "torchvision"] = "torchvision"
    mask_threshold: float = 0.5

    # Keypoint head: convolutions, a ×2 deconvolution, ×2 enlargement; 0 keypoints is no head.
    keypoints: int = 0
    keypoint_pool: int = 14
    keypoint_convs: int = 8
    keypoint_channels: int = 512
    keypoint_shift: float = 0.5  # taken off joints in COCO results; torchvision's weights want 0

    # Detections.
    score_threshold: float = 0.05
    detection_nms_iou: float = 0.5
    detection_min_size: float = 1e-2
    detections_per_image: int = 100

    def __post_init__(self) -> None:
        """Refuse values that no model can be built from."""
        if self.num_classes < 1:
            raise ValueError(f"num_classes is {self.num_classes}; a detector needs at least one.")
        if not len(self.pixel_mean) == len(self.pixel_std) == 3:
            raise ValueError("pixel_mean and pixel_std hold one number for each of R, G and B.")
        if self.neck == "fpn" and len(self.anchor_sizes) != 5:
            raise ValueError(
                f"anchor_sizes has {len(self.anchor_sizes)} entries; the pyramid has five levels, "
                "P2 to P6, and each takes one size."
            )
        sampled = self.roi_op != "pool" and self.roi_reduce == "max"
        if sampled and self.roi_sampling_ratio < 1:
            raise ValueError(
                f"roi_reduce is 'max', roi_sampling_ratio is {self.roi_sampling_ratio}; the "
                "largest of a bin's samples needs a fixed number of them: give 1 or more."
            )
        if self.neck == "c4" and self.mask_head != "none" and self.mask_pool != self.box_pool:
            raise ValueError(
                f"mask_pool is {self.mask_pool} and box_pool {self.box_pool}; with neck='c4' both "
                "heads read the same RoI features, so give them the same number."
            )
        if self.keypoints and self.neck == "c4":
            raise ValueError(
                "The keypoint head reads a pyramid or C5: keypoints need another neck."
            )


def to_json(config: Any) -> str:
    """Return the configuration as a JSON object, one field a line."""
    return json.dumps(dataclasses.asdict(config), indent=1)


def from_json(cls: type, text: str) -> Any:
    """Read a configuration written by `to_json`.

    Raises:
        UserError: a field is unknown; the message names it and the nearest one that exists.
    """
    values = current_fields(json.loads(text))
    known = {field.name for field in dataclasses.fields(cls)}
    for name in values:
        if name not in known:
            raise UserError(
                f"Unknown option {name!r} in a {cls.__name__}{suggest(name, known)}. "
                "Remove it, or read the file with the version of mrcnn_edu that wrote it."
            )
    lists_to_tuples = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return cls(**lists_to_tuples)


def current_fields(values: dict[str, Any]) -> dict[str, Any]:
    """The fields of a stored configuration under the names that they have today."""
    return {_RENAMED.get(name, name): value for name, value in values.items()}


def former_fields(values: dict[str, Any]) -> dict[str, Any]:
    """The fields of a configuration under the names that they had in commit 73924fa."""
    former = {new: old for old, new in _RENAMED.items()}
    return {former.get(name, name): value for name, value in values.items()}


def difference(a: Any, b: Any) -> dict[str, tuple]:
    """Return the fields in which two configurations differ: name -> (value in a, value in b)."""
    first, second = dataclasses.asdict(a), dataclasses.asdict(b)
    return {k: (first[k], second[k]) for k in first if first[k] != second[k]}


def suggest(name: str, known: Iterable[str]) -> str:
    """The known name nearest to a mistyped one, as the end of a sentence; empty if none is."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
