"""Checks of chapter 00: semantic maps, the order of anchors, classes of proposals."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mrcnn_edu.checks.common import (
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


def _painted(labels: Tensor, masks: Tensor) -> Tensor:
    """The map [H, W] of labels painted one after the other over masks [G, H, W]."""
    painted = torch.zeros(masks.shape[1:], dtype=torch.int64)
    for label, mask in zip(labels, masks, strict=True):
        painted = torch.where(mask, label, painted)
    return painted


@check("0.1")
def check_semantic(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Check the map of classes made of instance masks."""
    answer = inputs_kept(answer)
    case("three objects, two of which overlap")
    masks = torch.zeros(3, 3, 4, dtype=torch.bool)
    masks[0, 0, :2] = True
    masks[1, 0, 1:3] = True
    masks[2, 2, 3] = True
    labels = torch.tensor([5, 2, 5])
    got = tensor(answer(labels, masks))
    require_not(
        got,
        (labels[:, None, None] * masks).sum(dim=0),
        "Where masks overlap the labels were added: the later object is in front.",
    )
    require_not(
        got,
        _painted(labels.flip(0), masks.flip(0)),
        "Pixel (0, 1) belongs to objects 0 and 1: the later one is in front.",
    )
    object_numbers = "You wrote the number of the object; a semantic map holds its class."
    require_not(got, _painted(torch.tensor([1, 2, 3]), masks), object_numbers)
    require_not(got, _painted(torch.tensor([0, 1, 2]), masks), object_numbers)
    require_equal(
        got,
        [[5, 2, 2, 0], [0, 0, 0, 0], [0, 0, 0, 5]],
        "Three objects: class 5 in the upper left, 2 beside it, 5 in the lower right.",
    )
    tensor(got, torch.int64)
    case("no objects")
    empty = answer(torch.zeros(0, dtype=torch.long), torch.zeros(0, 2, 2, dtype=torch.bool))
    require_equal(empty, torch.zeros(2, 2), "Without objects everything is background.")
    case("random masks")
    generator = torch.Generator().manual_seed(0)
    masks = torch.rand(6, 7, 5, generator=generator) < 0.4
    labels = torch.randint(1, 80, (6,), generator=generator)
    require_equal(answer(labels, masks), _painted(labels, masks), "Six masks that overlap.")


@check("0.2")
def check_place(answer: Callable[[int, Sequence[tuple[int, int]], int], tuple]) -> None:
    """Check (level, row, column, anchor) of a place in the list of all anchors."""
    sizes = [(2, 4), (1, 2)]  # 16 anchors of P2, then 4 of P3, with two a cell
    answer = inputs_kept(answer)

    def of(index: int) -> list[int]:
        got = numbers(answer(index, sizes, 2))
        require(got.shape == (4,), "Return four whole numbers: level, row, column, anchor.")
        return got.tolist()

    case("number 0")
    require_not(of(0), [0, 0, 0, 0], "The first level is P2: levels count from 2.")
    require_equal(of(0), [2, 0, 0, 0], "Number 0 is the first of all.")
    case("number 1")
    require_not(
        of(1),
        [2, 0, 1, 0],
        "Number 1 is the second anchor of the first cell: all anchors of a cell, then the next "
        "cell.",
    )
    require_equal(of(1), [2, 0, 0, 1], "Number 1, with two anchors in each cell.")
    case("number 2")
    require_not(
        of(2),
        [2, 1, 0, 0],
        "Number 2 is in the cell to the right, not in the one below: row by row.",
    )
    require_equal(of(2), [2, 0, 1, 0], "Number 2, on a level of 2 rows and 4 columns.")
    case("number 9, in the second row")
    require_not(
        of(9),
        [2, 2, 0, 1],
        "A row ends after as many cells as the level is wide: divide by the width, not the height.",
    )
    require_equal(of(9), [2, 1, 0, 1], "Number 9, on a level of 2 rows and 4 columns.")
    case("number 18, on the second level")
    require(
        of(18)[0] != 2, "P2 has 2 · 4 · 2 = 16 anchors, numbers 0 to 15: number 18 is not on it."
    )
    require_equal(
        of(18),
        [3, 0, 1, 0],
        "Number 18 is number 18 − 16 = 2 of P3: a level counts from its own 0.",
    )
    case("three levels, three anchors a cell")
    large = [(9, 7), (5, 4), (3, 2)]
    every = [
        [level, row, column, anchor]
        for level, (height, width) in enumerate(large, start=2)
        for row in range(height)
        for column in range(width)
        for anchor in range(3)
    ]
    for i, wanted in enumerate(every):
        why = f"Number {i} of levels {large} with three anchors a cell."
        require_equal(answer(i, large, 3), wanted, why)


@check("0.3")
def check_best_class(answer: Callable[[Tensor], tuple[Tensor, Tensor]]) -> None:
    """Check the best object class and its probability from logits with the background first."""
    answer = inputs_kept(answer)
    case("two proposals")
    # Exponentials; a softmax divides the rows by 10 and by 20.
    logits = torch.tensor([[4.0, 2.0, 1.0, 3.0], [2.0, 12.0, 1.0, 5.0]]).log()
    rows = "Logits log(4, 2, 1, 3) and log(2, 12, 1, 5)"
    first, second = parts(answer(logits), "labels", "probabilities")
    labels, probabilities = numbers(first), numbers(second)
    require(not labels.is_floating_point(), "Return the labels first, then the probabilities.")
    require_not(
        labels,
        [0, 1],
        "The first proposal is most likely background, but asked is its best object class.",
    )
    require_not(
        labels,
        [2, 0],
        "Labels count from 1: column 0 is the background, so the first object is class 1.",
    )
    require_equal(labels, [3, 1], f"{rows}.")
    require_equal(probabilities.shape, [2], "Return one probability a proposal.")
    for value, why in (
        (1 / 2, "leaves the background out of the sum: softmax first, then drop the column"),
        (3 / 4, "is a sigmoid, where classes do not compete; here they do: take a softmax"),
        (3 / 8, "sums over the proposals: the softmax runs over the classes, dim=1"),
        (3 / 5, "is 1 − the background's, that of any object; asked is that of the best class"),
    ):
        found = float(probabilities[0])
        require(abs(found - value) > 1e-3, f"A probability of {value:g} {why}.")
    require_not(probabilities, [3.0, 12.0], "These are exponentials, not yet divided by their sum.")
    require_not(
        probabilities,
        torch.tensor([3.0, 12.0]).log(),
        "These are logits, and logits are not yet probabilities.",
    )
    require_equal(probabilities, [0.3, 0.6], f"{rows} have the probabilities 0.3 and 0.6.")
    case("no proposals")
    for empty in parts(answer(torch.zeros(0, 4)), "labels", "probabilities"):
        require(numbers(empty).shape == (0,), "No proposals: two empty tensors.")
    case("random proposals")
    logits = torch.randn(50, 11, generator=torch.Generator().manual_seed(0))
    expected = logits.softmax(dim=1)[:, 1:].max(dim=1)
    labels, probabilities = parts(answer(logits), "labels", "probabilities")
    require_equal(labels, expected.indices + 1, "50 random proposals, ten classes.")
    require_equal(probabilities, expected.values, "50 random proposals, ten classes.")
