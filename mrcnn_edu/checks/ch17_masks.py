"""The check of chapter 17's last exercise: a mask head that looks at the sure boxes only."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from mrcnn_edu.checks.common import case, check, inputs_kept, require, require_equal
from mrcnn_edu.model import MaskRCNN
from mrcnn_edu.presets import TINY_FPN
from mrcnn_edu.record import Detections, Record


@functools.cache
def _scene() -> tuple[MaskRCNN, Record, list[Detections]]:
    """A model of random weights, its record of two images, and boxes in them."""
    generator = torch.Generator().manual_seed(17)
    with torch.random.fork_rng():
        torch.manual_seed(17)
        model = MaskRCNN(TINY_FPN).eval()
    with torch.no_grad():
        record = model([torch.rand(3, 64, 64, generator=generator) for _ in range(2)])
    corners = torch.tensor([[4.0, 6], [10, 2], [20, 20], [1, 30], [33, 8]])
    boxes = torch.cat([corners, corners + torch.tensor([20.0, 24])], dim=1)  # [5, 4]
    labels = torch.tensor([3, 1, 10, 3, 7])
    scores = torch.tensor([0.9, 0.8, 0.5, 0.3, 0.1])
    found = [
        Detections(boxes, labels, scores),
        Detections(boxes[:2] + 7, labels[2:4], scores[2:4]),
    ]
    return model, record, found


class _Counted:
    """The model, and how many RoIs its mask head has seen."""

    def __init__(self, model: MaskRCNN) -> None:
        self.seen = 0
        assert model.mask_head is not None
        self.hook = model.mask_head.register_forward_hook(self._note)

    def _note(self, _module: Any, inputs: tuple[Tensor, ...], _output: Any) -> None:
        self.seen += len(inputs[0])


@check("17.5")
def check_complete(answer: Callable[..., Sequence[Detections]]) -> None:
    """Check masks for the boxes that are sure enough, and for them alone."""
    answer = inputs_kept(answer)
    model, record, found = _scene()
    with torch.no_grad():
        full = [d.masks for d in model.complete(record, found)]

    def run(of: list[Detections], least: float) -> tuple[list[Detections], int]:
        counted = _Counted(model)
        try:
            with torch.no_grad():
                got = answer(model, record, of, least)
        finally:
            counted.hook.remove()
        require(isinstance(got, list), "Return a list of Detections, one for each image.")
        require(len(got) == len(of), f"{len(of)} images, {len(got)} results.")
        for g, f in zip(got, of, strict=True):
            require(
                len(g.boxes) == len(f.boxes) and torch.equal(g.boxes, f.boxes)
                and torch.equal(g.scores, f.scores) and torch.equal(g.labels, f.labels),
                "All detections stay, in their order: only masks are saved, not boxes.",
            )  # fmt: skip
            require(g.masks is not None, "An image came back without masks.")
        return got, counted.seen

    def compare(of: list[Detections], masks: list[Tensor | None], least: float, name: str) -> None:
        case(name)
        got, seen = run(of, least)
        sure = sum(int((f.scores >= least).sum()) for f in of)
        everything = sum(len(f.boxes) for f in of)
        require(
            seen < everything or sure == everything,
            f"The mask head saw all {everything} boxes: leaving masks out later saves nothing.",
        )
        for g, f, m in zip(got, of, masks, strict=True):
            assert g.masks is not None
            assert m is not None
            wanted = m * (f.scores >= least)[:, None, None]
            require(
                tuple(g.masks.shape) == tuple(wanted.shape),
                f"Masks are {list(wanted.shape)}, one for each detection; yours are "
                f"{list(g.masks.shape)}.",
            )
            unsure = f.scores < least
            require(
                not bool((g.masks[unsure] == 0.5).all()) or not bool(unsure.any()),
                "0.5 is no empty mask: probabilities of 0 are.",
            )
            require_equal(
                g.masks[unsure], wanted[unsure], "A box below `least` has a mask of zeros.", 1e-5
            )
            require_equal(
                g.masks[~unsure],
                wanted[~unsure],
                "A box from `least` on has the model's own mask, in its own place.",
                1e-4,
            )
        require(seen <= sure, f"{sure} boxes are sure enough, the mask head saw {seen}.")

    compare(found, full, 0.6, "two of five, none of two")
    compare(found, full, 0.5, "a score of exactly `least`")
    compare(found, full, 0.0, "all")
    nothing = Detections(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0))
    assert full[0] is not None
    assert full[1] is not None
    compare([found[0], nothing], [full[0], full[1][:0]], 0.4, "an image without detections")
    order = torch.tensor([3, 0, 4, 1, 2])
    mixed = Detections(found[0].boxes[order], found[0].labels[order], found[0].scores[order])
    compare([mixed, nothing], [full[0][order], full[1][:0]], 0.4, "scores in any order")
    compare(found, full, 2.0, "none at all")
