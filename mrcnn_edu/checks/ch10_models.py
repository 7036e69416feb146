"""Small models that find something, and what is wrong with them, for the checks of chapter 10."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch

from mrcnn_edu.config import ModelConfig
from mrcnn_edu.model import MaskRCNN
from mrcnn_edu.nn.detections import select_detections
from mrcnn_edu.nn.mask_head import MaskHead, predicted_class_masks
from mrcnn_edu.record import Detections, Record

_SMALL: dict[str, Any] = {
    "num_classes": 3,
    "short_side": 64,
    "long_side": 96,
    "box_hidden": 32,
    "rpn_top_before_nms": (80, 60),
    "rpn_top_after_nms": (40, 24),
    "score_threshold": 0.3,
    "detections_per_image": 12,
}


def small(base: ModelConfig, seed: int) -> tuple[MaskRCNN, Record]:
    """A model of random weights that finds something in each of two images, and its record."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = MaskRCNN(dataclasses.replace(base, **_SMALL)).eval()
        images = [torch.rand(3, 64, 96), torch.rand(3, 64, 64)]
    with torch.no_grad():
        model.box_head.classes.weight.mul_(40)
        model.box_head.deltas.weight.mul_(20)
        assert isinstance(model.mask_head, MaskHead)
        model.mask_head.masks.weight.mul_(4)
        return model, model(images)


def masks_on_proposals(
    model: MaskRCNN, record: Record, wanted: Sequence[Detections]
) -> list[Detections]:
    """What comes out when the mask head reads the first proposals instead of the final boxes."""
    proposals = [p.boxes for p in model.propose(record, training=False)]
    rois = [p[: len(f.labels)] for p, f in zip(proposals, wanted, strict=True)]
    counts = [len(r) for r in rois]
    assert model.mask_head is not None
    logits = model.mask_head(model.roi_features(record, rois, model.config.mask_pool))
    labels = torch.cat([f.labels[: len(r)] for f, r in zip(wanted, rois, strict=True)])
    masks = predicted_class_masks(logits, labels).split(counts)
    return [dataclasses.replace(f, masks=m) for f, m in zip(wanted, masks, strict=True)]


def again(model: MaskRCNN, record: Record, first: Sequence[Detections]) -> list[Detections]:
    """What the box head makes of its own boxes."""
    c, rois = model.config, [f.boxes for f in first]
    logits, deltas = model.box_head(model.roi_features(record, rois, c.box_pool))
    counts = [len(r) for r in rois]
    return [
        select_detections(of_image, d, boxes, size, c)
        for of_image, d, boxes, size in zip(
            logits.split(counts), deltas.split(counts), rois, record.image_sizes, strict=True
        )
    ]
