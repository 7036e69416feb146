"""Checks of chapter 16, in training: which cell, the loss, and the order of joints in a mirror.

Those of decoding stand in `mrcnn_edu.checks.ch16_decode`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from mrcnn_edu.checks.ch16_decode import check_decode, check_joints, check_two_views
from mrcnn_edu.checks.common import (
    CheckFailedError,
    case,
    check,
    inputs_kept,
    numbers,
    parts,
    require,
    require_equal,
    require_not,
    tensor,
)
from mrcnn_edu.data.shapes_outline import KEYPOINTS
from mrcnn_edu.data.transforms import MIRRORED_JOINTS
from mrcnn_edu.nn.keypoint_head import keypoint_targets

__all__ = [
    "check_cells",
    "check_decode",
    "check_joints",
    "check_keypoint_loss",
    "check_mirror_order",
    "check_two_views",
]


# ---------------------------------------------------------------- 16.1


@check("16.1")
def check_cells(answer: Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]) -> None:
    """Check the cell of each joint, and which joints count."""
    answer = inputs_kept(answer)

    def cells_of(keypoints: Tensor, boxes: Tensor, size: int) -> tuple[Tensor, Tensor]:
        cells, counts = parts(answer(keypoints, boxes, size), "the cells", "which joints count")
        tensor(cells, torch.int64)
        return cells, tensor(counts, torch.bool)

    def one(x: float, y: float, seen: float = 2.0, box: Sequence[float] = (10, 20, 18, 28)) -> Any:
        """The cell of one joint among 4 × 4, or −1 where it does not count."""
        cells, counts = cells_of(
            torch.tensor([[[x, y, seen]]]), torch.tensor([[float(v) for v in box]]), 4
        )
        wanted = [[1, 1], [1, 1]]
        shapes = [list(cells.shape), list(counts.shape)]
        require(shapes == wanted, f"One RoI, one joint: expected shapes [1, 1], yours: {shapes}.")
        return cells.item() if counts.item() else -1

    case("one joint in a box of 8 × 8 pixels, 4 × 4 cells")
    got = one(15.5, 21.2)
    for wrong, message in (
        (
            8,
            "Row and column are swapped: a cell's number is row · M + column, and x tells the "
            "column.",
        ),
        (3, "Round down: a cell reaches from c up to c + 1, its number is the floor."),
        (7, "Round down: a cell reaches from c up to c + 1, its number is the floor."),
        (-1, "The joint lies well inside the box, but does not count: is the corner subtracted?"),
    ):
        require_not(got, wrong, message)
    require_equal(got, 2, "x 15.5 and y 21.2 in the box 10, 20, 18, 28: column 2, row 0.")
    require_equal(one(11, 27), 12, "x 11 and y 27: column 0, row 3.")

    case("the border of the box")
    require_equal(one(10, 20), 0, "Exactly on the upper left corner: the first cell.")
    require_not(
        one(18, 24.5),
        -1,
        "A joint exactly on the right edge is lost: its column came out as M. It belongs to the "
        "last one.",
    )
    require_equal(one(18, 24.5), 11, "Exactly on the right edge: the last column.")
    require_equal(one(14.5, 28), 14, "Exactly on the lower edge: the last row.")
    require_equal(one(18, 28), 15, "Exactly on the lower right corner: the last cell.")
    for x, y, where in ((9.6, 24, "left of"), (14, 19.5, "above")):
        require_not(
            one(x, y),
            one(max(x, 10), max(y, 20)),
            f"A joint {where} the box counts, in the first cell: −0.2 rounds down to −1, but "
            "`.long()` and `int()` cut it to 0. Round with floor first.",
        )
        require_equal(one(x, y), -1, f"A joint a fifth of a cell {where} the box.")
    for x, y, where in ((18.1, 24, "right of"), (14, 28.1, "below")):
        message = f"A joint {where} the box was moved into it; outside it does not count."
        require_not(one(x, y), one(min(x, 18), min(y, 28)), message)
        require_equal(one(x, y), -1, f"A joint just {where} the box.")
    require_equal(one(40, 24), -1, "A joint far right of the box.")

    case("visibility")
    require_not(one(15.5, 21.2, 1.0), -1, "v = 1 is labelled, though hidden: it counts, too.")
    require_equal(one(15.5, 21.2, 1.0), 2, "A hidden joint, v = 1.")
    require_equal(one(15.5, 21.2, 0.0), -1, "v = 0 is not labelled: it does not count.")

    case("a tall box")
    tall = (10.0, 20.0, 18.0, 52.0)
    require_not(
        one(15.5, 45, box=tall), -1, "The height of a cell is the box's height / M, not its width."
    )
    require_equal(one(15.5, 45, box=tall), 14, "A box of 8 × 32 pixels: column 2, row 3.")
    wide = (10.0, 20.0, 42.0, 28.0)
    require_equal(one(35, 21.2, box=wide), 3, "A box of 32 × 8 pixels: column 3, row 0.")

    case("cells of joints that do not count")
    keypoints = torch.tensor([[[17.0, 27, 0], [30, 24, 2], [11, 21, 2]], [[60, 60, 2]] * 3])
    boxes = torch.tensor([[10.0, 20, 18, 28], [50, 50, 66, 66]])
    cells, counts = cells_of(keypoints, boxes, 4)
    require_equal(counts.long(), [[0, 0, 1], [1, 1, 1]], "Which joints count, of two RoIs.")
    require_equal(cells, [[0, 0, 0], [10, 10, 10]], "The cell is 0 where a joint does not count.")

    case("no RoI")
    cells, counts = cells_of(torch.zeros(0, 17, 3), torch.zeros(0, 4), 56)
    require_equal(cells, torch.zeros(0, 17), "No positive RoI: cells [0, J].")
    require_equal(counts.long(), torch.zeros(0, 17), "No positive RoI: counts [0, J].")

    generator = torch.Generator().manual_seed(0)
    for number in range(3):
        case(f"random {number}")
        keypoints, boxes = _random_people(generator, 12, 7, 14)
        cells, counts = cells_of(keypoints, boxes, 14)
        wanted = keypoint_targets(keypoints, boxes, 14)
        require_equal(counts.long(), wanted[1].long(), "Which joints count, of 12 random RoIs.")
        require_equal(cells, wanted[0], "The cells of 12 random RoIs.")


def _random_people(
    generator: torch.Generator, rois: int, joints: int, size: int
) -> tuple[Tensor, Tensor]:
    """Joints inside and outside of random boxes, none within rounding of a cell's edge."""
    corner = 100 * torch.rand(rois, 1, 2, generator=generator)
    extent = 5 + 90 * torch.rand(rois, 1, 2, generator=generator)
    eighths = torch.randint(-8, 8 * size + 8, (rois, joints, 2), generator=generator)
    place = corner + (eighths + 0.5) / 8 * extent / size  # [R, J, 2]
    seen = torch.randint(3, (rois, joints, 1), generator=generator).float()
    return torch.cat([place, seen], dim=2), torch.cat([corner, corner + extent], dim=2)[:, 0]


# ---------------------------------------------------------------- 16.2


def _loss(logits: Tensor, cells: Tensor, counts: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(2)[counts], cells[counts])


@check("16.2")
def check_keypoint_loss(answer: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    """Check the keypoint loss: cross-entropy over the cells, the mean over joints that count."""
    answer = inputs_kept(answer)
    case("one RoI, three joints, 2 × 2 cells")
    logits = torch.tensor([[[[2.0, -1], [0, 1]], [[-1, 0.5], [3, 0]], [[0, 2], [1, 0]]]])
    cells, counts = torch.tensor([[1, 3, 0]]), torch.tensor([[True, True, False]])
    want = _loss(logits, cells, counts)
    got = answer(logits, cells, counts)
    every = torch.ones_like(counts)
    require_not(
        got,
        _loss(logits, cells, every),
        "The third joint does not count, and its cell 0 is no answer: leave it out.",
    )
    require_not(got, want * 2, "That is the sum over the joints that count; the loss is the mean.")
    require_not(got, want * 2 / 3, "Divide by the joints that count, 2, not by all 3.")
    require_not(got, want / 4, "The softmax makes one number of all M² cells: no division by M².")
    hot = F.one_hot(cells, 4).float()[counts]
    require_not(
        got,
        F.binary_cross_entropy_with_logits(logits.flatten(2)[counts], hot),
        "Those are sigmoids, a yes or no for each cell. Here the M² cells of a joint compete.",
    )
    require_not(
        got,
        F.cross_entropy(logits.flatten(2)[counts].softmax(dim=1), cells[counts]),
        "The softmax was taken twice: cross_entropy has one inside.",
    )
    require_not(
        got,
        _loss(logits.transpose(2, 3), cells, counts),
        "Rows and columns are swapped: a cell's number is row · M + column.",
    )
    over_joints = -logits.flatten(2).log_softmax(dim=1)  # [R, J, M · M]
    require_not(
        got,
        over_joints.gather(2, cells[..., None])[..., 0][counts].mean(),
        "The softmax runs over the joints. It is the cells of one joint that compete.",
    )
    require_equal(got, want, "Two joints count, with true cells 1 and 3.")

    case("two RoIs, one with a single joint that counts")
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 5, 3, 3, generator=generator)
    cells = torch.randint(9, (2, 5), generator=generator)
    counts = torch.tensor([[True] * 5, [False, False, True, False, False]])
    got = answer(logits, cells, counts)
    by_roi = torch.stack([_loss(*(x[r : r + 1] for x in (logits, cells, counts))) for r in (0, 1)])
    require_not(
        got,
        by_roi.mean(),
        "That is the mean over RoIs of their means. Each joint that counts has the same weight.",
    )
    require_equal(got, _loss(logits, cells, counts), "Six joints count, of two RoIs.")

    case("the gradient")
    logits.requires_grad_()
    loss = tensor(answer(logits, cells, counts))
    require(
        loss.requires_grad,
        "Your loss has no gradient: .item(), .detach() or torch.no_grad() cut it off.",
    )
    loss.backward()
    pushed = (logits.detach().flatten(2).softmax(dim=2) - F.one_hot(cells, 9)) / 6
    wanted = torch.where(counts[..., None], pushed, 0.0).unflatten(2, (3, 3))
    got = torch.zeros_like(wanted) if logits.grad is None else logits.grad
    require_equal(got, wanted, "The gradient of a joint that counts is (p − one-hot) / count.")

    case("large logits")
    large = torch.tensor([[[[300.0, 0], [0, 0]]]])
    got = numbers(answer(large, torch.tensor([[1]]), torch.tensor([[True]])))
    require(
        bool(torch.isfinite(got).all()),
        "A true cell 300 below the best one gives infinity: log(softmax(x)) underflows. Use a "
        "function that takes logits.",
    )
    require_equal(got, 300.0, "A true cell that is 300 below the best one.")

    for name, rois in (("no joint counts", 2), ("no RoI", 0)):
        case(name)
        logits = torch.zeros(rois, 5, 3, 3, requires_grad=True)
        nothing = torch.zeros(rois, 5, dtype=torch.int64)
        got = tensor(answer(logits, nothing, nothing > 0))
        require(
            not torch.isnan(got.detach()).any(),
            f"Where {name} the loss is NaN: a mean over nothing. Sum, then divide by at least 1.",
        )
        require_equal(got, 0.0, f"Where {name} the loss is 0.")
        require(
            got.requires_grad,
            f"Where {name} your loss is a plain 0: keep it connected to the logits, or "
            "`backward` fails.",
        )

    case("random")
    logits = 3 * torch.randn(6, 17, 14, 14, generator=generator)
    cells = torch.randint(196, (6, 17), generator=generator)
    counts = torch.rand(6, 17, generator=generator) < 0.7
    want = _loss(logits, cells, counts)
    require_equal(answer(logits, cells, counts), want, "Six RoIs of 17 joints.", 1e-5)


# ---------------------------------------------------------------- 16.4


@check("16.4")
def check_mirror_order(answer: Callable[[list[str]], Sequence[int]]) -> None:
    """Check the order of joints in a mirror, from their names."""
    answer = inputs_kept(answer)

    def order_of(names: list[str]) -> list[int]:
        got = answer(names)
        require(got is not None, "Your function returned None. Does it end with a return?")
        require(
            not isinstance(got, dict) and not any(isinstance(v, str) for v in got),
            "Names came back. The order is numbers: entry i says which old joint comes to place i.",
        )
        require(
            not any(isinstance(v, tuple | list) for v in got),
            "Pairs came back. The order is one number for each joint, [0, 2, 1] for a nose and "
            "two eyes.",
        )
        return [int(v) for v in got]

    def require_order(names: list[str], want: list[int], message: str) -> None:
        got = order_of(names)
        require(got == want, f"{message}\nNames:    {names}\nYours:    {got}\nExpected: {want}")

    case("a nose and two eyes")
    face = ["nose", "left_eye", "right_eye"]
    got = order_of(face)
    for wrong, message in (
        ([0, 1, 2], "Nothing has changed places: left_eye and right_eye should."),
        ([1, 3, 2], "Count from 0: the order is used as an index."),
        ([0, 2, 2], "Both eyes come from the right one: right has to become left, too."),
        ([0, 1, 1], "Both eyes come from the left one: left has to become right, too."),
        ([2, 1, 0], "That is the list backwards. Only partners change places."),
    ):
        require(got != wrong, message)
    require_order(face, [0, 2, 1], "The eyes change places, the nose stays.")

    case("partners far apart")
    apart = ["right_paw", "tail", "left_ear", "left_paw", "nose", "right_ear"]
    got = order_of(apart)
    require(
        got != [1, 0, 3, 2, 5, 4] and got != [0, 2, 1, 4, 3, 5],
        "Neighbours were exchanged. Partners need not stand side by side: go by the names.",
    )
    require_order(apart, [3, 1, 5, 0, 4, 2], "A dog; the right paw comes first.")

    case("left and right inside a word")
    odd = ["cleft", "left_hand", "right_hand", "upright_beam", "left_copyright", "right_copyright"]
    require_order(
        odd, [0, 2, 1, 3, 5, 4], "Only a name that begins with left_ or right_ has a partner."
    )

    case("no pairs at all, and no joints at all")
    require_order(["top", "bottom"], [0, 1], "Without pairs the order stays.")
    require_order([], [], "No joints, no order.")

    case("a partner that is missing")
    try:
        got = order_of(["nose", "left_eye"])
    except CheckFailedError:
        raise
    except Exception as error:
        require(
            isinstance(error, ValueError),
            f"left_eye has no right_eye: raise ValueError and say so; yours is a "
            f"{type(error).__name__}.",
        )
        require("left_eye" in str(error), "Say in the message which joint has no partner.")
    else:
        raise CheckFailedError(
            f"left_eye has no right_eye, and your order is {got}: a mistake in the data would go "
            "on silently. Raise ValueError."
        )

    case("COCO's seventeen")
    require_order(list(KEYPOINTS), list(MIRRORED_JOINTS), "COCO's 17 joints.")
