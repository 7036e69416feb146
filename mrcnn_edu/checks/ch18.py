"""Checks of chapter 18, on FCIS: position-sensitive pooling, the joint rule, grown RoIs.

Those of MNC's crop and vote stand in `mrcnn_edu.checks.ch18_mnc`.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from mrcnn_edu import masks as mask_ops
from mrcnn_edu.checks.ch18_mnc import check_vote, check_warp
from mrcnn_edu.checks.common import (
    case,
    check,
    inputs_kept,
    parts,
    require,
    require_equal,
    require_not,
    tensor,
)
from mrcnn_edu.presets import TINY_FPN
from mrcnn_edu.related.fcis import FCIS, RoIScores, fcis_config

__all__ = ["check_grown", "check_pool", "check_verdict", "check_vote", "check_warp"]


# ---------------------------------------------------------------- 18.3


# How a bin could be read wrongly: rounding outwards or not, and which map it takes.
_Which = Callable[[int, int, int, int], tuple[int, int]]


def _pooled(
    maps: Tensor,
    box: Tensor,
    bins: int,
    cells: int,
    outwards: bool = True,
    which: _Which = lambda q, p, bins, cells: (q * cells // bins, p * cells // bins),
) -> Tensor:
    by_cell = maps.unflatten(0, (-1, cells, cells))  # [C, k, k, H, W]
    height, width = maps.shape[1:]
    x1, y1, x2, y2 = box.tolist()

    def span(low: float, high: float, i: int, limit: int) -> slice:
        first, last = (low + n * (high - low) / bins for n in (i, i + 1))
        start, stop = (
            (math.floor(first), math.ceil(last)) if outwards else (round(first), round(last))
        )
        return slice(min(max(start, 0), limit), min(max(stop, 0), limit))

    rows = []
    for q in range(bins):
        row = []
        for p in range(bins):
            i, j = which(q, p, bins, cells)
            window = by_cell[:, i, j, span(y1, y2, q, height), span(x1, x2, p, width)]
            area = window.shape[1] * window.shape[2]
            row.append(window.sum(dim=(1, 2)) / max(area, 1))
        rows.append(torch.stack(row, dim=1))
    return torch.stack(rows, dim=1)  # [C, P, P]


@check("18.3")
def check_pool(answer: Callable[[Tensor, Tensor, int, int], Tensor]) -> None:
    """Check position-sensitive pooling of one RoI."""
    answer = inputs_kept(answer)
    case("four flat maps")
    flat = torch.arange(4.0)[:, None, None].expand(4, 8, 8).contiguous()
    box = torch.tensor([0.0, 0, 8, 8])
    got = tensor(answer(flat, box, 4, 2))
    want = torch.tensor([[[0.0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]]])
    require_not(
        got,
        want.mT,
        "Rows and columns are swapped: map i · k + j serves the cell in row i and column j.",
    )
    require_not(
        got,
        torch.tensor([[[0.0, 1, 0, 1], [2, 3, 2, 3], [0, 1, 0, 1], [2, 3, 2, 3]]]),
        "Neighbouring bins read different maps: your cell is p modulo k. Bins 0 and 1 of four lie "
        "in the first of two cells: p · k // P.",
    )
    require_not(
        got,
        torch.full((1, 4, 4), 1.5),
        "Every bin is the mean of all four maps. A bin reads the map of its cell, and no other.",
    )
    require_equal(got, want, "Map i is everywhere i; 2 × 2 cells, 4 × 4 bins.")

    case("one map that is not flat")
    ramp = torch.arange(6.0).expand(1, 6, 6).contiguous()
    box = torch.tensor([0.0, 0, 4, 4])
    got = answer(ramp, box, 3, 1)
    require_not(
        got,
        _pooled(ramp, box, 3, 1, outwards=False),
        "Your bins end at rounded edges. A bin covers every pixel that it touches: floor where it "
        "begins, ceil where it ends.",
    )
    want = torch.tensor([0.5, 1.5, 2.5]).expand(1, 3, 3)
    require_equal(got, want, "Three bins over four pixels touch 0 and 1, 1 and 2, 2 and 3.")

    case("several channels")
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(3 * 4, 7, 9, generator=generator)
    box = torch.tensor([1.0, 2, 7, 6])
    got = answer(maps, box, 2, 2)
    regrouped = maps.unflatten(0, (2, 2, 3)).movedim(2, 0).flatten(0, 2)
    require_not(
        got,
        _pooled(regrouped, box, 2, 2),
        "Your maps are taken cell by cell; here the k² maps of channel 0 come first, then those "
        "of channel 1.",
    )
    require_equal(got, _pooled(maps, box, 2, 2), "Three channels, 2 × 2 cells and bins.")

    case("more bins than pixels")
    box = torch.tensor([2.2, 1.1, 4.7, 3.3])
    require_equal(
        answer(maps, box, 6, 2),
        _pooled(maps, box, 6, 2),
        "A bin narrower than a pixel reads the whole pixel.",
    )
    case("bins that are no multiple of the cells")
    maps = torch.randn(9, 7, 9, generator=generator)
    require_equal(answer(maps, box, 5, 3), _pooled(maps, box, 5, 3), "3 × 3 cells, 5 × 5 bins.")

    case("a RoI that leaves the map")
    for corners in ([-6.3, -3.4, 4.6, 3.9], [5.4, 3.3, 15.7, 12.8]):
        box = torch.tensor(corners)
        got = answer(maps, box, 6, 3)
        require(
            bool(torch.isfinite(got).all()),
            "Some of your values are not numbers: a bin without a pixel has no mean. It is 0.",
        )
        require_equal(got, _pooled(maps, box, 6, 3), "Pixels outside the map do not count.")

    for seed in range(6):
        case(f"random {seed}")
        generator = torch.Generator().manual_seed(seed)
        cells = int(torch.randint(1, 5, (1,), generator=generator))
        bins = cells + int(torch.randint(0, 6, (1,), generator=generator))
        maps = torch.randn(2 * cells**2, 11, 8, generator=generator)
        corner = 5 * torch.rand(2, generator=generator) - 1
        box = torch.cat([corner, corner + 0.3 + 6 * torch.rand(2, generator=generator)])
        require_equal(
            answer(maps, box, bins, cells), _pooled(maps, box, bins, cells), f"k = {cells}."
        )
    case("the gradient")
    leaf = maps.clone().requires_grad_()
    got = answer(leaf, box, bins, cells)
    require(got.requires_grad, "Your result has no gradient, so the maps could not learn.")
    got.square().sum().backward()
    other = maps.clone().requires_grad_()
    _pooled(other, box, bins, cells).square().sum().backward()
    require_equal(leaf.grad, other.grad, "The gradient for the maps.")


# ---------------------------------------------------------------- 18.4


@check("18.4")
def check_verdict(answer: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> None:
    """Check the joint rule: class logits and masks from inside and outside scores."""
    answer = inputs_kept(answer)
    case("one RoI, two classes, four pixels")
    inside, outside = torch.zeros(1, 3, 2, 2), torch.zeros(1, 3, 2, 2)
    inside[0, 1] = torch.tensor([[4.0, 1], [0, 0]])
    outside[0, 1] = torch.tensor([[0.0, 3], [0, 3]])
    inside[0, 0] = 9.0  # the background
    logits, mask = parts(answer(inside, outside), "logits", "masks")
    for wrong, message in (
        (inside.mean(dim=(2, 3)), "The inside score alone: a pixel of the box beside the object "
         "speaks for the class, too. Take the larger of the two at each pixel."),
        ((inside + outside).mean(dim=(2, 3)), "The sum of both: each pixel has one voice, the "
         "larger of its two scores."),
        ((inside - outside).mean(dim=(2, 3)), "The difference is the mask; the class is the mean "
         "of the larger of the two."),
        (torch.maximum(inside, outside).amax(dim=(2, 3)), "The largest pixel decides; it should be "
         "the mean over all pixels."),
        (torch.maximum(inside.mean(dim=(2, 3)), outside.mean(dim=(2, 3))), "You took the mean "
         "first: the larger of the two is taken at each pixel, then the mean over pixels."),
        (torch.maximum(inside, outside).mean(dim=(2, 3)).softmax(dim=1), "These are probabilities; "
         "logits are asked for."),
    ):  # fmt: skip
        require_not(logits, wrong, message)
    require_equal(logits, [[9.0, 2.5, 0.0]], "Class 1: the mean of 4, 3, 0 and 3.")
    require_not(
        mask,
        (inside[:, 0] - outside[:, 0]).sigmoid(),
        "That is the background's mask. A RoI shows the mask of its best foreground class.",
    )
    difference = torch.tensor([[[4.0, -2], [0, -3]]])
    require_not(mask, difference, "A mask is a probability: the softmax over (outside, inside).")
    require_not(mask, (-difference).sigmoid(), "Outside and inside are swapped in your softmax.")
    require_not(
        mask,
        inside[:, 1].sigmoid(),
        "The sigmoid of the inside score: it competes with the outside score, in a softmax.",
    )
    require_equal(mask, difference.sigmoid(), "exp(inside) / (exp(inside) + exp(outside)).")

    for seed in range(4):
        case(f"random {seed}")
        generator = torch.Generator().manual_seed(seed)
        rois = 3 * seed
        inside, outside = (
            2 * torch.randn(rois, 5, 4, 3, generator=generator) - offset for offset in (0, 3 * seed)
        )
        logits, mask = parts(answer(inside, outside), "logits", "masks")
        scores = RoIScores(inside, outside, torch.zeros(rois, 1, 4))
        require_equal(logits, scores.class_logits, f"The logits of {rois} RoIs.")
        best = scores.class_logits[:, 1:].argmax(dim=1) + 1
        require_equal(mask, scores.mask_logits(best).sigmoid(), f"The masks of {rois} RoIs.")
    case("large scores")
    large = 200 * torch.ones(1, 2, 2, 2)
    _, mask = parts(answer(large, large), "logits", "masks")
    require(
        bool(torch.isfinite(mask).all()),
        "exp overflows for large scores; softmax (or the sigmoid of the difference) does not.",
    )
    require_equal(mask, torch.full((1, 2, 2), 0.5), "Equal scores: one half.")
    case("the gradient")
    leaves = [v.clone().requires_grad_() for v in (inside, outside)]
    logits, mask = parts(answer(leaves[0], leaves[1]), "logits", "masks")
    require(logits.requires_grad and mask.requires_grad, "Your results have no gradient.")


# ---------------------------------------------------------------- 18.5


_FACTORS = (1.0, 1.15, 1.3)


def _grow(boxes: Tensor, factor: float) -> Tensor:
    centre, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
    return torch.cat([centre - factor * half, centre + factor * half], dim=1)


@torch.no_grad()
def _grown(
    model: FCIS, image: Tensor, boxes: Tensor, labels: Tensor,
    factors: tuple[float, ...] = _FACTORS, paste_grown: bool = True, classes: int = 0,
) -> Tensor:  # fmt: skip
    maps = model.position_maps(model([image]))
    size = (image.shape[1], image.shape[2])
    total = torch.zeros(len(boxes), *size)
    for factor in factors:
        rois = _grow(boxes, factor)
        masks = model.read(maps, [rois]).mask_logits(labels + classes).sigmoid()
        total += mask_ops.paste(masks, rois if paste_grown else boxes, size)
    return total / len(factors)


@check("18.5")
def check_grown(answer: Callable[[FCIS, Tensor, Tensor, Tensor], Tensor]) -> None:
    """Check the mean of masks read in RoIs of three sizes, in a small untrained model."""
    answer = inputs_kept(answer)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = fcis_config(TINY_FPN, num_classes=3, cells=3, bins=9, map_level=2)
        model = FCIS(config).eval()
        torch.nn.init.normal_(model.scores.weight, std=0.3)
        image = torch.rand(3, 64, 96)
    for name, rows in (("two boxes", [0, 1]), ("no boxes", [])):
        case(name)
        boxes = torch.tensor([[20.0, 16, 60, 40], [30.3, 8.8, 90.1, 60.6]])[rows]
        labels = torch.tensor([1, 3])[rows]
        with torch.no_grad():
            got = tensor(answer(model, image, boxes, labels))
        if rows:
            once = _grown(model, image, boxes, labels, (1.0,))
            require_not(got, once, "That is the plain mask, read once: read it in three RoIs.")
            require_not(
                got,
                _grown(model, image, boxes, labels, paste_grown=False),
                "Each mask was read in a grown RoI and pasted into the box itself: it must be "
                "pasted where it was read (chapter 09).",
            )
            require_not(
                got,
                3 * _grown(model, image, boxes, labels),
                "Your masks are summed; divide by three.",
            )
            require_not(
                got,
                _grown(model, image, boxes, labels, classes=-1),
                "Those are the masks of the class before: FCIS has maps for the background, too, "
                "so class k is row k.",
            )
        require_equal(
            got, _grown(model, image, boxes, labels), "The mean of three pasted masks.", 1e-3
        )
