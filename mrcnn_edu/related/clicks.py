"""A simulated user: what is meant, where it is clicked, and where the next click goes.

Nobody clicks on 11 million images, so SAM's training makes the clicks up: first a random pixel of
the object or a shaky box around it, then pixels where the answer is still wrong. A measurement
clicks more carefully, in the middle of the largest mistake. SAM appendix A, "Training algorithm";
Chapter 19.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from mrcnn_edu.related.prompts import BESIDE, BOTTOM_RIGHT, ON, TOP_LEFT, Prompts

_BOX_NOISE = 0.1  # of the box's side


def touching_groups(masks: Tensor) -> Tensor:
    """The group of each object: those that touch, directly or through others, share a number.

    Two masks touch where a pixel of one lies beside a pixel of the other, diagonals included. A
    click on an object of a group may mean the object or the group.

    Args:
        masks: [G, H, W], 0 or 1.

    Returns:
        [G], numbered from 0 in the order of each group's first object.
    """
    if not len(masks):
        return torch.zeros(0, dtype=torch.long)
    grown = F.max_pool2d(masks.float()[None], 3, stride=1, padding=1)[0]  # [G, H, W]
    linked = grown.flatten(1) @ masks.float().flatten(1).T > 0  # [G, G]
    linked = linked | linked.T
    for _ in range(max(1, len(masks)).bit_length()):  # paths twice as long each time
        linked = linked.float() @ linked.float() > 0
    first = linked.float().argmax(dim=1)  # [G], index of the group's first object
    return torch.unique(first, return_inverse=True)[1]


def random_pixels(region: Tensor, generator: torch.Generator) -> Tensor:
    """One pixel of each region, each as likely as the others: [B, 2], centres as shares.

    Args:
        region: [B, M, M], 0 or 1; of an empty one any pixel.
        generator: of all that is drawn.
    """
    height, width = region.shape[1:]
    chance = region.flatten(1).float()
    chance = torch.where(chance.sum(dim=1, keepdim=True) > 0, chance, 1.0)
    return _centres(torch.multinomial(chance, 1, generator=generator)[:, 0], height, width)


def middle_pixels(region: Tensor) -> Tensor:
    """The pixel of each region that lies deepest in it, in steps of a king: [B, 2], as shares.

    Args:
        region: [B, M, M], 0 or 1; beyond the border of the map everything is outside.
    """
    height, width = region.shape[1:]
    left = region.float()[:, None]  # [B, 1, M, M]
    depth = torch.zeros_like(left)
    while left.any():
        depth += left
        left = -F.max_pool2d(F.pad(-left, (1, 1, 1, 1)), 3, stride=1)  # a layer comes off
    return _centres(depth.flatten(1).argmax(dim=1), height, width)


def first_prompts(targets: Tensor, as_box: Tensor, generator: torch.Generator) -> Prompts:
    """The first prompt of each object: a random click on it, or a box that is a little off.

    Args:
        targets: [B, M, M], 0 or 1.
        as_box: [B], whether the object gets a box.
        generator: of all that is drawn.
    """
    count = len(targets)
    corners = mask_boxes(targets)  # [B, 4], as shares
    sides = (corners[:, 2:] - corners[:, :2]).repeat(1, 2)  # [B, 4]
    noise = torch.randn(count, 4, generator=generator) * _BOX_NOISE
    shaky = (corners + sides * noise.clamp(-0.25, 0.25)).clamp(0, 1).reshape(count, 2, 2)
    click = random_pixels(targets, generator)  # [B, 2]
    click = torch.stack([click, torch.zeros_like(click)], dim=1)  # [B, 2, 2]
    points = torch.where(as_box[:, None, None], shaky, click)
    labels = torch.where(
        as_box[:, None], torch.tensor([TOP_LEFT, BOTTOM_RIGHT]), torch.tensor([ON, -1])
    )
    return Prompts(points, labels)


def correction(
    mask: Tensor, target: Tensor, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """The next click: where the answer is wrong. Its label says what is true there.

    Args:
        mask: [B, M, M], the answer, 0 or 1.
        target: [B, M, M], 0 or 1.
        generator: for a random pixel of the mistakes. Without it, the pixel deepest in what is
            missing or in what is too much, whichever goes deeper.

    Returns:
        points [B, 2] as shares and labels [B]. An answer without mistakes is clicked on the object.
    """
    wrong = (mask > 0.5) != (target > 0.5)  # [B, M, M]
    wrong = torch.where(wrong.flatten(1).any(dim=1)[:, None, None], wrong, target > 0.5)
    points = middle_pixels(wrong) if generator is None else random_pixels(wrong, generator)
    height, width = target.shape[1:]
    column, row = (points * points.new_tensor([width, height])).long().unbind(dim=1)  # [B]
    inside = target[torch.arange(len(target)), row, column] > 0.5
    return points, torch.where(inside, ON, BESIDE)


def mask_boxes(masks: Tensor) -> Tensor:
    """The tight box of each mask [B, M, M], as shares of the map's sides: [B, 4] xyxy.

    The masks must not be empty.
    """
    ends = []
    for axis in (1, 2):  # over rows: columns that are used; then over columns
        used = masks.amax(dim=axis) > 0.5  # [B, M]
        size = used.shape[1]
        first = used.float().argmax(dim=1)
        last = size - used.flip(1).float().argmax(dim=1)
        ends.append((first / size, last / size))
    (x1, x2), (y1, y2) = ends
    return torch.stack([x1, y1, x2, y2], dim=1)


def _centres(index: Tensor, height: int, width: int) -> Tensor:
    """Centres of pixels, counted row by row, as shares of the map's sides: [B, 2]."""
    x, y = index % width + 0.5, index // width + 0.5
    return torch.stack([x / width, y / height], dim=1)
