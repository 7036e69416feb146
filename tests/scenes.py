"""Small images with objects to train on, real photographs, and generators to sample with."""

import os
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor


def random_scene(
    size: tuple[int, int], objects: int, generator: torch.Generator, classes: int
) -> tuple[Tensor, dict[str, Tensor]]:
    """An image of noise with ellipses as objects, and 17 joints in each."""
    height, width = size
    image = torch.rand(3, height, width, generator=generator)
    rows, columns = torch.arange(height)[:, None] + 0.5, torch.arange(width)[None, :] + 0.5
    masks, boxes = [], []
    for _ in range(objects):
        w, h = (16 + torch.rand(2, generator=generator) * 60).tolist()
        x = float(torch.rand((), generator=generator)) * (width - w)
        y = float(torch.rand((), generator=generator)) * (height - h)
        inside = ((columns - x - w / 2) / (w / 2)) ** 2 + ((rows - y - h / 2) / (h / 2)) ** 2 <= 1
        masks.append(inside)
        boxes.append([x, y, x + w, y + h])
    labels = torch.randint(1, classes + 1, (objects,), generator=generator)
    corners = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    place = torch.rand(objects, 17, 2, generator=generator)  # within the box
    joints = corners[:, None, :2] + place * (corners[:, None, 2:] - corners[:, None, :2])
    visible = torch.randint(0, 3, (objects, 17, 1), generator=generator).float()
    return image, {
        "boxes": corners,
        "labels": labels,
        "masks": torch.stack(masks).to(torch.uint8)
        if masks
        else torch.zeros((0, height, width), dtype=torch.uint8),
        "keypoints": torch.cat([joints, visible], dim=2),
    }


def generators(n: int, seed: int = 5) -> list[torch.Generator]:
    """One for each image, always the same."""
    return [torch.Generator().manual_seed(seed + i) for i in range(n)]


def photographs(n: int) -> list[Tensor]:
    """The first photographs of the test data, uint8 [3, H, W]; skips the test without it."""
    if "MRCNN_DATA" not in os.environ:
        pytest.skip("MRCNN_DATA does not name the test data")
    paths = sorted((Path(os.environ["MRCNN_DATA"]) / "coco_cc").rglob("*.jpg"))[:n]
    assert len(paths) == n
    return [pil_to_tensor(Image.open(path).convert("RGB")) for path in paths]
