"""Checks of chapter 00: semantic maps, boxes of masks, classes of proposals."""

from collections.abc import Callable

import torch
from torch import Tensor

from mrcnn_edu.checks.common import check, require, require_equal


@check
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
    require_equal(got, [[5, 2, 2, 0], [0, 0, 0, 0], [0, 0, 0, 5]], "Two objects of class 5.")
    require(got.dtype == torch.int64, "Labels are integers: return int64.")
    require(torch.equal(masks, before), "The masks were changed.")
    empty = answer(torch.zeros(0, dtype=torch.long), torch.zeros(0, 2, 2, dtype=torch.bool))
    require_equal(empty, torch.zeros(2, 2), "Without objects everything is background.")


@check
def check_mask_boxes(answer: Callable[[Tensor], Tensor]) -> None:
    """Check the tight boxes [G, 4] of masks, in continuous coordinates."""
    masks = torch.zeros(3, 6, 8, dtype=torch.bool)
    masks[0, 1:3, 2:6] = True
    masks[1, 5, 7] = True
    got = answer(masks)
    require(isinstance(got, Tensor) and got.shape == (3, 4), "Return a tensor [G, 4].")
    first = got[0].tolist()
    require(
        first != [2, 1, 5, 2],
        "The last column is 5, and it reaches to 6: without the 1 a mask of one pixel has no area.",
    )
    require(first != [1, 2, 3, 6], "Rows and columns are swapped: x is the column, y the row.")
    require(
        first != [2, 1, 4, 2],
        "A box is (x1, y1, x2, y2): two corners, not a corner with width and height.",
    )
    require_equal(got[0], [2, 1, 6, 3], "Columns 2 to 5 in rows 1 and 2.")
    require_equal(got[1], [7, 5, 8, 6], "One pixel in the corner.")
    require_equal(got[2], [0, 0, 0, 0], "A mask without pixels.")
    require(got.dtype == torch.float32, "Boxes are float32.")
    require(answer(torch.zeros(0, 5, 5, dtype=torch.bool)).shape == (0, 4), "No masks: [0, 4].")
    generator = torch.Generator().manual_seed(0)
    masks = torch.rand(20, 9, 7, generator=generator) > 0.9
    for mask, box in zip(masks, answer(masks), strict=True):
        x1, y1, x2, y2 = (int(v) for v in box)
        require(
            mask[y1:y2, x1:x2].sum() == mask.sum(), f"The box {box.tolist()} cuts off some pixels."
        )


@check
def check_best_class(answer: Callable[[Tensor], tuple[Tensor, Tensor]]) -> None:
    """Check the best object class and its probability from logits with the background first."""
    ln = torch.tensor([[6.0, 3.0, 1.0], [1.0, 1.0, 8.0]]).log()  # probabilities in tenths
    got = answer(ln)
    require(isinstance(got, tuple) and len(got) == 2, "Return two tensors: labels, probabilities.")
    labels, probabilities = got
    require(
        labels.tolist() != [0, 2],
        "The first proposal is most likely background, but asked is its best object class.",
    )
    require(
        labels.tolist() != [0, 1],
        "Labels count from 1: column 0 is the background, so the first object is class 1.",
    )
    require_equal(labels, [1, 2], "Logits of 6 : 3 : 1 and 1 : 1 : 8.")
    require(
        abs(float(probabilities[0]) - 0.75) > 1e-3,
        "0.75 leaves the background out of the sum: softmax first, then drop the column.",
    )
    require_equal(
        probabilities, [0.3, 0.8], "Probabilities of 6 : 3 : 1 and 1 : 1 : 8; logits are not yet."
    )
    empty = answer(torch.zeros(0, 4))
    require(empty[0].shape == (0,) and empty[1].shape == (0,), "No proposals: two empty tensors.")
    logits = torch.randn(50, 11, generator=torch.Generator().manual_seed(0))
    expected = logits.softmax(dim=1)[:, 1:].max(dim=1)
    labels, probabilities = answer(logits)
    require_equal(labels, expected.indices + 1, "50 random proposals, ten classes.")
    require_equal(probabilities, expected.values, "50 random proposals, ten classes.")
