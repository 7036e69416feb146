"""Every number of a Mask R-CNN on one page.

:class:`ModelConfig`, a frozen dataclass, says what the network is and how it selects boxes (how it
is trained is :mod:`mrcnn_edu.train_config`'s). Its defaults are torchvision's
``maskrcnn_resnet50_fpn``, the preset ``r50_fpn``. The preset ``tiny_fpn`` is the 1.5-million
parameter model that a laptop trains from scratch in minutes. Sizes are in pixels of the network's
input unless a name says otherwise. Chapter 10 walks through the page.
"""

import dataclasses
import difflib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from mrcnn_edu.errors import UserError


@dataclass(frozen=True)
class ModelConfig:
    """What the network is. Class 0 is background; objects are classes 1 to ``num_classes``."""

    num_classes: int = 80  # K, without the background

    # Input: RGB in 0..1, then (image − mean) / std; padded right and below to a multiple.
    short_side: int = 800  # images are scaled to it; 0 takes them as they are
    long_side: int = 1333  # … but the longer side never passes this
    pixel_mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    pixel_std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    size_multiple: int = 32

    # Trunk and feature pyramid. Levels P2, P3, … have strides 4, 8, …; P6 is P5 subsampled.
    trunk: Literal["resnet50", "tiny"] = "resnet50"
    trunk_norm: Literal["frozen_bn", "group_norm"] = "frozen_bn"
    frozen_bn_eps: float = 1e-5  # torchvision's COCO_V1 weights want 0
    frozen_stages: int = 2  # the stem and res2 keep their weights
    fpn_channels: int = 256
    head_norm: Literal["none", "group_norm"] = "none"  # in the pyramid and in the heads' convs

    # Anchors: one size a level, three shapes (height / width) a size.
    anchor_sizes: tuple[float, ...] = (32, 64, 128, 256, 512)
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    round_anchors: bool = True

    # Region proposal network.
    rpn_fg_iou: float = 0.7
    rpn_bg_iou: float = 0.3
    rpn_low_quality_matches: bool = True  # the best anchor of every object is positive
    rpn_samples: int = 256  # anchors an image in the loss
    rpn_positive_fraction: float = 0.5
    rpn_box_weights: tuple[float, float, float, float] = (1, 1, 1, 1)
    rpn_smooth_l1_beta: float = 1 / 9
    rpn_top_before_nms: tuple[int, int] = (2000, 1000)  # a level; (training, test)
    rpn_top_after_nms: tuple[int, int] = (2000, 1000)  # an image; (training, test)
    rpn_nms_iou: float = 0.7
    rpn_min_size: float = 1e-3

    # RoIAlign, shared by both heads. Level of a RoI: floor(4 + log2(√area / canonical_size)).
    roi_canonical_size: float = 224
    roi_sampling_ratio: int = 2
    roi_aligned: bool = False  # torchvision pools half a pixel off, as Detectron did

    # Box head.
    box_pool: int = 7
    box_convs: int = 0  # 3×3 convolutions before the fully connected layers
    box_fcs: int = 2
    box_hidden: int = 1024
    box_fg_iou: float = 0.5
    box_samples: int = 512  # RoIs an image in the loss
    box_positive_fraction: float = 0.25
    box_weights: tuple[float, float, float, float] = (10, 10, 5, 5)
    box_smooth_l1_beta: float = 1 / 9

    # Mask head: convolutions, then a ×2 deconvolution, so masks are 2 · mask_pool a side.
    mask_pool: int = 14
    mask_convs: int = 4
    mask_channels: int = 256
    mask_targets_aligned: bool = False  # crop the true masks without the half-pixel shift
    mask_paste: Literal["continuous", "torchvision"] = "torchvision"
    mask_threshold: float = 0.5

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
        if len(self.anchor_sizes) != 5:
            raise ValueError(
                f"anchor_sizes has {len(self.anchor_sizes)} entries; the pyramid has five levels, "
                "P2 to P6, and each takes one size."
            )


R50_FPN = ModelConfig()

TINY_FPN = ModelConfig(
    num_classes=10,
    short_side=192,  # Shapes has 128: enlarged, an object of 8 pixels covers nine cells of P2
    long_side=192,
    trunk="tiny",
    trunk_norm="group_norm",
    frozen_stages=0,  # there is nothing pretrained to keep
    fpn_channels=48,
    head_norm="group_norm",
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

PRESETS = {"r50_fpn": R50_FPN, "tiny_fpn": TINY_FPN}


def preset(name: str) -> ModelConfig:
    """Return the model configuration called ``name``.

    Raises:
        UserError: there is no preset of that name; the message lists those there are.
    """
    if name not in PRESETS:
        raise UserError(
            f"There is no preset {name!r}{suggest(name, PRESETS)}. Presets: {', '.join(PRESETS)}."
        )
    return PRESETS[name]


def to_json(config: Any) -> str:
    """Return the configuration as a JSON object, one field a line."""
    return json.dumps(dataclasses.asdict(config), indent=1)


def from_json(cls: type, text: str) -> Any:
    """Read a configuration written by :func:`to_json`.

    Raises:
        UserError: a field is unknown; the message names it and the nearest one that exists.
    """
    values = json.loads(text)
    known = {field.name for field in dataclasses.fields(cls)}
    for name in values:
        if name not in known:
            raise UserError(
                f"Unknown option {name!r} in a {cls.__name__}{suggest(name, known)}. "
                "Remove it, or read the file with the version of mrcnn_edu that wrote it."
            )
    lists_to_tuples = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return cls(**lists_to_tuples)


def difference(a: Any, b: Any) -> dict[str, tuple]:
    """Return the fields in which two configurations differ: name -> (value in a, value in b)."""
    first, second = dataclasses.asdict(a), dataclasses.asdict(b)
    return {k: (first[k], second[k]) for k in first if first[k] != second[k]}


def suggest(name: str, known: Iterable[str]) -> str:
    """The known name nearest to a mistyped one, as the end of a sentence; empty if none is."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
