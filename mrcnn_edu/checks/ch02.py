"""Checks of chapter 02: receptive field, frozen normalisation, pyramid, levels."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from mrcnn_edu.checks.common import CheckFailedError, check, numbers, require, require_equal
from mrcnn_edu.nn.layers import FrozenBatchNorm
from mrcnn_edu.roi import assign_levels


@check("2.1")
def check_receptive_field(answer: Callable[[Sequence[tuple[int, int, int]]], tuple]) -> None:
    """Check (pixels seen, centre of the first cell) of a list of (kernel, stride, padding)."""

    def compare(layers: list[tuple[int, int, int]], want: tuple[float, float], why: str) -> None:
        got = answer(layers)
        require(
            isinstance(got, tuple) and len(got) == 2, "Return two values: pixels seen and centre."
        )
        require_equal(got[0], want[0], f"Pixels seen by {layers}. {why}")
        require_equal(got[1], want[1], f"Centre of the first cell of {layers}. {why}")

    compare([], (1, 0.5), "Without a layer a cell is a pixel, whose centre is at ½.")
    compare([(3, 1, 0)], (3, 1.5), "Unpadded, the first 3×3 sits on pixels 0 to 2.")
    compare(
        [(3, 1, 1)],
        (3, 0.5),
        "Padding by 1 puts the first 3×3 on the first pixel; it still sees 3.",
    )
    compare(
        [(3, 2, 1), (3, 1, 1)],
        (7, 0.5),
        "The second layer's cells lie 2 pixels apart: add (k − 1) times the stride so far.",
    )
    compare(
        [(4, 4, 0), (3, 2, 1)],
        (12, 2.0),
        "A layer's own stride counts for the layers above it, not for itself.",
    )
    compare(
        [(2, 2, 0), (4, 2, 1)],
        (8, 2.0),
        "The centre moves by ((k − 1)/2 − p) times the stride so far.",
    )
    compare([(7, 2, 3), (3, 2, 1)], (11, 0.5), "This is the stem of ResNet-50.")


@check("2.2")
def check_scale_and_shift(answer: Callable[..., tuple[Tensor, Tensor]]) -> None:
    """Check the line a·x + b that a frozen batch normalisation is."""
    one, zero = torch.ones(1), torch.zeros(1)

    def compare(values: tuple, want: tuple[Tensor, Tensor], why: str) -> None:
        got = answer(*values)
        require(isinstance(got, tuple) and len(got) == 2, "Return two tensors: scale and shift.")
        require_equal(got[0], want[0], f"The scale. {why}")
        require_equal(got[1], want[1], f"The shift. {why}")

    compare(
        (one, zero, zero, 4 * one, 0.0),
        (one / 2, zero),
        "A variance of 4 is a standard deviation of 2: divide by the square root.",
    )
    compare((2 * one, zero, zero, one, 0.0), (2 * one, zero), "γ multiplies: it is in the scale.")
    compare((one, 3 * one, zero, one, 0.0), (one, 3 * one), "β is added in the end.")
    compare(
        (one, zero, 3 * one, one, 0.0), (one, -3 * one), "The mean is subtracted before scaling."
    )
    compare(
        (2 * one, one, 3 * one, one, 0.0),
        (2 * one, -5 * one),
        "The mean, too, is multiplied by the scale: b = β − μ·a.",
    )
    compare((one, zero, zero, zero, 0.25), (2 * one, zero), "ε is added before the square root.")
    generator = torch.Generator().manual_seed(0)
    weight, bias, mean, variance = torch.rand(4, 6, generator=generator)
    norm = FrozenBatchNorm(6, eps=0.1)
    norm.load_state_dict(
        {"weight": weight, "bias": bias, "running_mean": mean, "running_var": variance}
    )
    x = torch.randn(2, 6, 3, 3, generator=generator)
    scale, shift = answer(weight, bias, mean, variance, 0.1)
    require_equal(
        x * scale[:, None, None] + shift[:, None, None], norm(x), "Random values, ε = 0.1."
    )


@check("2.3")
def check_top_down(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Check one top-down step of a feature pyramid."""
    coarse = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    repeated = torch.tensor(
        [[[[1.0, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]]]
    )  # [1, 1, 4, 4]
    require_equal(
        answer(torch.zeros(1, 1, 4, 4), coarse),
        repeated,
        "Each coarse cell is repeated 2×2; nothing is blended (nearest, not bilinear).",
    )
    require_equal(
        answer(torch.ones(1, 1, 4, 4), coarse),
        repeated + 1,
        "The lateral map is added to the enlarged one, not replaced by it.",
    )
    lateral = torch.ones(1, 1, 2, 2)
    answer(lateral, torch.ones(1, 1, 1, 1))
    require(
        torch.equal(lateral, torch.ones(1, 1, 2, 2)),
        "The lateral map was changed in place: return a new tensor.",
    )
    lateral = torch.arange(15.0).reshape(1, 1, 3, 5)
    small = torch.tensor([[[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]]])
    try:
        got = answer(lateral, small)
    except RuntimeError as error:
        raise CheckFailedError(
            "A lateral map of 3×5 has a coarser one of 2×3, and twice that is 4×6: enlarge to the "
            f"size of the lateral map, not by a factor of two. ({error})"
        ) from error
    exact = lateral + F.interpolate(small, size=(3, 5), mode="nearest-exact")
    require(
        not torch.equal(numbers(got), exact),
        "For odd sizes nearest-exact takes other cells than nearest. torchvision's and "
        "detectron2's pyramids use nearest, and trained weights expect it.",
    )
    require_equal(
        got,
        lateral + F.interpolate(small, size=(3, 5), mode="nearest"),
        "A lateral map of odd size, 3×5, under a coarser one of 2×3.",
    )
    generator = torch.Generator().manual_seed(0)
    for height, width in ((8, 6), (7, 9), (1, 1)):
        lateral = torch.randn(2, 3, height, width, generator=generator)
        small = torch.randn(2, 3, -(-height // 2), -(-width // 2), generator=generator)
        want = lateral + F.interpolate(small, size=(height, width), mode="nearest")
        require_equal(answer(lateral, small), want, f"Random maps of {height}×{width}.")


@check("2.4")
def check_levels(answer: Callable[[Tensor], Tensor]) -> None:
    """Check the pyramid level of boxes (FPN, equation 1)."""

    def squares(*sides: float) -> Tensor:
        side = torch.tensor(sides)
        return torch.stack([torch.zeros_like(side), torch.zeros_like(side), side, side], dim=1)

    require_equal(
        answer(squares(112, 224)), [3, 4], "224×224 goes to level 4, half the side to level 3."
    )
    require_equal(
        answer(squares(200, 400)),
        [3, 4],
        "Just below a threshold the level is still the lower one: round down, not to the nearest.",
    )
    require_equal(
        answer(squares(10, 3000)), [2, 5], "There is no level below 2 and none above 5: clamp."
    )
    require_equal(
        answer(squares(448, 440)), [5, 4], "Twice the side is one level more: log2, not log."
    )
    wide = torch.tensor([[0.0, 0.0, 448.0, 112.0], [100.0, 50.0, 212.0, 162.0]])
    require_equal(
        answer(wide),
        [4, 3],
        "The side is √(w·h), from the differences of the corners: not w, not x2·y2.",
    )
    empty = answer(torch.zeros(0, 4))
    require(empty.shape == (0,), "No boxes give no levels: a tensor of shape [0].")
    require_equal(answer(torch.zeros(1, 4)), [2], "A box without area goes to the finest level.")
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(500, 2, generator=generator) * 300
    boxes = torch.cat([corners, corners + torch.rand(500, 2, generator=generator) * 900], dim=1)
    require_equal(answer(boxes), assign_levels(boxes), "500 random boxes.")
    require(answer(boxes).dtype == torch.int64, "Levels are indices: return int64.")
