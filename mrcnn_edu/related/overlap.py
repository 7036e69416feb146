"""What goes wrong with masks where two objects of one class overlap, in numbers.

Mask R-CNN's paper says of FCIS that it "exhibits systematic errors on overlapping instances and
creates spurious edges" (§2) and shows pictures (Figure 6). These are measures of it, for two
objects A and B, the mask predicted for A in A's box, and for B in B's.

The mechanism: a position-sensitive score depends on the class, the map's pixel, and the *cell of
the RoI* in which that pixel lies. A pixel that lies in the same cell of two RoIs of one class gets
the same verdict in both, and if it belongs to one of the objects one of the verdicts is wrong.
Chapter 18.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class Spill(NamedTuple):
    """Wrong verdicts in pixels, and the pixels that could be wrong."""

    leaked: int  # pixels of B taken for A
    of_other: int  # pixels of B in A's box
    lost: int  # pixels of A, in B's box too, not taken for A
    of_own: int  # pixels of A in B's box


def spill(predicted: Tensor, own: Tensor, other: Tensor, box: Tensor, other_box: Tensor) -> Spill:
    """How much of B the mask of A takes, and how much of A it misses where B's box is too.

    `leaked / of_other` is the leak, `lost / of_own` the loss.

    Args:
        predicted: of A, [H, W], boolean.
        own, other: the visible pixels of A and of B, [H, W], boolean.
        box, other_box: of A and of B, [4].
    """
    of_other = other & inside(box, predicted.shape)
    of_own = own & inside(other_box, predicted.shape)
    return Spill(
        int((predicted & of_other).sum()),
        int(of_other.sum()),
        int((of_own & ~predicted).sum()),
        int(of_own.sum()),
    )


def inside(box: Tensor, size: tuple[int, ...]) -> Tensor:
    """The pixels whose centre lies in a box [4]: [H, W], boolean."""
    x1, y1, x2, y2 = box.tolist()
    row, column = torch.arange(size[0]) + 0.5, torch.arange(size[1]) + 0.5
    return ((row >= y1) & (row < y2))[:, None] & ((column >= x1) & (column < x2))


def colliding_share(dx: float, dy: float, cells: int) -> float:
    """Of the pixels that two RoIs of one size share, those with the same cell index in both.

    For RoIs shifted by dx and dy, in units of their width and height, the shared part is
    (1 − |dx|) (1 − |dy|) of one, and in it the same cell is met over (1 − k |dx|)₊ (1 − k |dy|)₊ of
    one. With k = 1 the two are equal: every shared pixel collides.

    Args:
        dx, dy: the shift.
        cells: k.

    Returns:
        0 to 1; of RoIs that share nothing 0.
    """
    share = 1.0
    for shift in (abs(dx), abs(dy)):
        share *= max(0.0, 1 - cells * shift) / (1 - shift) if shift < 1 else 0.0
    return share


def contour(mask: Tensor) -> Tensor:
    """The pixels of a mask that touch its outside with a side: [H, W], boolean."""
    outside = F.pad(~mask, (1, 1, 1, 1), value=True)
    touched = outside[:-2, 1:-1] | outside[2:, 1:-1] | outside[1:-1, :-2] | outside[1:-1, 2:]
    return mask & touched


def false_edge(predicted: Tensor, truths: Tensor, reach: int = 2) -> float:
    """Contour of a predicted mask that is nowhere near a true one, as a share of the true contour.

    Args:
        predicted: [H, W], boolean, of the first of the objects.
        truths: [G, H, W], boolean, the visible pixels of all objects.
        reach: pixels, to all sides.
    """
    true = torch.stack([contour(t) for t in truths])  # [G, H, W]
    near = F.max_pool2d(true.any(dim=0)[None].float(), 2 * reach + 1, 1, reach)[0] > 0
    return int((contour(predicted) & ~near).sum()) / max(1, int(true[0].sum()))


def seam_steps(probabilities: Tensor, interior: Tensor, cells: int) -> tuple[Tensor, Tensor]:
    """Steps |Δp| between neighbours in an object's interior: across cell lines, and beside them.

    The ratio of their means is the seam ratio; 1 is no seam.

    Args:
        probabilities: [P, P] of one RoI; P a multiple of k.
        interior: [P, P], boolean: bins that lie well inside the object.
        cells: k.

    Returns:
        the steps across cell lines, and all others, one dimension each.
    """
    size = len(probabilities)
    line = torch.arange(1, size) % (size // cells) == 0  # [P − 1]: between bin p − 1 and p
    across, beside = [], []
    for p, both in ((probabilities, interior), (probabilities.T, interior.T)):
        step = (p[:, 1:] - p[:, :-1]).abs()  # [P, P − 1]
        within = both[:, 1:] & both[:, :-1]
        across.append(step[within & line])
        beside.append(step[within & ~line])
    return torch.cat(across), torch.cat(beside)
