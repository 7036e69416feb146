"""Checks of chapter 00: semantic maps, the order of anchors, classes of proposals."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mrcnn_edu.checks.common import check, numbers, require, require_equal


@check("0.1")
def check_semantic(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Check the map of classes made of instance masks."""
    masks = torch.zeros(3, 3, 4, dtype=torch.bool)
    masks[0, 0, :2] = True
    masks[1, 0, 1:3] = True
    masks[2, 2, 3] = True
    labels = torch.tensor([5, 2, 5])
    before = masks.clone()
    got = answer(labels, masks)
    require(isinstance(got, Tensor) and got.shape == (3, 4), "Return one map [H, W].")
    require(
        got[0, 1] != 7, "Where masks overlap the labels were added: the later object is in front."
    )
    require(got[0, 1] != 5, "Pixel (0, 1) belongs to objects 0 and 1: the later one is in front.")
    require(
        got[2, 3] != 3,
        "You wrote the number of the object; a semantic map holds its class, here 5 for two of "
        "them.",
    )
    require_equal(
        got,
        [[5, 2, 2, 0], [0, 0, 0, 0], [0, 0, 0, 5]],
        "Three objects: class 5 in the upper left, 2 beside it, 5 in the lower right.",
    )
    require(got.dtype == torch.int64, "Labels are integers: return int64.")
    require(torch.equal(masks, before), "The masks were changed.")
    empty = answer(torch.zeros(0, dtype=torch.long), torch.zeros(0, 2, 2, dtype=torch.bool))
    require_equal(empty, torch.zeros(2, 2), "Without objects everything is background.")


@check("0.2")
def check_place(answer: Callable[[int, Sequence[tuple[int, int]], int], tuple]) -> None:
    """Check (level, row, column, anchor) of a place in the list of all anchors."""
    sizes = [(2, 4), (1, 2)]  # 16 anchors of P2, then 4 of P3, with two a cell

    def of(index: int) -> list[int]:
        got = numbers(answer(index, sizes, 2))
        require(got.shape == (4,), "Return four whole numbers: level, row, column, anchor.")
        return got.tolist()

    first = of(0)
    require(first != [0, 0, 0, 0], "The first level is P2: levels count from 2.")
    require_equal(first, [2, 0, 0, 0], "Number 0 is the first of all.")
    require(
        of(1) != [2, 0, 1, 0],
        "Number 1 is the second anchor of the first cell: all anchors of a cell, then the next "
        "cell.",
    )
    require_equal(of(1), [2, 0, 0, 1], "Number 1, with two anchors in each cell.")
    require(
        of(2) != [2, 1, 0, 0],
        "Number 2 is in the cell to the right, not in the one below: row by row.",
    )
    require_equal(of(2), [2, 0, 1, 0], "Number 2, on a level of 2 rows and 4 columns.")
    require(
        of(9) != [2, 2, 0, 1],
        "A row ends after as many cells as the level is wide: divide by the width, not the height.",
    )
    require_equal(of(9), [2, 1, 0, 1], "Number 9, on a level of 2 rows and 4 columns.")
    require(
        of(18)[0] != 2, "P2 has 2 · 4 · 2 = 16 anchors, numbers 0 to 15: number 18 is not on it."
    )
    require_equal(
        of(18),
        [3, 0, 1, 0],
        "Number 18 is number 18 − 16 = 2 of P3: a level counts from its own 0.",
    )
    sizes = [(9, 7), (5, 4), (3, 2)]
    every = [
        [level, row, column, anchor]
        for level, (height, width) in enumerate(sizes, start=2)
        for row in range(height)
        for column in range(width)
        for anchor in range(3)
    ]
    got = [[int(v) for v in answer(i, sizes, 3)] for i in range(len(every))]
    require_equal(got, every, f"All numbers of levels {sizes} with three anchors a cell.")


@check("0.3")
def check_best_class(answer: Callable[[Tensor], tuple[Tensor, Tensor]]) -> None:
    """Check the best object class and its probability from logits with the background first."""
    tenths = torch.tensor([[4.0, 2.0, 1.0, 3.0], [1.0, 6.0, 1.0, 2.0]])  # 10 times a softmax
    got = answer(tenths.log())
    require(isinstance(got, tuple) and len(got) == 2, "Return two tensors: labels, probabilities.")
    labels, probabilities = numbers(got[0]), numbers(got[1])
    require(not labels.is_floating_point(), "Return the labels first, then the probabilities.")
    require(
        labels.tolist() != [0, 1],
        "The first proposal is most likely background, but asked is its best object class.",
    )
    require(
        labels.tolist() != [2, 0],
        "Labels count from 1: column 0 is the background, so the first object is class 1.",
    )
    require_equal(labels, [3, 1], "Logits log(4, 2, 1, 3) and log(1, 6, 1, 2).")
    require_equal(probabilities.shape, [2], "Return one probability a proposal.")
    for value, why in (
        (1 / 2, "leaves the background out of the sum: softmax first, then drop the column"),
        (3 / 4, "is a sigmoid, where classes do not compete; here they do: take a softmax"),
        (3 / 5, "sums over the proposals: the softmax runs over the classes, dim=1"),
    ):
        found = float(probabilities[0])
        require(abs(found - value) > 1e-3, f"A probability of {value:g} {why}.")
    require_equal(
        probabilities,
        [0.3, 0.6],
        "Logits log(4, 2, 1, 3) and log(1, 6, 1, 2) have the probabilities 0.4, 0.2, 0.1, 0.3 and "
        "0.1, 0.6, 0.1, 0.2; logits are not yet probabilities.",
    )
    empty = answer(torch.zeros(0, 4))
    require(empty[0].shape == (0,) and empty[1].shape == (0,), "No proposals: two empty tensors.")
    logits = torch.randn(50, 11, generator=torch.Generator().manual_seed(0))
    expected = logits.softmax(dim=1)[:, 1:].max(dim=1)
    labels, probabilities = answer(logits)
    require_equal(labels, expected.indices + 1, "50 random proposals, ten classes.")
    require_equal(probabilities, expected.values, "50 random proposals, ten classes.")
