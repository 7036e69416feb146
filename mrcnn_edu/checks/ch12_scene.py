"""What the checks of chapter 12 try answers on: a small picture with a target. Chapter 12."""

import torch
from torch import Tensor

Target = dict[str, Tensor]


def person(width: int = 40, height: int = 30, seed: int = 0) -> tuple[Tensor, Target]:
    """An image with two objects, the first a person: no symmetry anywhere."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(3, height, width, generator=generator)
    boxes = torch.tensor([[2.0, 3, 12, 20], [5.5, 10.25, 31, 28.5]])
    masks = torch.zeros(2, height, width, dtype=torch.uint8)
    masks[0, 3:20, 2:12], masks[1, 11:28, 6:31] = 1, 1
    masks &= (torch.rand(masks.shape, generator=generator) < 0.8).to(torch.uint8)
    points = torch.rand(2, 17, 3, generator=generator) * torch.tensor([width, height, 0.0])
    points[0, :, 2] = 2
    points[0, 5:9, 2] = 1  # labelled, though hidden
    points[0, 4] = 0  # the right ear is not labelled
    points[1] = 0  # not a person
    target = {
        "boxes": boxes,
        "labels": torch.tensor([3, 1]),
        "masks": masks,
        "keypoints": points,
        "image_id": torch.tensor(7),
    }
    return image, target
