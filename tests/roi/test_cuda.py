"""The GPU kernels without a GPU: right in the simulator, and compiled for two architectures.

Each runs in a process of its own: the simulator is chosen when numba is imported, and where it
is chosen there is no compiler. With a GPU, the operators are also compared with torchvision's.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torchvision

from mrcnn_edu.roi import roi_align, roi_pool, roi_warp

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


def run_script(name: str) -> list[str]:
    """Output lines of a script beside this file, run without the simulator's variable."""
    pytest.importorskip("numba.cuda", reason="numba-cuda is not installed (the gpu extra)")
    environment = {k: v for k, v in os.environ.items() if k != "NUMBA_ENABLE_CUDASIM"}
    environment["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(
        [sys.executable, str(HERE / name)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()


def test_kernels_agree_with_the_reference_in_the_simulator() -> None:
    lines = run_script("simulator_check.py")
    # Three configurations of six kernels and of six launches, then levels, bfloat16, geometry.
    assert len(lines) == 3 * (6 + 6) + 3


def test_kernels_compile_to_ptx() -> None:
    lines = run_script("ptx_check.py")
    # Two forwards in four types and four backwards in two, for sm_80 and sm_90.
    assert len(lines) == 2 * (2 * 4 + 4 * 2)
    assert sum(line.startswith("sm_90") for line in lines) == 16


needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")


@needs_gpu
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_operators_on_a_gpu(layout: torch.memory_format, dtype: torch.dtype) -> None:
    """Against torchvision on the CPU: half precision is rounded once, at the end."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 40, 33, 41, generator=generator).to(dtype).contiguous(memory_format=layout)
    corners = torch.rand(50, 2, generator=generator) * 220 - 40
    sides = torch.rand(50, 2, generator=generator) * 150
    index = torch.randint(0, 2, (50, 1), generator=generator)
    rois = torch.cat([index, corners, corners + sides], 1)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-4}.get(dtype, 3e-2)
    mine = x.cuda().requires_grad_()
    theirs = x.to(wide).requires_grad_()
    rois = rois.to(wide)
    for ours, reference in (
        (roi_align(mine, rois.cuda(), 7, 0.25, 2, True),
         torchvision.ops.roi_align(theirs, rois, 7, 0.25, 2, True)),
        (roi_align(mine, rois.cuda(), 7, 0.25, 0, False),
         torchvision.ops.roi_align(theirs, rois, 7, 0.25, 0, False)),
        (roi_pool(mine, rois.cuda(), 7, 0.25), torchvision.ops.roi_pool(theirs, rois, 7, 0.25)),
        (roi_warp(mine, rois.cuda(), 7, 0.25, 2), roi_warp(theirs, rois, 7, 0.25, 2)),
        (roi_align(mine, rois.cuda(), 7, 0.25, 2, True, reduce="max"),
         roi_align(theirs, rois, 7, 0.25, 2, True, reduce="max")),
    ):  # fmt: skip
        assert ours.dtype == dtype
        torch.testing.assert_close(ours.cpu().to(wide), reference, rtol=tolerance, atol=tolerance)
        gradient = torch.randn(reference.shape, dtype=wide, generator=generator).to(dtype)
        (wanted,) = torch.autograd.grad(reference, theirs, gradient.to(wide))
        for deterministic in (False, True):
            torch.use_deterministic_algorithms(deterministic)
            (found,) = torch.autograd.grad(ours, mine, gradient.cuda(), retain_graph=True)
            torch.use_deterministic_algorithms(False)
            assert_close = torch.testing.assert_close
            assert_close(found.cpu().to(wide), wanted, rtol=tolerance, atol=tolerance)


@needs_gpu
def test_deterministic_backward_has_the_same_bits() -> None:
    x = torch.randn(1, 64, 50, 50, device="cuda", requires_grad=True)
    rois = torch.rand(200, 5, device="cuda") * 100
    rois[:, 0] = 0
    rois[:, 3:] += rois[:, 1:3]
    gradient = torch.randn(200, 64, 7, 7, device="cuda")
    torch.use_deterministic_algorithms(True)
    results = [
        torch.autograd.grad(roi_align(x, rois, 7, 0.25, 2, True), x, gradient)[0] for _ in range(5)
    ]
    torch.use_deterministic_algorithms(False)
    assert all(torch.equal(results[0], r) for r in results[1:])
