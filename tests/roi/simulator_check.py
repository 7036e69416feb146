"""Run every GPU kernel in Numba's simulator against the NumPy reference; a script.

Started by test_cuda.py in a process of its own, since the simulator is chosen by an environment
variable when numba is imported. float64, so that only the order of sums may differ: 1e-12.
"""

import os
from typing import Any

os.environ["NUMBA_ENABLE_CUDASIM"] = "1"

import numpy as np
import torch
from numba.cuda.simulator.cudadrv.devicearray import FakeCUDAArray
from torch import Tensor

from mrcnn_edu.roi import reference
from mrcnn_edu.roi.cpu import launch as cpu
from mrcnn_edu.roi.cpu import taps
from mrcnn_edu.roi.cuda import device, mean, pool
from mrcnn_edu.roi.cuda import launch as cuda

N, C, H, W, SIZE, SCALE = 2, 2, 5, 6, (2, 3), 0.5
BINS = SIZE[0] * SIZE[1]
Array = np.ndarray[Any, Any]


def same(name: str, ours: Array, expected: Array) -> None:
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-12, err_msg=name)
    print(name)


def grid(channels_last: bool, rois: int) -> tuple[tuple[int, int, int], tuple[int, int]]:
    """Blocks smaller than the output, so that block indices matter, and threads to spare."""
    fast, slow = (C, BINS) if channels_last else (BINS, C)
    return (rois, -(-slow // 2), -(-fast // 4)), (4, 2)


def check(channels_last: bool, aligned: bool, rounded: bool, sampling: int, rng: Any) -> None:
    """All kernels of one configuration, on RoIs inside, outside, empty and reversed."""
    x = rng.standard_normal((N, C, H, W))
    feature = x.reshape(N, C, H * W).transpose(0, 2, 1).copy()  # [N, H·W, C]
    rois = np.array(
        [[0, 1.3, 0.4, 9.1, 8.2], [1, -3.0, 2.5, 30.0, 7.0], [1, 5.0, 5.0, 5.0, 5.0],
         [0, 8.0, 9.0, 3.0, 2.0], [1, 40.0, 40.0, 50.0, 50.0]]
    )  # fmt: skip
    count = len(rois)
    levels = np.array([0, 0, 0, 0, 0])
    launch = grid(channels_last, count)
    rows = (N * H, 1), (4, 1)
    gradient = rng.standard_normal((count, C, *SIZE))
    g = gradient.reshape(count, C, BINS).transpose(0, 2, 1).copy()  # [R, Ph·Pw, C]
    how = (aligned, rounded, sampling)
    name = f"channels_last={channels_last} {how}"

    def rows_of(call: Any) -> Array:
        return np.stack([call(x[int(r[0])], r[1:]) for r in rois]).reshape(count, C, BINS)

    def sum_of(call: Any) -> Array:
        total = np.zeros_like(x)
        for i, r in enumerate(rois):
            total[int(r[0])] += call(gradient[i], x[int(r[0])], r[1:])
        return total.reshape(N, C, H * W)

    arguments = (SIZE, SCALE, sampling, aligned, rounded)
    out = np.full((count, BINS, C), np.nan)
    tail = (rois, levels, 0, SCALE, *how, SIZE[1], channels_last)
    mean.forward[launch](feature, W, *tail, out)
    expected = rows_of(lambda m, b: reference.sampled_forward(m, b, *arguments))
    same(f"{name} mean forward", out.transpose(0, 2, 1), expected)
    expected = sum_of(lambda d, m, b: reference.sampled_backward(d, m, b, *arguments))
    for kernel, shape in ((mean.backward, launch), (mean.backward_by_rows, rows)):
        total = np.zeros((N, H * W, C))
        kernel[shape](g, W, *tail, total)
        same(f"{name} mean backward", total.transpose(0, 2, 1), expected)

    out, argmax = np.full((count, BINS, C), np.nan), np.zeros((count, BINS, C), np.int32)
    pool.forward[launch](feature, W, rois, levels, 0, SCALE, SIZE[1], channels_last, out, argmax)
    expected = rows_of(lambda m, b: reference.pool_forward(m, b, SIZE, SCALE))
    same(f"{name} pool forward", out.transpose(0, 2, 1), expected)
    expected = sum_of(lambda d, m, b: reference.pool_backward(d, m, b, SIZE, SCALE))
    total = np.zeros((N, H * W, C))
    pool.backward[launch](g, argmax, rois, levels, 0, channels_last, total)
    same(f"{name} pool backward", total.transpose(0, 2, 1), expected)
    total = np.zeros((N, H * W, C))
    pool.backward_by_rows[rows](g, argmax, W, rois, levels, 0, total)
    same(f"{name} pool backward by rows", total.transpose(0, 2, 1), expected)
    check_launch(name, x, rois, gradient, how, channels_last)


def check_launch(
    name: str, x: Array, rois: Array, gradient: Array, how: Any, channels_last: bool
) -> None:
    """What surrounds the kernels: two levels, either layout, both backwards, as on the CPU."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    maps = [torch.from_numpy(m).contiguous(memory_format=layout) for m in (x, x[:, :, :3, :4])]
    shapes = [tuple(m.shape) for m in maps]
    where = (torch.from_numpy(rois), torch.tensor([0, 1, 1, 0, 1]))
    scales, given = [SCALE, SCALE / 2], torch.from_numpy(gradient)

    def equal(what: str, ours: list[Tensor], expected: list[Tensor]) -> None:
        for a, b in zip(ours, expected, strict=True):
            assert a.is_contiguous(memory_format=layout)
            torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
        print(f"{name} launch {what}")

    arguments = (maps, *where, SIZE, scales)
    equal("mean", [cuda.mean_forward(*arguments, how)], [cpu.mean_forward(*arguments, how)])
    pooled = cpu.pool_forward(*arguments)
    equal("pool", list(cuda.pool_forward(*arguments)), list(pooled))
    tail = (*where, shapes)
    for deterministic in (False, True):
        torch.use_deterministic_algorithms(deterministic)
        back = [module.mean_backward(given, *tail, scales, how, channels_last)
                for module in (cuda, cpu)]  # fmt: skip
        equal("mean backward", *back)
        back = [module.pool_backward(given, pooled[1], *tail, channels_last)
                for module in (cuda, cpu)]  # fmt: skip
        equal("pool backward", *back)
    torch.use_deterministic_algorithms(False)


def check_levels() -> None:
    """A launch writes the rows of its own level and no other."""
    rois = np.array([[0, 0.0, 0.0, 4.0, 4.0], [0, 0.0, 0.0, 4.0, 4.0]])
    out = np.full((2, BINS, C), np.nan)
    mean.forward[grid(True, 2)](
        np.ones((1, H * W, C)),
        W,
        rois,
        np.array([1, 0]),
        1,
        1.0,
        True,
        False,
        2,
        SIZE[1],
        True,
        out,
    )
    assert np.isfinite(out[0]).all()
    assert np.isnan(out[1]).all()
    print("levels")


def check_bfloat16() -> None:
    """Widening the 16 bits of a bfloat16: exact, checked on bits written out by hand."""
    for bits, value in ((0x3F80, 1.0), (0xC040, -3.0), (0x0000, 0.0), (0x3DCD, 0.10009765625)):
        assert device.widen_bfloat16(np.uint16(bits), np.float32) == np.float32(value)
    print("bfloat16")


def check_geometry(rng: Any) -> None:
    """A GPU's geometry is the CPU's, bit for bit; test_geometry.py has many more intervals."""
    for real in (np.float32, np.float64):
        for low, length in rng.uniform((-50, -20), (150, 200), (300, 2)).astype(real):
            for how in ((True, False, 2), (False, False, 0), (False, True, 3)):
                sides = (low, low + length, real(0.25), *how[:2], 7, how[2], real)
                ours, theirs = device.interval(*sides), taps.interval(*sides)
                assert ours == theirs, sides
                middle = (*ours, 3, 0, real)
                assert device.sample_position(*middle) == taps.sample_position(*middle), sides
    print("geometry")


if __name__ == "__main__":
    # A simulated kernel takes an array where a real one takes the address of a tensor.
    cuda._as_numba = lambda tensor: FakeCUDAArray(tensor.numpy())
    cuda._stream = lambda tensor: 0
    generator = np.random.default_rng(0)
    check(True, True, False, 2, generator)
    check(False, False, False, 0, generator)
    check(True, False, True, 1, generator)
    check_levels()
    check_bfloat16()
    check_geometry(generator)
