"""Detect objects in images of any size, without a data set. Chapter 08."""

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from mrcnn_edu.data.transforms import resize, to_float
from mrcnn_edu.nn.detector import Detector
from mrcnn_edu.record import Detections


@torch.no_grad()
def predict(model: Detector, images: Sequence[Tensor]) -> list[Detections]:
    """Detect objects in images of any size; boxes come back in pixels of those images.

    Args:
        model: any; the mode it is in is restored afterwards.
        images: each uint8 [3, H, W], RGB.

    Returns:
        for each image its detections. Masks stay M×M inside their boxes; see
        `mrcnn_edu.masks.paste`.
    """
    was_training = model.training
    model.eval()
    try:
        device = next(model.parameters()).device
        resized = [
            resize(
                to_float(x),
                model.config.short_side,
                model.config.long_side,
                model.config.resize_rounding,
            ).to(device)
            for x in images
        ]
        found = model.detect(model(resized)).detections
    finally:
        model.train(was_training)
    return [
        _in_original_pixels(d, small.shape, image.shape)
        for d, small, image in zip(found, resized, images, strict=True)
    ]


def _in_original_pixels(d: Detections, small: torch.Size, original: torch.Size) -> Detections:
    x, y = original[2] / small[2], original[1] / small[1]
    joints = d.keypoints
    if joints is not None:
        joints = joints * torch.tensor([x, y, 1.0], device=joints.device)  # [D, J, 3]
    boxes = d.boxes * torch.tensor([x, y, x, y], device=d.boxes.device)  # [D, 4]
    return dataclasses.replace(d, boxes=boxes, keypoints=joints)
