"""Checks of chapter 06: gradients of RoI operators, merged taps, shares of threads."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mrcnn_edu.checks.common import check, require, require_equal
from mrcnn_edu.roi import reference


@check("6.1")
def check_sample_backward(answer: Callable) -> None:
    """``answer(g, y, x, height, width)``: gradient [H, W] of one bilinear sample."""
    require_equal(
        answer(8.0, 1.25, 0.5, 3, 2),
        [[0, 0], [3, 3], [1, 1]],
        "A sample at (1.25, 0.5) reads rows 1 and 2 with weights ¾ and ¼, columns 0 and 1 with ½ "
        "each. Is y the row?",
    )
    require_equal(
        answer(1.0, 2.0, 1.0, 4, 3),
        [[0, 0, 0], [0, 0, 0], [0, 1, 0], [0, 0, 0]],
        "A sample on a pixel gives that pixel everything.",
    )
    require_equal(
        answer(1.0, 2.0, 0.5, 3, 2),
        [[0, 0], [0, 0], [0.5, 0.5]],
        "On the last row there is no row below: both taps are the same pixel, and what they get "
        "must be added, not assigned.",
    )
    require_equal(
        answer(1.0, -0.75, 1.75, 2, 2),
        [[0, 1], [0, 0]],
        "Less than one pixel outside, the border's value continues: clamp the coordinate, and the "
        "border pixel gets everything.",
    )
    require_equal(
        answer(1.0, -1.0, 3.0, 2, 3),
        [[0, 0, 1], [0, 0, 0]],
        "A sample exactly one pixel outside still reads the border: only y < -1 or y > H is too "
        "far, the same for x.",
    )
    for y, x in ((-1.5, 0.0), (0.0, 4.5), (3.5, 1.0)):
        require_equal(
            answer(1.0, y, x, 3, 4),
            torch.zeros(3, 4),
            f"A sample more than one pixel outside reads nothing, so nothing goes back: ({y}, {x}) "
            "on a 3 × 4 map.",
        )
    generator = np.random.default_rng(0)
    for _ in range(50):
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
    """``answer(gradient, bins, feature)``: gradient [H, W] of RoIPool."""
    f8 = torch.float64
    one = [[(0, 0), (0, 1), (1, 0), (1, 1)]]
    require_equal(
        answer(torch.tensor([4.0], dtype=f8), one, torch.tensor([[1.0, 2.0], [9.0, 3.0]])),
        [[0, 0], [4, 0]],
        "One bin of four pixels: the largest, 9, gets the whole gradient and the others none. It "
        "is not shared as in a mean.",
    )
    require_equal(
        answer(
            torch.tensor([1.0, 2.0], dtype=f8),
            [[(0, 0), (0, 1)], [(0, 1), (0, 2)]],
            torch.tensor([[1.0, 5.0, 2.0]]),
        ),
        [[0, 3, 0]],
        "Two bins have the same largest pixel: it gets the sum of both gradients.",
    )
    require_equal(
        answer(torch.tensor([1.0, 2.0], dtype=f8), [[], [(0, 0)]], torch.tensor([[-1.0, 3.0]])),
        [[2, 0]],
        "A bin without pixels has nowhere to send its gradient, and a negative value can be the "
        "largest of its bin.",
    )
    require_equal(
        answer(torch.tensor([1.0], dtype=f8), one, torch.tensor([[2.0, 7.0], [7.0, 7.0]])),
        [[0, 1], [0, 0]],
        "Of several equally large pixels the first one gets the gradient, and only that one.",
    )
    generator = np.random.default_rng(0)
    for distinct in [True] * 15 + [False] * 15:
        gradient, bins, feature, wanted = _pool_case(generator, distinct)
        require_equal(
            answer(gradient, bins, feature), wanted, "A random map, box and gradient.", 1e-9
        )


@check("6.3")
def check_merge_taps(answer: Callable) -> None:
    """``answer(pixels, weights)``: each pixel once, with the sum of its weights."""

    def compare(pixels: list[int], weights: list[float], want: tuple[list, list], why: str) -> None:
        got = answer(list(pixels), list(weights))
        require(
            isinstance(got, tuple) and len(got) == 2,
            "Return two lists, pixels and weights: `return pixels, weights`.",
        )
        require_equal(list(got[0]), want[0], f"{why}\nThe pixels of {pixels}.")
        require_equal(list(got[1]), want[1], f"{why}\nThe weights of {pixels}, {weights}.", 1e-9)

    compare(
        [3, 4, 3, 4],
        [0.375, 0.125, 0.125, 0.375],
        ([3, 4], [0.5, 0.5]),
        "Two samples between the same two pixels: two taps are left, with summed weights.",
    )
    compare(
        [3, 4, 4, 5],
        [0.25, 0.25, 0.375, 0.125],
        ([3, 4, 5], [0.25, 0.625, 0.125]),
        "The second sample starts at the pixel where the first one ended.",
    )
    compare([], [], ([], []), "A bin outside the map has no taps.")
    compare(
        [0, 1],
        [0.125, 0.375],
        ([0, 1], [0.125, 0.375]),
        "Where samples lie outside the map, the weights of a bin sum to less than 1. Add them, do "
        "not normalise.",
    )
    compare(
        [5, 6, 4, 5, 3, 4],
        [0.1, 0.2, 0.2, 0.1, 0.3, 0.1],
        ([5, 6, 4, 3], [0.2, 0.2, 0.3, 0.3]),
        "A reversed box walks back, so a pixel can return after others: look at all taps so far, "
        "not only at the last ones, and keep the order of first appearance.",
    )
    generator = np.random.default_rng(0)
    for _ in range(30):
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


def _watched(height: int, width: int) -> _Watched:
    out = np.zeros((height, width), np.float32).view(_Watched)
    out.cells, out.written = np.arange(height * width).reshape(height, width), set()
    return out


@check("6.4")
def check_share(answer: Callable) -> None:
    """``answer(taps, out, first, step)``: one thread's share of the backward."""
    taps = [[(0, 0, 0.5, 2.0), (1, 0, 0.5, 2.0)], [(1, 0, 1.0, 4.0)]]
    out = _watched(2, 1)
    result = answer(taps, out, 0, 1)
    require(result is None, "Add to out in place and return nothing.")
    require_equal(
        out.tolist(), [[1.0], [5.0]], "One share does everything: out[i, j] += weight * g."
    )
    generator = np.random.default_rng(0)
    for _ in range(10):
        height, width = generator.integers(3, 9, 2).tolist()
        many = []
        for _ in range(7):
            i, j = generator.integers(0, height, 20), generator.integers(0, width, 20)
            values = generator.standard_normal((2, 20)).astype(np.float32)
            many.append(list(zip(i.tolist(), j.tolist(), *values, strict=True)))
        alone = _watched(height, width)
        answer(many, alone, 0, 1)
        for step in (2, 3, 5):
            _check_shares(answer, many, alone, step)


def _check_shares(answer: Callable, taps: list, alone: _Watched, step: int) -> None:
    """All shares of ``step``, from the last to the first, against one that does everything."""
    together = np.zeros(alone.shape, np.float32)
    owner: dict[int, int] = {}
    width = alone.shape[1]
    for first in reversed(range(step)):
        out = _watched(*alone.shape)
        answer(taps, out, first, step)
        for cell in out.written:
            require(
                owner.setdefault(cell, first) == first,
                f"Shares {owner.get(cell)} and {first} of {step} both write pixel "
                f"{divmod(cell, width)}: on two threads one of the additions can be lost. Did you "
                "divide the RoIs? Divide the pixels, and leave those of others alone: adding 0 "
                "to one is a write, too.",
            )
        together += _plain(out)
    missing = alone.written - owner.keys()
    require(
        not missing,
        f"With {step} shares nobody writes pixel {divmod(min(missing, default=0), width)}. Every "
        f"row needs an owner, also where the number of rows is not a multiple of {step}.",
    )
    require(
        np.array_equal(together, alone.view(np.ndarray)),
        f"With {step} shares the sums differ from those of one share. Each pixel's owner must add "
        "every tap of that pixel, in the order of the RoIs.",
    )
