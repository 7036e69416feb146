"""What a user hands to the model, looked at before anything is computed with it.

A batch as one tensor works, a NumPy array or bytes get a sentence. Targets are looked at where
losses are asked for by hand; training has looked at each when it was read (`data.check`), and goes
to `MaskRCNN.loss_sums` directly. A mask of 0 and 255 would make the mask loss negative, a label 0
would train the background as an object, and neither would be noticed. Chapter 10.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

_WANTED = "the model takes float RGB images [3, H, W] with values in 0..1"


def check_images(images: Sequence[Tensor] | Tensor, dtype: torch.dtype) -> Sequence[Tensor]:
    """The images one by one; a batch [N, 3, H, W] is taken apart.

    Args:
        images: what was given.
        dtype: of the model's weights.

    Raises:
        ValueError: there is none, or one is not what the model takes.
    """
    if isinstance(images, Tensor):
        if images.ndim != 4:
            raise ValueError(
                f"The images are one tensor of shape {tuple(images.shape)}; give a list of images "
                "[3, H, W], or a batch [N, 3, H, W]."
            )
        images = list(images)
    if not len(images):
        raise ValueError("No images were given; a batch needs at least one.")
    for i, image in enumerate(images):
        if not isinstance(image, Tensor):
            raise ValueError(
                f"Image {i} is a {type(image).__name__}; {_WANTED}, as torch tensors: "
                "torch.from_numpy makes one of an array."
            )
        if image.dim() != 3 or image.shape[0] != 3 or not image.is_floating_point():
            raise ValueError(
                f"Image {i} has shape {tuple(image.shape)} and type {image.dtype}; {_WANTED}."
            )
        if image.dtype == torch.float64 != dtype:
            raise ValueError(f"Image {i} is {image.dtype}, the model {dtype}: use image.float().")
        if not min(image.shape):
            raise ValueError(f"Image {i} has shape {tuple(image.shape)}: it has no pixels.")
    return images


def check_targets(
    targets: Sequence[dict[str, Tensor]],
    sizes: Sequence[tuple[int, int]],
    num_classes: int,
    keys: Sequence[str],
) -> None:
    """Raise ValueError unless losses can be computed with these targets.

    Args:
        targets: one for each image; there may be no objects.
        sizes: (height, width) of the images.
        num_classes: labels lie in 1..num_classes.
        keys: what the model's heads need beside boxes and labels: masks, keypoints.

    Raises:
        ValueError: naming the image, the object, and what to do.
    """
    if len(targets) != len(sizes):
        raise ValueError(f"{len(sizes)} images and {len(targets)} targets; give one for each.")
    for i, (target, size) in enumerate(zip(targets, sizes, strict=True)):
        for key in ("boxes", "labels", *keys):
            if not isinstance(target.get(key), Tensor):
                raise ValueError(f"The target of image {i} has no tensor '{key}'.")
            if len(target[key]) != len(target["boxes"]):
                raise ValueError(
                    f"The target of image {i} has {len(target['boxes'])} boxes and "
                    f"{len(target[key])} {key}; each object needs one of each."
                )
        _check_boxes(target["boxes"], i)
        _check_labels(target["labels"], num_classes, i)
        if "masks" in keys:
            _check_masks(target["masks"], size, i)


def _check_boxes(boxes: Tensor, image: int) -> None:
    if boxes.ndim != 2 or boxes.shape[1] != 4 or not boxes.is_floating_point():
        raise ValueError(
            f"The boxes of image {image} have shape {tuple(boxes.shape)} and type {boxes.dtype}; "
            "expected float [G, 4]."
        )
    # A reversed box is `check_target`'s to find; here it makes a loss that can be looked at.
    for g, box in enumerate(boxes.tolist()):
        if not all(abs(v) < 1e9 for v in box):
            raise ValueError(f"Box {g} of image {image} is {box}: not finite, or far too large.")


def _check_labels(labels: Tensor, num_classes: int, image: int) -> None:
    if labels.ndim != 1 or labels.dtype != torch.int64:
        raise ValueError(
            f"The labels of image {image} have shape {tuple(labels.shape)} and type "
            f"{labels.dtype}; expected int64 [G]."
        )
    for g, label in enumerate(labels.tolist()):
        if not 1 <= label <= num_classes:
            hint = ": 0 is the background, so count your classes from 1" if label == 0 else ""
            raise ValueError(
                f"The label {label} of object {g} in image {image} is not in 1..{num_classes}"
                f"{hint}."
            )


def _check_masks(masks: Tensor, size: tuple[int, int], image: int) -> None:
    if masks.ndim != 3 or tuple(masks.shape[1:]) != tuple(size):
        raise ValueError(
            f"The masks of image {image} have shape {tuple(masks.shape)}, the image is "
            f"{size[0]}×{size[1]}: expected [G, H, W], of the size that the model was given."
        )
    if masks.dtype not in (torch.uint8, torch.bool):
        raise ValueError(f"The masks of image {image} are {masks.dtype}; expected torch.uint8.")
    if masks.dtype == torch.uint8 and masks.numel() and int(masks.max()) > 1:
        raise ValueError(
            f"The masks of image {image} hold {int(masks.max())}; they must be 0 or 1: use "
            "(masks > 0).to(torch.uint8)."
        )
