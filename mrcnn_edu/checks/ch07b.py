"""Checks of chapter 07b: kernels, run under the recorder; no GPU is needed."""

from collections.abc import Callable
from types import CodeType

import numpy as np
import torch
import torchvision

from mrcnn_edu.checks.ch07_launches import (
    Launched,
    does_not_race,
    launch,
    share_the_work,
    stays_inside,
)
from mrcnn_edu.checks.common import (
    case,
    check,
    require,
    require_equal,
    require_not,
    tensor,
)

# y, x of the first bin's corner, height and width of a bin, on a map of 5 × 6 pixels.
BOX = (0.25, 0.75, 2.0, 1.5)
LITERAL = np.arange(30.0)[:, None] ** 2 * np.array([[1.0, -0.5, 2.0]])  # [H·W, C]


def _placed(seed: int, height: int, width: int, channels: int, bins: int) -> tuple:
    """A map, a box inside it, and both as RoIAlign takes them: [1, C, H, W] and [1, 5]."""
    rng = np.random.default_rng(seed)
    feature = rng.standard_normal((height * width, channels))
    y, x = rng.uniform(0, 1.5, 2)
    tall, wide = (rng.uniform(0.4, 1) * (n - 2 - o) for n, o in ((height, y), (width, x)))
    box = np.array([y, x, tall / bins, wide / bins])
    maps = torch.from_numpy(feature.T.reshape(1, channels, height, width).copy())
    corners = [0, x + 0.5, y + 0.5, x + wide + 0.5, y + tall + 0.5]
    return feature, box, maps, torch.tensor([corners], dtype=torch.float64)


def _pooled(maps: torch.Tensor, roi: torch.Tensor, bins: int, samples: int) -> np.ndarray:
    """torchvision's RoIAlign as [P·P, C]."""
    pooled = torchvision.ops.roi_align(maps, roi, bins, 1.0, samples, True)
    return pooled[0].flatten(1).T.numpy()


@check("7b.1")
def check_forward(answer: Callable) -> None:
    """`answer(feature, width, box, bins, S, out)`: RoIAlign of one box inside the map."""
    for dtype in (np.float64, np.float32):
        case(f"5 × 6 pixels, 2 × 2 bins, {dtype.__name__}")
        feature, box = LITERAL.astype(dtype), np.array(BOX, dtype)
        maps = torch.from_numpy(LITERAL.T.reshape(1, 3, 5, 6).copy())
        roi = torch.tensor([[0, 1.25, 0.75, 4.25, 4.75]], dtype=torch.float64)
        right = _pooled(maps, roi, 2, 2)
        out = np.full((4, 3), 7, dtype)
        found = launch(answer, (1, 3), (4, 2), out, feature, 6, box, 2, 2)
        stays_inside(found, "4 × 6 threads were launched for 3 channels and 4 bins: guard both.")
        require_not(
            out, right[[0, 2, 1, 3]], "Bins 1 and 2 are exchanged: bin b lies in row b // bins."
        )
        require_not(out, 4 * right, "These are sums: divide by the number of samples, S · S.")
        require_not(out, 2 * right, "Divide by S · S: each bin takes S samples along y and x.")
        require_not(out, right + 7, "out held sevens, and they are in your result: write, once.")
        require_equal(out, right, "A map of 5 × 6 pixels, 2 × 2 bins of 2 × 2 samples.", 1e-4)
        does_not_race(found, "One thread for each output.")
        share_the_work(found, "out", 12, "One thread for each bin and channel, no loop over them.")
    case("lanes side by side")
    feature, box, maps, roi = _placed(0, 6, 7, 40, 3)
    out = np.full((9, 40), np.nan, np.float32)
    narrow = [feature.astype(np.float32), 7, box.astype(np.float32), 3, 2]
    found = launch(answer, (2, 9), (32, 1), out, *narrow)
    require_equal(out, _pooled(maps, roi, 3, 2), "40 channels, 3 × 3 bins, float32.", 1e-4)
    most = max(found.sectors("feature"))
    require(most <= 5, f"A request touches {most} sectors: let x run over channels.")
    for seed, (height, width, channels, bins, samples) in enumerate(
        ((5, 9, 3, 1, 1), (9, 5, 2, 3, 1), (8, 8, 1, 2, 3), (6, 11, 4, 2, 2))
    ):
        case(f"random {seed}")
        feature, box, maps, roi = _placed(seed + 1, height, width, channels, bins)
        out = np.full((bins**2, channels), np.nan)
        grid = (-(-channels // 4), -(-bins * bins // 4))
        launch(answer, grid, (4, 4), out, feature, width, box, bins, samples)
        size = f"A map of {height} × {width}, {bins} × {bins} bins, {samples} samples a side."
        require_equal(out, _pooled(maps, roi, bins, samples), size, 1e-9)


@check("7b.2")
def check_pool_scatter(answer: Callable) -> None:
    """`answer(gradient, argmax, out)`: RoIPool's backward, atomically."""
    case("two bins, two channels")
    gradient = np.array([[1.0, 2.0], [4.0, 8.0]])
    argmax = np.array([[0, 1], [0, 2]], np.int32)
    out = np.zeros((3, 2))
    found = launch(answer, (1, 1), (2, 2), out, gradient, argmax)
    stays_inside(found, "out is [H·W, C]: argmax names its row, the channel its column.")
    added = sum(a.kind == "atomic" for a in found.accesses)
    require(
        added <= 4,
        f"There are 4 gradients, and your threads add {added} times: x and y together name one "
        "gradient, so leave out the loop.",
    )
    require_not(
        out,
        [[4, 0], [0, 2], [0, 8]],
        "Both bins of channel 0 chose pixel 0: it gets 1 + 4. Add, do not assign.",
    )
    require_not(
        out, [[0, 0], [0, 2], [0, 8]], "Pixel 0 got nothing, but it is a pixel: only −1 is none."
    )
    require_equal(
        out, [[5, 0], [0, 2], [0, 8]], "Bins chose pixels 0 and 0 of channel 0, 1 and 2 of 1."
    )
    does_not_race(
        found, "Two bins may choose the same pixel, and += can lose one: use cuda.atomic.add."
    )
    alone = "One thread for each gradient: c, b = cuda.grid(2), and no loop."
    share_the_work(found, "out", 4, alone)
    case("what lay in out before")
    out = np.full((3, 2), 7.0)
    launch(answer, (1, 1), (2, 2), out, gradient, argmax)
    require_equal(out, [[12, 7], [7, 9], [7, 15]], "out held sevens; add to what is there.")
    case("empty bins")
    argmax[1] = -1
    out = np.zeros((3, 2))
    launch(answer, (1, 1), (2, 2), out, gradient, argmax)
    require_not(
        out,
        [[1, 0], [0, 2], [4, 8]],
        "argmax −1 means that the bin was empty: it sends nothing. As an index, −1 is the last "
        "pixel.",
    )
    require_equal(out, [[1, 0], [0, 2], [0, 0]], "The second bin is empty, argmax −1.")
    generator = np.random.default_rng(0)
    for bins, channels, pixels in ((9, 5, 30), (4, 40, 6), (1, 1, 1)):
        case(f"{bins} bins, {channels} channels")
        gradient = generator.standard_normal((bins, channels))
        argmax = generator.integers(-1, pixels, (bins, channels)).astype(np.int32)
        out, wanted = np.zeros((pixels, channels)), np.zeros((pixels, channels))
        found = launch(answer, (2, 3), (32, 4), out, gradient, argmax)
        stays_inside(
            found,
            f"There are {bins} bins and {channels} channels, and more threads: guard both before "
            "anything is read.",
        )
        for b, c in zip(*np.nonzero(argmax >= 0), strict=True):
            wanted[argmax[b, c], c] += gradient[b, c]
        sent = wanted.copy()
        sent[:, 12:] = 0
        if channels > 12:
            require_not(
                out, sent, "x runs over channels, of which there are 40: `c, b = cuda.grid(2)`."
            )
        require_equal(out, wanted, f"{bins} bins, {channels} channels, 64 × 12 threads.", 1e-9)
        share_the_work(found, "out", int((argmax >= 0).sum()), alone)


@check("7b.3")
def check_gather(answer: Callable) -> None:
    """`answer(gradient, weight, out)`: out = Wᵀ · gradient, without atomics."""
    case("2 bins, 3 pixels")
    weight = np.array([[0.5, 0.5, 0.0], [0.0, 0.25, 0.75]])
    gradient = np.array([2.0, 4.0])
    out = np.zeros(3)
    found = launch(answer, 1, 3, out, gradient, weight)
    require(
        all(a.kind != "atomic" for a in found.accesses),
        "This adds atomically, so bins are the threads and the order is left to chance. Give each "
        "thread one pixel of out and let it ask all bins.",
    )
    stays_inside(found, "weight is [bins, pixels]: weight[b, i].")
    does_not_race(found, "Each number of out needs one owner: one thread a pixel, not one a bin.")
    require_equal(
        out, [1, 2, 3], "out[i] = Σ_b weight[b, i] · gradient[b], on 2 bins and 3 pixels."
    )
    case("what lay in out before")
    out = np.full(3, np.nan)
    launch(answer, 1, 3, out, gradient, weight)
    once = "Sum in a variable of the thread, write once."
    require(
        not np.isnan(out).all(),
        f"out was not zeroed before the launch, and what lay there is in your sum. {once}",
    )
    require_equal(out, [1, 2, 3], "out held NaN before the launch.")
    share_the_work(found, "out", 3, f"One thread for each pixel. {once}")
    case("what a kernel may hold")
    code = getattr(getattr(answer, "py_func", answer), "__code__", None)
    inner = [c.co_name for c in getattr(code, "co_consts", ()) if isinstance(c, CodeType)]
    require(
        "<genexpr>" not in inner and "<listcomp>" not in inner,
        "The numbers are right, but Numba cannot compile this for a GPU: a kernel has no "
        "generators and makes no lists. Write the loop out.",
    )
    generator = np.random.default_rng(0)
    for bins, pixels in ((5, 7), (7, 5), (1, 1), (16, 40)):
        case(f"{bins} bins, {pixels} pixels")
        weight, gradient = generator.random((bins, pixels)), generator.standard_normal(bins)
        out = np.full(pixels, np.nan)
        found = launch(answer, 6, 8, out, gradient, weight)
        stays_inside(found, f"48 threads were launched for {pixels} pixels: where is the guard?")
        require_equal(out, weight.T @ gradient, f"{bins} bins, {pixels} pixels.", 1e-9)
        share_the_work(found, "out", pixels, f"One thread for each pixel. {once}")


@check("7b.4")
def check_backward(answer: Callable) -> None:
    """`answer(gradient, width, box, bins, S, out)`: the gradient of exercise 7b.1's forward."""
    case("one bin, one sample")
    box = np.array([0.25, 0.75, 1.0, 0.5])  # its middle is y 0.75, x 1.0
    out = np.zeros((12, 1))
    found = launch(answer, 1, 1, out, np.ones((1, 1)), 4, box, 1, 1)
    stays_inside(found, "The map has 3 × 4 pixels.")
    require_not(
        out.reshape(3, 4)[:2, 1:3], [[0, 0.25], [0, 0.75]],
        "The sample lies at x = 1.0: pixel 1 has the whole weight, and yours gives it to pixel 2. "
        "`beside` is the weight of the second pixel.",
    )  # fmt: skip
    require_equal(
        out.reshape(3, 4), [[0, 0.25, 0, 0], [0, 0.75, 0, 0], [0, 0, 0, 0]],
        "A sample at y = 0.75, x = 1.0 on 3 × 4 pixels, gradient 1.",
    )  # fmt: skip
    for seed, (height, width, channels, bins, samples) in enumerate(
        ((5, 6, 1, 1, 2), (5, 9, 3, 2, 1), (9, 5, 5, 3, 2), (8, 8, 1, 2, 3))
    ):
        case(f"random {seed}")
        _, box, maps, roi = _placed(seed + 1, height, width, channels, bins)
        maps.requires_grad_()
        pooled = torchvision.ops.roi_align(maps, roi, bins, 1.0, samples, True)
        generator = torch.Generator().manual_seed(seed)
        sent = torch.randn(pooled.shape, generator=generator, dtype=torch.float64)
        (wanted,) = torch.autograd.grad(pooled, maps, sent)
        gradient = np.ascontiguousarray(sent[0].flatten(1).T.numpy())  # [P·P, C]
        out = np.full((height * width, channels), 7.0)
        grid = (-(-channels // 4), -(-bins * bins // 4))
        found = launch(answer, grid, (4, 4), out, gradient, width, box, bins, samples)
        size = f"{bins} × {bins} bins of {samples} × {samples} samples on {height} × {width} pixels"
        stays_inside(found, f"{size}: there are more threads than bins and channels.")
        does_not_race(found, "Many bins send to one pixel: keep the additions atomic.")
        got = out - 7  # it adds to what was there
        if samples > 1:
            require_not(
                got.sum(0), samples * sent[0].sum((1, 2)),
                f"{size}: {samples} times as much arrives as was sent. A bin is the mean of S · S "
                "samples.",
            )  # fmt: skip
        require_equal(got, wanted[0].flatten(1).T, f"{size}, what arrives.", 1e-9)


@check("7b.5")
def check_pool_roi(answer: Callable) -> None:
    """`answer(kernel, feature, box, bins, S)`: a launch of the forward kernel."""
    for seed, (height, width, channels, bins, samples, dtype) in enumerate((
        (5, 6, 3, 2, 2, torch.float64), (6, 5, 33, 1, 1, torch.float32),
        (7, 9, 1, 7, 2, torch.float64), (9, 7, 64, 3, 2, torch.float32),
        (10, 10, 2, 8, 1, torch.float64),
    )):  # fmt: skip
        what = f"{channels} channels, {bins} × {bins} bins, {dtype}"
        case(what)
        _, box, maps, roi = _placed(seed, height, width, channels, bins)
        kernel = Launched()
        feature, where = maps[0].to(dtype), torch.from_numpy(box).to(dtype)
        before = feature.clone()
        got = tensor(answer(kernel, feature, where, bins, samples), dtype)
        require(torch.equal(before, feature), "Your function writes into its input `feature`.")
        require(kernel.launches == 1, f"{what}: {kernel.launches} launches; one is enough.")
        require(
            kernel.threads[0] == 32 and np.prod(kernel.threads) <= 1024,
            f"{what}: blocks of {kernel.threads} threads; 32 along x, and 1024 at most in all.",
        )
        wanted = torchvision.ops.roi_align(maps, roi, bins, 1.0, samples, True)[0]  # [C, P, P]
        if bins > 1 and channels > 1:
            require_not(
                got.reshape(-1), wanted.flatten(1).T.reshape(-1),
                f"{what}: the numbers are right, in the order of the kernel's [P · P, C]: turn it "
                "over before you reshape.",
            )  # fmt: skip
        require_equal(got, wanted, f"{what}.", 1e-4)
        need = -(-channels // 32) * 32 * (bins * bins + kernel.threads[1])
        require(
            kernel.count <= need,
            f"{what}: {kernel.count} threads for {channels * bins * bins} outputs. Blocks along x "
            "cover channels, along y bins: round up the quotients.",
        )
