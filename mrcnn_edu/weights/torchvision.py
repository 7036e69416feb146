"""torchvision's detectors: their names, their class rows, their older files.

torchvision counts classes from a background of 0 and gives every class, background included, a row
of box deltas and a mask. Its COCO models have 91 rows: COCO's ids go up to 90, and ten of them were
never used. We have K classes in the order of their ids, and no box or mask for the background. So
reading drops rows that no image ever trained as an object; writing puts zeros there, and in the
class logits of unused ids a bias so low that softmax gives them nothing. Chapter 13.
"""

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

from mrcnn_edu.config import ModelConfig
from mrcnn_edu.errors import UserError
from mrcnn_edu.weights.layout import Prefixes, Source, blocks, put

COCO_ROWS = 91
NEVER = -1e4  # exp(−1e4) is 0 in float32; −inf would turn 0 · inf into NaN
_CLASSES = "roi_heads.box_predictor.cls_score.bias"

# What the files of 2018 to 2022 call what torchvision calls otherwise now.
_OLDER = (
    (re.compile(r"(backbone\.fpn\.(?:inner|layer)_blocks\.\d+)\.(weight|bias)"), r"\1.0.\2"),
    (re.compile(r"rpn\.head\.conv\.(weight|bias)"), r"rpn.head.conv.0.0.\1"),
)
_OLDER_MASK = re.compile(r"roi_heads\.mask_head\.mask_fcn(\d)\.(weight|bias)")


def categories() -> dict[int, str]:
    """COCO's 80 classes, id to name, in the order of the ids."""
    from torchvision.models.detection import MaskRCNN_ResNet50_FPN_Weights as Weights

    names = Weights.COCO_V1.meta["categories"]
    return {i: n for i, n in enumerate(names) if n not in ("__background__", "N/A")}


def current_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict with the names of today's torchvision."""
    return {_current(name): value for name, value in tensors.items()}


def class_rows(tensors: Mapping[str, Tensor]) -> int:
    """How many classes a file tells apart, background included; 0 if it does not say."""
    bias = tensors.get(_CLASSES)
    return len(bias) if bias is not None else 0


def num_classes_of(rows: int) -> int:
    """K of a file with so many class rows: 91 are COCO's 80 classes."""
    return len(categories()) if rows == COCO_ROWS else rows - 1


def sources(config: ModelConfig, names: Iterable[str], rows: int) -> dict[str, Source]:
    """Where each of our tensors is in a torchvision state dict.

    Args:
        config: of our model.
        names: of our tensors.
        rows: class rows of the file, background included; 0 for K + 1. 91 rows and K = 80 are read
            by COCO's ids; with K = 90 every id is a class of its own and nothing is dropped.

    Raises:
        UserError: torchvision has no model like ours.
    """
    if config.neck != "fpn" or config.mask_head == "mlp" or config.rpn_classifier != "sigmoid":
        raise UserError(
            f"torchvision has no model with neck={config.neck!r}, mask_head={config.mask_head!r} "
            f"and rpn_classifier={config.rpn_classifier!r}; its weights fit the FPN presets."
        )
    rename = Prefixes(_prefixes(config))
    rows = rows or config.num_classes + 1
    ids = list(categories()) if (rows, config.num_classes) == (COCO_ROWS, 80) else None
    ids = ids or list(range(1, config.num_classes + 1))
    found = {}
    for name in names:
        theirs = rename(name)
        if theirs is None:
            raise UserError(f"torchvision's models have no part like our {name}.")
        if name.startswith("box_head.classes."):
            fill = NEVER if name.endswith("bias") else 0.0
            found[name] = Source(theirs, (0, *ids), rows, fill=fill)
        elif name.startswith("box_head.deltas."):
            found[name] = Source(theirs, blocks(ids, 4), 4 * rows)
        elif name.startswith("mask_head.masks."):
            found[name] = Source(theirs, tuple(ids), rows)
        else:
            found[name] = Source(theirs)
    return found


def to_torchvision(
    weights: Mapping[str, Tensor], config: ModelConfig, rows: int = 0
) -> dict[str, Tensor]:
    """Our weights as a state dict that torchvision's model of the same kind loads.

    Its detections are then ours. Build that model with `frozen_bn_eps` as the ε of its norms.

    Args:
        weights: our state dict.
        config: of our model.
        rows: class rows to write: K + 1 by default; 91 writes COCO's 80 classes to their ids.

    Returns:
        the state dict. Rows of box deltas and masks that we do not have (the background, ids that
        COCO never used) are zero; the logit of an unused id is a bias of −10,000.

    Raises:
        UserError: torchvision has no such model.
    """
    rows = rows or config.num_classes + 1
    return put(weights, sources(config, weights, rows))


def _prefixes(config: ModelConfig) -> dict[str, str]:
    first_fc = config.box_convs + 1  # behind the convolutions and a Flatten
    fcs = {
        f"box_head.fcs.{i}.": (
            f"roi_heads.box_head.{first_fc + 2 * i}."
            if config.box_convs
            else f"roi_heads.box_head.fc{6 + i}."
        )
        for i in range(config.box_fcs)
    }
    convs = config.keypoint_convs
    return {
        "backbone.stem.0.": "backbone.body.conv1.",
        "backbone.stem.1.": "backbone.body.bn1.",
        **{f"backbone.stages.{i}.": f"backbone.body.layer{i + 1}." for i in range(4)},
        "neck.fpn.lateral.": "backbone.fpn.inner_blocks.",
        "neck.fpn.output.": "backbone.fpn.layer_blocks.",
        **{f"rpn.convs.{i}.": f"rpn.head.conv.{i}.0." for i in range(config.rpn_convs)},
        "rpn.objectness.": "rpn.head.cls_logits.",
        "rpn.deltas.": "rpn.head.bbox_pred.",
        "box_head.convs.": "roi_heads.box_head.",
        **fcs,
        "box_head.classes.": "roi_heads.box_predictor.cls_score.",
        "box_head.deltas.": "roi_heads.box_predictor.bbox_pred.",
        "mask_head.convs.": "roi_heads.mask_head.",
        "mask_head.deconv.": "roi_heads.mask_predictor.conv5_mask.",
        "mask_head.masks.": "roi_heads.mask_predictor.mask_fcn_logits.",
        **{
            f"keypoint_head.convs.{i}.0.": f"roi_heads.keypoint_head.{2 * i}." for i in range(convs)
        },
        "keypoint_head.deconv.": "roi_heads.keypoint_predictor.kps_score_lowres.",
    }


def _current(name: str) -> str:
    for pattern, replacement in _OLDER:
        name = pattern.sub(replacement, name)
    return _OLDER_MASK.sub(
        lambda m: f"roi_heads.mask_head.{int(m[1]) - 1}.0.{m[2]}", name
    )  # they counted from 1
