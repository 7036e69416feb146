"""Checks of chapter 10: the wiring of a model, its weights, and where two models part."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from mrcnn_edu.checks.ch10_models import again, masks_on_proposals, small
from mrcnn_edu.checks.common import case, check, inputs_kept, require, require_equal, require_not
from mrcnn_edu.model import MaskRCNN
from mrcnn_edu.presets import TINY_C4, TINY_FPN
from mrcnn_edu.record import Detections, Record


def _wanted(model: MaskRCNN, record: Record) -> list[Detections]:
    found = model.detect(record).detections
    assert all(len(f.labels) >= 3 for f in found), "the case would compare nothing"
    return found


def _compare(got: Any, wanted: Sequence[Detections], record: Record) -> None:
    require(isinstance(got, list | tuple), "Return a list: the Detections of each image.")
    require(
        len(got) == len(wanted),
        f"{len(wanted)} images went in; your list has {len(got)} entries.",
    )
    for i, (ours, theirs) in enumerate(zip(got, wanted, strict=True)):
        require(isinstance(ours, Detections), f"Entry {i} is a {type(ours).__name__}.")
        require(
            ours.masks is not None, f"The detections of image {i} have no masks: fill the field."
        )
        require(
            len(ours.boxes) == len(theirs.boxes),
            f"Image {i}: {len(ours.boxes)} detections, expected {len(theirs.boxes)}.",
        )
        require_equal(ours.boxes, theirs.boxes, f"Boxes of image {i}.")
        require_equal(ours.labels, theirs.labels, f"Labels of image {i}.")
        require_equal(ours.scores, theirs.scores, f"Scores of image {i}.")
        assert ours.masks is not None
        require(
            ours.masks.is_floating_point(),
            f"Masks are probabilities, not yet bitmaps; those of image {i} are {ours.masks.dtype}.",
        )
        outside = bool((ours.masks < 0).any() or (ours.masks > 1).any())
        require(
            not outside,
            "Masks are probabilities, 0 to 1; some of yours lie outside: are they logits?",
        )
        require_equal(ours.masks, theirs.masks, f"Masks of image {i}, in the final boxes.")


@check("10.1")
def check_find(answer: Callable[[MaskRCNN, Record], list[Detections]]) -> None:
    """Check inference: from a record to the detections of each image, with masks."""
    for seed, (name, base) in enumerate((("pyramid", TINY_FPN), ("C4", TINY_C4))):
        model, record = small(base, seed)
        wanted = _wanted(model, record)
        case(f"{name}, two images of different size")
        with torch.no_grad():
            got = answer(model, record)
            on_proposals = masks_on_proposals(model, record, wanted)
            own, wrong = on_proposals[0].masks, None
            if _shapes_of(got) == _shapes_of(on_proposals):
                wrong = got[0].masks
            require(
                wrong is None or own is None or not torch.allclose(own, wrong, atol=1e-5),
                "Your masks were made in the proposals' boxes. The paper's mask head sees the "
                "final, refined boxes (§3.1, Inference).",
            )
        _compare(got, wanted, record)
    case("nothing found")
    model, record = small(dataclasses.replace(TINY_FPN), 2)
    with torch.no_grad():
        model.box_head.classes.bias[0] = 50.0  # all background
        _compare(answer(model, record), model.detect(record).detections, record)
    case("one image")
    model, _ = small(TINY_FPN, 3)
    with torch.no_grad():
        record = model([torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))])
        _compare(answer(model, record), _wanted(model, record), record)


def _shapes_of(found: Any) -> list[Any]:
    try:
        return [tuple(f.masks.shape) for f in found]
    except (AttributeError, TypeError):
        return []


@check("10.2")
def check_convert(answer: Callable[[dict[str, Tensor], list[int]], dict[str, Tensor]]) -> None:
    """Check that torchvision's predictor becomes ours: background first, raw ids as classes."""
    answer = inputs_kept(answer)
    case("three raw ids, two of them ours")
    ids = [1, 3]
    theirs = {
        "cls_score.weight": torch.arange(4.0)[:, None].repeat(1, 2),
        "cls_score.bias": torch.arange(4.0) + 10,
        "bbox_pred.weight": torch.arange(16.0)[:, None].repeat(1, 2),
        "bbox_pred.bias": torch.arange(16.0) + 100,
        "mask_fcn_logits.weight": torch.arange(4.0).reshape(4, 1, 1, 1),
        "mask_fcn_logits.bias": torch.arange(4.0) + 1000,
    }
    got = answer(theirs, ids)
    require(isinstance(got, dict), "Return a dictionary of tensors.")
    names = {f"{part}.{kind}" for part in ("classes", "deltas", "masks") for kind in _KINDS}
    require(
        got.keys() == names,
        f"The names are {sorted(names)}; yours are {sorted(map(str, got))}.",
    )
    require_not(
        got["classes.bias"],
        [11.0, 13.0],
        "Class logits have a row for the background, row 0: K + 1 rows, background first.",
    )
    require_not(
        got["masks.bias"],
        [1000.0, 1001.0, 1003.0],
        "The background has no mask here: K rows. torchvision's row 0 is never used.",
    )
    require_not(
        got["deltas.bias"],
        [101.0, 103.0],
        "Each class has four deltas: raw id i has rows 4i to 4i + 3.",
    )
    require_equal(got["classes.bias"], [10.0, 11, 13], "Class logits: background, id 1, id 3.")
    require_equal(
        got["deltas.bias"],
        [104.0, 105, 106, 107, 112, 113, 114, 115],
        "Four deltas of id 1, then four of id 3.",
    )
    require_equal(got["masks.bias"], [1001.0, 1003], "Masks of id 1 and id 3.")
    case("random, ids not in order")
    g = torch.Generator().manual_seed(0)
    ids = [7, 2, 9, 1]
    theirs = {
        "cls_score.weight": torch.randn(11, 6, generator=g),
        "cls_score.bias": torch.randn(11, generator=g),
        "bbox_pred.weight": torch.randn(44, 6, generator=g),
        "bbox_pred.bias": torch.randn(44, generator=g),
        "mask_fcn_logits.weight": torch.randn(11, 5, 1, 1, generator=g),
        "mask_fcn_logits.bias": torch.randn(11, generator=g),
    }
    got = answer(theirs, ids)
    x = torch.randn(8, 6, generator=g)
    logits = F.linear(x, theirs["cls_score.weight"], theirs["cls_score.bias"])
    deltas = F.linear(x, theirs["bbox_pred.weight"], theirs["bbox_pred.bias"]).unflatten(1, (11, 4))
    pixels = torch.randn(3, 5, 2, 2, generator=g)
    masks = F.conv2d(pixels, theirs["mask_fcn_logits.weight"], theirs["mask_fcn_logits.bias"])
    require_equal(
        F.linear(x, got["classes.weight"], got["classes.bias"]),
        logits[:, [0, *ids]],
        "Class logits of random vectors.",
    )
    require_equal(
        F.linear(x, got["deltas.weight"], got["deltas.bias"]).unflatten(1, (4, 4)),
        deltas[:, ids],
        "Box deltas of random vectors.",
    )
    require_equal(
        F.conv2d(pixels, got["masks.weight"], got["masks.bias"]), masks[:, ids], "Random masks."
    )


_KINDS = ("weight", "bias")


@check("10.3")
def check_first_difference(
    answer: Callable[[dict[str, Tensor], dict[str, Tensor], float], str | None],
) -> None:
    """Check the name of the first stage in which two models differ."""
    answer = inputs_kept(answer)
    one = torch.ones(2, 3)

    def ask(
        what: str, ours: dict, theirs: dict, wanted: str | None, tolerance: float = 1e-3
    ) -> None:
        case(what)
        got = answer(ours, theirs, tolerance)
        require(got == wanted, f"{what}: expected {wanted!r}, yours is {got!r}.")

    ask("equal", {"a": one, "b": one}, {"a": one, "b": one}, None)
    ask("the second differs", {"a": one, "b": one + 1}, {"a": one, "b": one}, "b")
    ask("both differ", {"a": one + 1, "b": one + 1}, {"a": one, "b": one}, "a")
    ask("a negative difference", {"a": one - 1}, {"a": one}, "a")
    large = torch.tensor([1000.0, 0.0])
    ask("0.5 of 1000", {"a": large + 0.5}, {"a": large}, None)
    ask("2 of 1000", {"a": large + 2}, {"a": large}, "a")
    ask("5 of −1000", {"a": 5 - large}, {"a": -large}, "a")
    ask("0.5 of −1000", {"a": 0.5 - large}, {"a": -large}, None)
    ask("2 for 1, tolerance 0.6 of theirs", {"a": 2 * one}, {"a": one}, "a", 0.6)
    ask("1 for 2, tolerance 0.6 of theirs", {"a": one}, {"a": 2 * one}, None, 0.6)
    many, odd = torch.ones(100, 100), torch.ones(100, 100)
    odd[50, 50] = 2
    ask("one value in 10,000", {"a": odd}, {"a": many}, "a")
    small = torch.tensor([1e-4, 0.0])
    ask("1e-5 of 1e-4", {"a": small + 1e-5}, {"a": small}, "a")
    ask("shapes differ", {"a": one}, {"a": torch.ones(2, 4)}, "a")
    ask("shapes that broadcast", {"a": one}, {"a": torch.ones(1, 3)}, "a")
    nan = torch.tensor([float("nan"), 1.0])
    ask("NaN on one side", {"a": nan}, {"a": torch.ones(2)}, "a")
    ask("no values", {"a": torch.ones(0, 4), "b": one}, {"a": torch.ones(0, 4), "b": one}, None)
    ask("all zero", {"a": torch.zeros(3)}, {"a": torch.zeros(3)}, None)
    ask("zero and not", {"a": torch.full((3,), 1e-6)}, {"a": torch.zeros(3)}, "a")
    counts = torch.tensor([3, 4])
    ask("whole numbers", {"a": counts}, {"a": torch.tensor([3, 5])}, "a")
    g = torch.Generator().manual_seed(0)
    for i in range(20):
        names = [f"stage {k}" for k in range(6)]
        theirs = {n: torch.randn(4, 5, generator=g) for n in names}
        first = int(torch.randint(0, 7, (), generator=g))
        ours = {
            n: v + (0.01 if k >= first else 1e-6) * v.abs().max()
            for k, (n, v) in enumerate(theirs.items())
        }
        ask(f"random {i}", ours, theirs, names[first] if first < 6 else None)


@check("10.4")
def check_batch(
    answer: Callable[[list[Tensor], Tensor, Tensor, int], tuple[Tensor, list[tuple[int, int]]]],
) -> None:
    """Check the repaired batch: normalised, then padded with zeros, right and below."""
    answer = inputs_kept(answer)
    case("one grey image of 2 × 3 pixels, multiple of 4")
    mean, std = torch.tensor([0.5, 0.5, 0.5]), torch.tensor([0.25, 0.25, 0.25])
    grey = torch.full((3, 2, 3), 0.75)
    got, sizes = _pair(answer([grey], mean, std, 4))
    require(
        tuple(got.shape) == (1, 3, 4, 4), f"The batch has shape {list(got.shape)}, not [1, 3, 4, 4]"
    )
    require(
        list(map(tuple, sizes)) == [(2, 3)],
        f"The size without padding is (2, 3); yours is {sizes}.",
    )
    padding = float(got[0, 0, 3, 3])
    require_not(
        padding,
        -2.0,
        "The padding is −2: it was padded first and normalised with the image. The network should "
        "see zeros there.",
    )
    wanted = torch.zeros(1, 3, 4, 4)
    wanted[:, :, :2, :3] = 1.0
    require_equal(got, wanted, "Normalised to 1, zeros right and below.")
    case("two images, three channels of different statistics")
    g = torch.Generator().manual_seed(0)
    images = [torch.rand(3, 5, 9, generator=g), torch.rand(3, 8, 4, generator=g)]
    mean, std = torch.tensor([0.1, 0.4, 0.7]), torch.tensor([0.2, 0.3, 0.5])
    got, sizes = _pair(answer(images, mean, std, 8))
    wanted = torch.zeros(2, 3, 8, 16)
    for i, image in enumerate(images):
        height, width = image.shape[1:]
        wanted[i, :, :height, :width] = (image - mean[:, None, None]) / std[:, None, None]
    require(
        tuple(got.shape) == (2, 3, 8, 16),
        f"The batch has shape {list(got.shape)}; heights of 5 and 8, widths of 9 and 4 and a "
        "multiple of 8 make [2, 3, 8, 16].",
    )
    require_equal(got, wanted, "Two images of different sizes.")
    require(list(map(tuple, sizes)) == [(5, 9), (8, 4)], f"Sizes are (height, width): {sizes}.")
    case("heights and widths far apart")
    apart = [torch.rand(3, 5, 20, generator=g), torch.rand(3, 13, 4, generator=g)]
    got, _ = _pair(answer(apart, mean, std, 8))
    require(
        tuple(got.shape) == (2, 3, 16, 24),
        f"Images of 5 × 20 and 13 × 4 need a batch of 16 × 24; yours is {list(got.shape)[2:]}.",
    )
    case("a size that is a multiple already, and a multiple of 1")
    got, _ = _pair(answer([torch.rand(3, 8, 16, generator=g)], mean, std, 8))
    require(tuple(got.shape) == (1, 3, 8, 16), f"8 × 16 stays; yours is {list(got.shape)[2:]}.")
    got, _ = _pair(answer([torch.rand(3, 5, 7, generator=g)], mean, std, 1))
    require(tuple(got.shape) == (1, 3, 5, 7), f"5 × 7 stays; yours is {list(got.shape)[2:]}.")


def _pair(got: Any) -> tuple[Tensor, Any]:
    require(isinstance(got, tuple) and len(got) == 2, "Return two things: the batch and the sizes.")
    require(isinstance(got[0], Tensor), f"The batch is a {type(got[0]).__name__}, not a tensor.")
    return got


@check("10.5")
def check_second_pass(
    answer: Callable[[MaskRCNN, Record, list[Detections]], list[Detections]],
) -> None:
    """Check that final boxes go through the box head once more, as proposals."""
    answer = inputs_kept(answer)
    for seed, base in enumerate((TINY_FPN, TINY_C4)):
        model, record = small(base, seed)
        first = _wanted(model, record)
        case(f"two images, neck {base.neck}")
        with torch.no_grad():
            got = answer(model, record, first)
            wanted = again(model, record, first)
        require(isinstance(got, list | tuple) and len(got) == 2, "Return a list, one per image.")
        require(
            not all(
                len(a.boxes) == len(b.boxes) and torch.equal(a.boxes, b.boxes)
                for a, b in zip(got, first, strict=True)
            ),
            "These are the boxes of the first pass. Did the box head read `found`, not the "
            "proposals?",
        )
        for i, (ours, theirs) in enumerate(zip(got, wanted, strict=True)):
            require(
                len(ours.boxes) == len(theirs.boxes),
                f"Image {i}: {len(ours.boxes)} detections, expected {len(theirs.boxes)}.",
            )
            require_equal(ours.boxes, theirs.boxes, f"Boxes of image {i} after the second pass.")
            require_equal(ours.labels, theirs.labels, f"Labels of image {i}.")
            require_equal(ours.scores, theirs.scores, f"Scores of image {i}.")
    case("no detections in the first pass")
    model, record = small(TINY_FPN, 2)
    nothing = [
        Detections(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0))
        for _ in range(2)
    ]
    with torch.no_grad():
        got = answer(model, record, nothing)
    require(all(len(d.boxes) == 0 for d in got), "From no boxes come no detections.")
