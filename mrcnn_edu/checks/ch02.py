"""Checks of chapter 02: receptive field, frozen normalisation, pyramid, levels."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from mrcnn_edu.checks.common import (
    CheckFailedError,
    case,
    check,
    inputs_kept,
    parts,
    require_equal,
    require_not,
    tensor,
)
from mrcnn_edu.nn.layers import FrozenBatchNorm
from mrcnn_edu.roi import assign_levels

Layers = list[tuple[int, int, int]]


def _seen(layers: Layers) -> tuple[int, float]:
    """Pixels seen and centre of the first cell, walked from the cell down to the pixels."""
    low = high = 0
    for kernel, stride, padding in reversed(layers):
        low, high = low * stride - padding, high * stride - padding + kernel - 1
    return high - low + 1, (low + high + 1) / 2


@check("2.1")
def check_receptive_field(answer: Callable[[Sequence[tuple[int, int, int]]], tuple]) -> None:
    """Check (pixels seen, centre of the first cell) of a list of (kernel, stride, padding)."""
    answer = inputs_kept(answer)
    own = "A layer's own stride counts for the layers above it, not for itself."
    apart = "The second layer's cells lie 2 pixels apart: add (k − 1) times the stride so far."
    product = "The stride so far is the product of the strides of all layers below."
    half = "(k − 1)/2 of an even kernel has a half; `//` drops it."
    # Layers, and what misconceptions make of them.
    cases: list[tuple[Layers, dict[tuple[float, float], str]]] = [
        ([], {(1, 0.0): "Without a layer a cell is a pixel, whose centre is at ½."}),
        ([(3, 1, 0)], {}),
        (
            [(3, 1, 1)],
            {
                (3, 1.5): "Padding by 1 puts the first 3×3 on the first pixel: its centre is at ½.",
                (1, 0.5): "Padding adds cells beside the image; a 3×3 still sees 3.",
            },
        ),
        ([(3, 2, 1), (3, 1, 1)], {(5, 0.5): apart, (9, 0.5): own}),
        ([(4, 4, 0), (3, 2, 1)], {(20, 2.0): own, (12, 1.5): half}),
        ([(2, 2, 0), (4, 2, 1)], {(8, 0.5): half}),
        ([(3, 3, 1), (3, 2, 1), (3, 1, 1)], {(13, 0.5): product, (17, 0.5): product}),
    ]
    for layers, misconceptions in cases:
        case(f"layers {layers}" if layers else "no layer")
        got = parts(answer(layers), "pixels seen", "centre")
        for wrong, message in misconceptions.items():
            require_not(got, wrong, f"Layers {layers}. {message}")
        require_equal(got, _seen(layers), f"Pixels seen and centre of the first cell of {layers}.")
    case("the stem of ResNet-50")
    require_equal(answer([(7, 2, 3), (3, 2, 1)]), (11, 0.5), "This is the stem of ResNet-50.")
    generator = torch.Generator().manual_seed(0)
    for number in range(20):
        case(f"random {number}")
        shape = (int(torch.randint(1, 6, (1,), generator=generator)), 3)
        draw = torch.randint(1, 6, shape, generator=generator).tolist()
        layers = [(kernel, stride, padding - 1) for kernel, stride, padding in draw]
        require_equal(answer(layers), _seen(layers), f"Layers {layers}.")


@check("2.2")
def check_scale_and_shift(answer: Callable[..., tuple[Tensor, Tensor]]) -> None:
    """Check the line a·x + b that a frozen batch normalisation is."""
    answer = inputs_kept(answer)

    def compare(name: str, values: tuple, want: tuple, wrong: tuple, why: str) -> None:
        case(name)
        given = [torch.tensor([v]) for v in values]
        got = torch.cat(parts(answer(*given, 0.0), "scale", "shift"))
        require_not(got, wrong, why)
        require_equal(got, want, "γ = {:g}, β = {:g}, μ = {:g}, σ² = {:g}, ε = 0.".format(*values))

    compare(
        "a variance of 4",
        (1.0, 0.0, 0.0, 4.0),
        (0.5, 0.0),
        (0.25, 0.0),
        "A variance of 4 is a standard deviation of 2: divide by the square root.",
    )
    compare(
        "γ = 2",
        (2.0, 0.0, 0.0, 1.0),
        (2.0, 0.0),
        (1.0, 0.0),
        "γ multiplies: it is in the scale.",
    )
    compare("β = 3", (1.0, 3.0, 0.0, 1.0), (1.0, 3.0), (1.0, 0.0), "β is added in the end.")
    compare(
        "μ = 3",
        (1.0, 0.0, 3.0, 1.0),
        (1.0, -3.0),
        (1.0, 3.0),
        "The mean is subtracted, not added.",
    )
    compare(
        "γ, β and μ",
        (2.0, 1.0, 3.0, 1.0),
        (2.0, -5.0),
        (2.0, -2.0),
        "The mean, too, is multiplied by the scale: b = β − μ·a.",
    )
    case("ε")
    one, zero = torch.ones(1), torch.zeros(1)
    scale, _ = parts(answer(one, zero, zero, zero, 0.25), "scale", "shift")
    why = "ε is added to the variance, before the square root: a variance of 0 with ε = ¼ gives 2."
    require_not(scale, [4.0], why)
    require_equal(scale, [2.0], "A variance of 0 with ε = ¼.")
    case("random values")
    generator = torch.Generator().manual_seed(0)
    weight, bias, mean = torch.randn(3, 6, generator=generator)
    variance = torch.rand(6, generator=generator)
    norm = FrozenBatchNorm(6, eps=0.1)
    norm.load_state_dict(
        {"weight": weight, "bias": bias, "running_mean": mean, "running_var": variance}
    )
    x = torch.randn(2, 6, 3, 3, generator=generator)
    scale, shift = parts(answer(weight, bias, mean, variance, 0.1), "scale", "shift")
    found = x * scale[:, None, None] + shift[:, None, None]
    require_equal(found, norm(x), "Random values, ε = 0.1.")


@check("2.3")
def check_top_down(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Check one top-down step of a feature pyramid."""
    answer = inputs_kept(answer)
    case("4×4 over 2×2")
    coarse = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    lateral = 10 * torch.arange(16.0).reshape(1, 1, 4, 4)
    repeated = coarse.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)  # [1, 1, 4, 4]
    got = tensor(answer(lateral, coarse))
    require_not(got, repeated, "The lateral map is added to the enlarged one, not replaced by it.")
    for corners in (False, True):
        blended = F.interpolate(coarse, size=(4, 4), mode="bilinear", align_corners=corners)
        why = "Each coarse cell is repeated 2×2; nothing is blended (nearest, not bilinear)."
        require_not(got, lateral + blended, why)
    require_not(
        got,
        lateral + coarse.repeat(1, 1, 2, 2),
        "The whole coarse map was put side by side, 2×2 times; each of its cells is repeated.",
    )
    require_equal(got, lateral + repeated, "A lateral map of 4×4 and a coarser one of 2×2.")
    case("3×5 over 2×3")
    lateral = torch.arange(15.0).reshape(1, 1, 3, 5)
    small = torch.tensor([[[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]]])
    try:
        got = answer(lateral, small)
    except RuntimeError as error:
        raise CheckFailedError(
            "A lateral map of 3×5 has a coarser one of 2×3, and twice that is 4×6: enlarge to the "
            f"size of the lateral map, not by a factor of two. ({error})"
        ) from error
    require_not(
        got,
        lateral + F.interpolate(small, size=(3, 5), mode="nearest-exact"),
        "For odd sizes nearest-exact takes other cells than nearest. torchvision's and "
        "detectron2's pyramids use nearest, and trained weights expect it.",
    )
    want = lateral + F.interpolate(small, size=(3, 5), mode="nearest")
    require_equal(got, want, "A lateral map of odd size, 3×5, over a coarser one of 2×3.")
    generator = torch.Generator().manual_seed(0)
    for height, width in ((8, 6), (7, 9), (1, 1)):
        case(f"random maps of {height}×{width}")
        lateral = torch.randn(2, 3, height, width, generator=generator)
        small = torch.randn(2, 3, -(-height // 2), -(-width // 2), generator=generator)
        want = lateral + F.interpolate(small, size=(height, width), mode="nearest")
        require_equal(answer(lateral, small), want, f"Random maps of {height}×{width}.")


@check("2.4")
def check_levels(answer: Callable[[Tensor], Tensor]) -> None:
    """Check the pyramid level of boxes (FPN, equation 1)."""
    answer = inputs_kept(answer)

    def squares(*sides: float) -> Tensor:
        side = torch.tensor(sides)
        return torch.stack([torch.zeros_like(side), torch.zeros_like(side), side, side], dim=1)

    nearest = "Just below a threshold the level is still the lower one: round down."
    case("boxes that are not square")
    wide = torch.tensor([[0.0, 0, 448, 112], [300, 300, 412, 412], [0, 0, 100, 400]])
    got = answer(wide)
    require_not(got, [5, 3, 2], "The side is √(w·h), from both sides: not the width.")
    require_not(got, [3, 3, 4], "The side is √(w·h), from both sides: not the height.")
    require_not(got, [4, 4, 3], "Width and height are differences of corners: not x2 and y2.")
    require_not(got, [5, 3, 4], "The side is √(w·h), not the diagonal.")
    require_not(got, [4, 3, 4], nearest)
    require_equal(got, [4, 3, 3], "448×112, 112×112 far from the corner, 100×400.")
    case("sides 112, 224, 448 and 440")
    got = tensor(answer(squares(112, 224, 448, 440)))
    require_not(got, [3, 4, 4, 4], "Twice the side is one level more: log2, not log.")
    require_equal(got, [3, 4, 5, 4], "Squares of 112, 224, 448 and 440 pixels.")
    case("sides 200 and 400")
    require_equal(answer(squares(200, 400)), [3, 4], "Squares of 200 and 400 pixels.")
    case("sides 10 and 3000")
    got = answer(squares(10, 3000))
    require_not(got, [-1, 7], "There is no level below 2 and none above 5: clamp.")
    require_equal(got, [2, 5], "Squares of 10 and 3000 pixels.")
    case("no boxes")
    require_equal(answer(torch.zeros(0, 4)), torch.zeros(0), "No boxes give no levels.")
    case("a box without area")
    require_equal(answer(torch.zeros(1, 4)), [2], "A box without area goes to the finest level.")
    case("a hair below 224")
    got = answer(squares(223.99995, 223.98))
    require_not(
        got,
        [3, 3],
        "A side of 223.99995 is 224 but for rounding: add 1e-6 before you round down, as the text "
        "does.",
    )
    require_not(got, [4, 4], "A side of 223.98 is less than 224 by more than rounding makes.")
    require_equal(got, [4, 3], "Squares of 223.99995 and 223.98 pixels.")
    case("random boxes")
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(500, 2, generator=generator) * 300
    boxes = torch.cat([corners, corners + torch.rand(500, 2, generator=generator) * 900], dim=1)
    require_equal(tensor(answer(boxes), torch.int64), assign_levels(boxes), "500 random boxes.")
