"""detectron2's model zoo: its names, and what its numbers mean.

Four things differ from ours. Images are BGR in 0..255, so the channels of the first convolution are
turned round and mean and standard deviation become RGB in 0..1. The background is the last class,
not the first. Boxes and masks have K rows, as ours. And where a cell has several anchor sizes (C4),
detectron2 goes through them size by size, we as torchvision ratio by ratio. Chapter 13.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from mrcnn_edu.config import ModelConfig
from mrcnn_edu.errors import UserError
from mrcnn_edu.weights.layout import Prefixes, Source, blocks

_CLASSES = "roi_heads.box_predictor.cls_score.bias"
# RGB in 0..255. MSRA's ResNets were trained without dividing; the ResNeXt divides.
MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)
_BGR = (2, 1, 0)


def num_classes_of(tensors: Mapping[str, Tensor]) -> int:
    """K of a file; 0 if it does not say."""
    bias = tensors.get(_CLASSES)
    return len(bias) - 1 if bias is not None else 0


def pixel_statistics(backbone: str, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """`pixel_mean` and `pixel_std` of our configuration for images in 0..1.

    Args:
        backbone: of our configuration.
        tensors: the file; where it holds `pixel_mean` and `pixel_std` (BGR, in 0..255) these
            count, otherwise those of the published configurations.
    """
    divides = backbone.startswith("resnext")
    values: dict[str, tuple[float, ...]] = {
        "pixel_mean": MEAN,
        "pixel_std": STD if divides else (1.0, 1.0, 1.0),
    }
    for name in values:
        if name in tensors:
            values[name] = tuple(float(v) for v in tensors[name].flatten().flip(0))
    return {name: tuple(v / 255 for v in rgb) for name, rgb in values.items()}


def sources(config: ModelConfig, names: Iterable[str]) -> dict[str, Source]:
    """Where each of our tensors is in a detectron2 state dict with `num_classes` classes.

    Raises:
        UserError: detectron2's model zoo has no model like ours.
    """
    background = (config.num_classes, *range(config.num_classes))
    ratios, sizes = len(config.anchor_ratios), len(config.anchor_sizes)
    cell = [size * ratios + ratio for ratio in range(ratios) for size in range(sizes)]
    rename = Prefixes(_prefixes(config))
    found = {}
    for name in names:
        theirs = rename(name)
        if theirs is None:
            raise UserError(f"detectron2's published models have no part like our {name}.")
        theirs = block_names(theirs)
        if name == "backbone.stem.0.weight":
            found[name] = Source(theirs, _BGR, 3, dim=1)
        elif name.startswith("box_head.classes."):
            found[name] = Source(theirs, background, len(background))
        elif config.neck != "fpn" and name.startswith("rpn.objectness."):
            found[name] = Source(theirs, tuple(cell), len(cell))
        elif config.neck != "fpn" and name.startswith("rpn.deltas."):
            found[name] = Source(theirs, blocks(cell, 4), 4 * len(cell))
        else:
            found[name] = Source(theirs)
    return found


def backbone_prefixes(backbone: str, res5: str = "") -> dict[str, str]:
    """Our beginnings of names in a backbone and theirs; `block_names` does the rest."""
    return {
        "backbone.stem.0.": f"{backbone}stem.conv1.",
        "backbone.stem.1.": f"{backbone}stem.conv1.norm.",
        **{f"backbone.stages.{i}.": f"{backbone}res{i + 2}." for i in range(4)},
        "res5.": f"{res5}res5.",
    }


def block_names(name: str) -> str:
    """Rename the layers of a residual block: a norm belongs to its convolution."""
    name = re.sub(r"\.bn(\d)\.", r".conv\1.norm.", name)
    return name.replace(".downsample.0.", ".shortcut.").replace(".downsample.1.", ".shortcut.norm.")


def ignored(name: str) -> bool:
    """Whether a tensor of theirs may be left over."""
    return "anchor_generator.cell_anchors" in name or name in ("pixel_mean", "pixel_std")


def _prefixes(config: ModelConfig) -> dict[str, str]:
    backbone = "backbone.bottom_up." if config.neck == "fpn" else "backbone."
    levels, head = range(4), "proposal_generator.rpn_head."
    mask, keypoint = "roi_heads.mask_head.", "roi_heads.keypoint_head."
    return {
        **backbone_prefixes(backbone, "roi_heads."),
        **{f"neck.fpn.lateral.{i}.0.": f"backbone.fpn_lateral{i + 2}." for i in levels},
        **{f"neck.fpn.output.{i}.0.": f"backbone.fpn_output{i + 2}." for i in levels},
        "rpn.convs.0.": f"{head}conv.",
        "rpn.objectness.": f"{head}objectness_logits.",
        "rpn.deltas.": f"{head}anchor_deltas.",
        **{f"box_head.fcs.{i}.": f"roi_heads.box_head.fc{i + 1}." for i in range(config.box_fcs)},
        "box_head.classes.": "roi_heads.box_predictor.cls_score.",
        "box_head.deltas.": "roi_heads.box_predictor.bbox_pred.",
        **{f"mask_head.convs.{i}.0.": f"{mask}mask_fcn{i + 1}." for i in range(config.mask_convs)},
        "mask_head.deconv.": f"{mask}deconv.",
        "mask_head.masks.": f"{mask}predictor.",
        **{
            f"keypoint_head.convs.{i}.0.": f"{keypoint}conv_fcn{i + 1}."
            for i in range(config.keypoint_convs)
        },
        "keypoint_head.deconv.": f"{keypoint}score_lowres.",
    }
