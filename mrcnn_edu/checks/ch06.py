"""Checks of chapter 06: gradients of RoI operators, merged taps, shares of threads."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

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
from mrcnn_edu.roi import reference


@check("6.1")
def check_sample_backward(answer: Callable) -> None:
    """`answer(g, y, x, height, width)`: gradient [H, W] of one bilinear sample."""
    answer = inputs_kept(answer)
    case("a sample at (1.25, 0.5)")
    got = tensor(answer(8.0, 1.25, 0.5, 3, 2), torch.float64)
    reads = "A sample at (1.25, 0.5) reads rows 1 and 2 with ¾ and ¼, columns 0 and 1 with ½ each."
    weights = torch.tensor([[0.0, 0], [0.375, 0.375], [0.125, 0.125]])
    require_not(got, weights, "These are the weights; each is multiplied by g, here 8.")
    require_not(got, [[0, 4], [0, 4], [0, 0]], f"{reads} y is the row.")
    require_not(got, [[0, 0], [1, 1], [3, 3]], f"{reads} The nearer row has the larger weight.")
    require_equal(got, [[0, 0], [3, 3], [1, 1]], reads)
    case("a sample on a pixel")
    require_equal(
        answer(1.0, 2.0, 1.0, 4, 3),
        [[0, 0, 0], [0, 0, 0], [0, 1, 0], [0, 0, 0]],
        "A sample on a pixel gives that pixel everything.",
    )
    case("a sample on the last row")
    got = tensor(answer(1.0, 2.0, 0.5, 3, 2))
    last = "On the last row there is no row below: both taps are the same pixel"
    require_not(got, torch.zeros(3, 2), f"{last}, and what they get must be added, not assigned.")
    require_equal(got, [[0, 0], [0, 0], [0.5, 0.5]], f"{last}.")
    case("less than a pixel outside")
    for y, x, row, column in ((-0.75, 1.75, 0, 1), (1.5, 0.0, 1, 0), (1.0, -0.5, 1, 0)):
        wanted = torch.zeros(2, 2)
        wanted[row, column] = 1
        got = tensor(answer(1.0, y, x, 2, 2))
        near = f"({y}, {x}) on a 2 × 2 map is less than one pixel outside: the border's value"
        require_not(got, torch.zeros(2, 2), f"{near} continues, so clamp the coordinate.")
        require_equal(got, wanted, f"{near} continues, and the border pixel gets everything.")
    case("exactly a pixel outside")
    edge = "exactly one pixel outside still reads the border"
    for y, x, row, column in ((-1.0, 3.0, 0, 2), (2.0, -1.0, 1, 0)):
        wanted = torch.zeros(2, 3)
        wanted[row, column] = 1
        got = tensor(answer(1.0, y, x, 2, 3))
        why = f"({y}, {x}) on a 2 × 3 map is {edge}"
        far = f"{why}: only y < −1 or y > H is too far, the same for x."
        require_not(got, torch.zeros(2, 3), far)
        require_equal(got, wanted, f"{why}.")
    case("more than a pixel outside")
    for y, x in ((-1.5, 0.0), (0.0, 4.5), (3.5, 1.0), (1.0, -1.25)):
        require_equal(
            answer(1.0, y, x, 3, 4),
            torch.zeros(3, 4),
            f"A sample more than one pixel outside reads nothing, so nothing goes back: ({y}, {x}) "
            "on a 3 × 4 map.",
        )
    generator = np.random.default_rng(0)
    for number in range(50):
        case(f"random {number}")
        height, width = generator.integers(1, 6, 2).tolist()
        g, y, x = generator.standard_normal(), *generator.uniform(-1.6, 7, 2)
        wanted = torch.zeros(height, width, dtype=torch.float64)
        for i, j, weight in reference.bilinear(y, x, height, width):
            wanted[i, j] += weight * g
        require_equal(
            answer(float(g), float(y), float(x), height, width),
            wanted,
            f"A sample at ({y:.2f}, {x:.2f}) of a {height} × {width} map.",
            1e-9,
        )


def _pool_case(
    generator: np.random.Generator, distinct: bool
) -> tuple[Tensor, list[list[tuple[int, int]]], Tensor, Tensor]:
    """Gradient, bins, feature and the gradient that should go back, of a random RoIPool."""
    height, width = generator.integers(3, 9, 2).tolist()
    values = generator.permutation(height * width)
    if not distinct:
        values = values % 3
    feature = torch.from_numpy(values.reshape(height, width).astype(np.float64))
    low = generator.uniform(-3, 6, 2)
    box = [*low, *(low + generator.uniform(0, 8, 2))]
    bins = [pixels for _, _, pixels in reference.pool_bins(box, (2, 3), (height, width), 1.0)]
    gradient = torch.from_numpy(generator.standard_normal(6))
    wanted = reference.pool_backward(
        gradient.numpy().reshape(1, 2, 3), feature.numpy()[None], box, (2, 3), 1.0
    )
    return gradient, bins, feature, torch.from_numpy(wanted[0])


@check("6.2")
def check_pool_backward(answer: Callable) -> None:
    """`answer(gradient, bins, feature)`: gradient [H, W] of RoIPool."""
    answer = inputs_kept(answer)
    f4 = torch.float32
    one = [[(0, 0), (0, 1), (1, 0), (1, 1)]]
    case("one bin")
    got = tensor(answer(torch.tensor([4.0]), one, torch.tensor([[1.0, 2.0], [9.0, 3.0]])), f4)
    require_not(
        got,
        [[1, 1], [1, 1]],
        "One bin of four pixels: the largest, 9, gets the whole gradient and the others none. It "
        "is not shared as in a mean.",
    )
    require_equal(got, [[0, 0], [4, 0]], "One bin of four pixels: the largest, 9, gets it all.")
    case("two bins with one largest pixel")
    got = tensor(
        answer(
            torch.tensor([1.0, 2.0]),
            [[(0, 0), (0, 1)], [(0, 1), (0, 2)]],
            torch.tensor([[1.0, 5, 2]]),
        )
    )
    both = "Two bins have the same largest pixel: it gets the sum of both gradients"
    require_not(got, [[0, 2, 0]], f"{both}; you assigned the second over the first.")
    require_equal(got, [[0, 3, 0]], f"{both}.")
    case("a bin without pixels, and a negative value")
    got = tensor(answer(torch.tensor([1.0, 2.0]), [[], [(0, 0)]], torch.tensor([[-1.0, 3.0]])))
    require_not(
        got,
        [[0, 0]],
        "The only pixel of a bin holds −1, and a negative value can be the largest of its bin: "
        "begin with the first pixel, not with 0.",
    )
    require_equal(got, [[2, 0]], "A bin without pixels has nowhere to send its gradient.")
    case("equal pixels")
    got = tensor(answer(torch.tensor([1.0]), one, torch.tensor([[2.0, 7.0], [7.0, 7.0]])))
    first = "Of several equally large pixels the first one gets the gradient, and only that one"
    require_not(got, [[0, 0], [0, 1]], f"{first}; yours is the last.")
    for each in (1.0, 1 / 3):
        require_not(got, [[0, each], [each, each]], f"{first}; all three have some.")
    require_equal(got, [[0, 1], [0, 0]], f"{first}.")
    generator = np.random.default_rng(0)
    for number, distinct in enumerate([True] * 15 + [False] * 15):
        case(f"random {number}")
        gradient, bins, feature, wanted = _pool_case(generator, distinct)
        got = tensor(answer(gradient, bins, feature), feature.dtype)
        require_equal(got, wanted, "A random map, box and gradient.", 1e-9)


@check("6.3")
def check_merge_taps(answer: Callable) -> None:
    """`answer(pixels, weights)`: each pixel once, with the sum of its weights."""

    answer = inputs_kept(answer)

    def of(pixels: list[int], weights: list[float]) -> tuple[list, list]:
        got = parts(answer(list(pixels), list(weights)), "pixels", "weights")
        return list(got[0]), list(got[1])

    def compare(pixels: list[int], weights: list[float], want: tuple[list, list], why: str) -> None:
        got = of(pixels, weights)
        require_equal(got[0], want[0], f"{why}\nThe pixels of {pixels}.")
        require_equal(got[1], want[1], f"{why}\nThe weights of {pixels}, {weights}.", 1e-9)

    case("two samples between the same two pixels")
    between = [3, 4, 3, 4], [0.375, 0.125, 0.125, 0.375]
    two = "Two samples between the same two pixels: two taps are left, with summed weights"
    require_not(of(*between)[1], [0.125, 0.375], f"{two}; yours are those of the last sample.")
    compare(*between, ([3, 4], [0.5, 0.5]), f"{two}.")
    case("a sample that starts where another ended")
    chain = [3, 4, 4, 5], [0.25, 0.25, 0.375, 0.125]
    compare(*chain, ([3, 4, 5], [0.25, 0.625, 0.125]), "Two samples share pixel 4.")
    case("no taps")
    compare([], [], ([], []), "A bin outside the map has no taps.")
    case("weights that sum to less than 1")
    half = [0, 1], [0.125, 0.375]
    less = "Where samples lie outside the map, the weights of a bin sum to less than 1. Add them"
    require_not(of(*half)[1], [0.25, 0.75], f"{less}, do not normalise.")
    compare(*half, ([0, 1], [0.125, 0.375]), f"{less}.")
    case("a weight of 0")
    compare([2, 3, 4], [0.5, 0.0, 0.5], ([2, 3, 4], [0.5, 0.0, 0.5]), "Pixel 3 stays: it is read.")
    case("a reversed box")
    back = [5, 6, 4, 5, 3, 4], [0.1, 0.2, 0.2, 0.1, 0.3, 0.1]
    walks = "A reversed box walks back, so a pixel can return after others"
    require_not(of(*back)[0], [3, 4, 5, 6], f"{walks}; keep the order of first appearance.")
    require_not(
        of(*back)[0],
        [5, 6, 4, 5, 3, 4],
        f"{walks}: look at all taps so far, not only at the last ones.",
    )
    compare(*back, ([5, 6, 4, 3], [0.2, 0.2, 0.3, 0.3]), f"{walks}.")
    generator = np.random.default_rng(0)
    for number in range(30):
        case(f"random {number}")
        pixels = generator.integers(0, 6, generator.integers(1, 12)).tolist()
        weights = generator.random(len(pixels)).round(2).tolist()
        order = list(dict.fromkeys(pixels))
        sums = [sum(w for p, w in zip(pixels, weights, strict=True) if p == q) for q in order]
        compare(pixels, weights, (order, sums), "Random taps.")


class _Watched(np.ndarray):
    """An array that notes which of its elements are assigned, through views and in place too."""

    cells: np.ndarray  # of each element, its number in the whole array
    written: set[int]

    def __getitem__(self, key):  # type: ignore[no-untyped-def]
        found = super().__getitem__(key)
        if isinstance(found, _Watched):
            found.cells, found.written = self.cells[key], self.written
        return found

    def __setitem__(self, key, value):  # type: ignore[no-untyped-def]
        self.written.update(np.ravel(self.cells[key]).tolist())
        super().__setitem__(key, value)

    def __array_ufunc__(self, ufunc, method, *inputs, out=(), **options):  # type: ignore[no-untyped-def]
        if method == "at" and isinstance(inputs[0], _Watched):
            self.written.update(np.ravel(inputs[0].cells[inputs[1]]).tolist())
        for target in out:
            if isinstance(target, _Watched):
                self.written.update(target.cells.ravel().tolist())
        plain = [_plain(a) for a in inputs]
        if out:
            options["out"] = tuple(_plain(a) for a in out)
        result = getattr(ufunc, method)(*plain, **options)
        return out[0] if len(out) == 1 else result


def _plain(value: Any) -> Any:
    return value.view(np.ndarray) if isinstance(value, _Watched) else value


def _watched(start: np.ndarray) -> _Watched:
    """A copy of an array that notes what is assigned."""
    out = start.copy().view(_Watched)
    out.cells, out.written = np.arange(start.size).reshape(start.shape), set()
    return out


@check("6.4")
def check_share(answer: Callable) -> None:
    """`answer(taps, out, first, step)`: one thread's share of the backward."""
    case("one share")
    taps = [[(0, 0, 0.5, 2.0), (1, 0, 0.5, 2.0)], [(1, 0, 1.0, 4.0)]]
    out = _watched(np.zeros((2, 1), np.float32))
    result = answer(taps, out, 0, 1)
    require(result is None, "Add to out in place and return nothing.")
    require_not(out.tolist(), [[2.0], [6.0]], "Each g is multiplied by its weight.")
    require_not(out.tolist(), [[1.0], [4.0]], "Two taps of pixel (1, 0) add up: out[i, j] += …")
    require_equal(out.tolist(), [[1.0], [5.0]], "One share does everything.")
    case("what lay in out before")
    out = _watched(np.array([[10.0], [20.0]], np.float32))
    answer(taps, out, 0, 1)
    require_equal(out.tolist(), [[11.0], [25.0]], "out held 10 and 20; add to what is there.")
    generator = np.random.default_rng(0)
    for number in range(10):
        height, width = generator.integers(3, 9, 2).tolist()
        many = []
        for _ in range(7):
            i, j = generator.integers(0, height, 20), generator.integers(0, width, 20)
            values = generator.standard_normal((2, 20)).astype(np.float32)
            many.append(list(zip(i.tolist(), j.tolist(), *values, strict=True)))
        start = generator.standard_normal((height, width)).astype(np.float32)
        case(f"random {number}, 1 share")
        alone, wanted = _watched(start), start.copy()
        answer(many, alone, 0, 1)
        for i, j, weight, g in (tap for roi in many for tap in roi):
            wanted[i, j] += weight * g
        require_equal(_plain(alone).tolist(), wanted, "One share does everything, on random taps.")
        for step in (2, 3, 5):
            case(f"random {number}, {step} shares")
            _check_shares(answer, many, start, alone, step)


def _check_shares(
    answer: Callable, taps: list, start: np.ndarray, alone: _Watched, step: int
) -> None:
    """All shares of `step`, from the last to the first, against one that does everything."""
    together = _watched(start)
    owner: dict[int, int] = {}
    width = alone.shape[1]
    for first in reversed(range(step)):
        together.written.clear()
        answer(taps, together, first, step)
        for cell in together.written:
            require(
                owner.setdefault(cell, first) == first,
                f"Shares {owner.get(cell)} and {first} of {step} both write pixel "
                f"{divmod(cell, width)}: on two threads one of the additions can be lost. Did you "
                "divide the RoIs? Divide the pixels, and leave those of others alone: adding 0 "
                "to one is a write, too.",
            )
    missing = alone.written - owner.keys()
    require(
        not missing,
        f"With {step} shares nobody writes pixel {divmod(min(missing, default=0), width)}. Every "
        f"row needs an owner, also where the number of rows is not a multiple of {step}.",
    )
    require(
        np.array_equal(_plain(together), _plain(alone)),
        f"With {step} shares the sums differ from those of one share. Each pixel's owner must add "
        "every tap of that pixel, in the order of the RoIs.",
    )
