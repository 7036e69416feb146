"""The torch operators against torchvision's, in every layout, type and box form."""

import pytest
import torch
import torchvision
from torch import Tensor

from mrcnn_edu.roi import (
    assign_levels,
    multiscale_roi_align,
    multiscale_roi_pool,
    multiscale_roi_warp,
    roi_align,
    roi_pool,
    roi_warp,
)

# float32: the coordinate of a sample is rounded to one part in 2²³ in both, and the slope of
# random features is a few units a pixel; the sums are in another order.
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-12}
LAYOUTS = [torch.contiguous_format, torch.channels_last]


def make_map(dtype: torch.dtype, layout: torch.memory_format, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, 20, 33, 41, dtype=dtype, generator=generator)
    return x.contiguous(memory_format=layout).requires_grad_()


def make_boxes(count: int, dtype: torch.dtype, seed: int = 1) -> Tensor:
    """[R, 5] on two images of 164 × 132 pixels, some of them partly or wholly outside."""
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 2, dtype=dtype, generator=generator) * 220 - 40
    sides = torch.rand(count, 2, dtype=dtype, generator=generator) ** 2 * 200
    index = torch.randint(0, 2, (count, 1), generator=generator).to(dtype)
    return torch.cat([index, corners, corners + sides], dim=1)


def assert_same(ours: Tensor, reference: Tensor, x: Tensor, tolerance: float) -> None:
    """Values and gradients agree, and so does the layout."""
    assert ours.shape == reference.shape
    assert ours.dtype == reference.dtype
    torch.testing.assert_close(ours, reference, rtol=0, atol=tolerance)
    gradient = torch.randn(ours.shape, dtype=ours.dtype)
    (mine,) = torch.autograd.grad(ours, x, gradient)
    (theirs,) = torch.autograd.grad(reference, x, gradient)
    torch.testing.assert_close(mine, theirs, rtol=0, atol=tolerance)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("sampling_ratio", [1, 2, 5, 0, -1])
def test_roi_align_equals_torchvision(
    layout: torch.memory_format, dtype: torch.dtype, aligned: bool, sampling_ratio: int
) -> None:
    x, boxes = make_map(dtype, layout), make_boxes(40, dtype)
    arguments = (x, boxes, (5, 7), 0.25, sampling_ratio, aligned)
    ours, reference = roi_align(*arguments), torchvision.ops.roi_align(*arguments)
    assert ours.is_contiguous(memory_format=layout)
    assert_same(ours, reference, x, TOLERANCE[dtype])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("sampling_ratio", [2, 0])
def test_roi_warp_is_roi_align_of_rounded_boxes(
    layout: torch.memory_format, dtype: torch.dtype, sampling_ratio: int
) -> None:
    x, boxes = make_map(dtype, layout), make_boxes(40, dtype)
    boxes[0, 1:] = torch.tensor([10.0, -10.0, 18.0, 30.0])  # 2.5, −2.5, 4.5, 7.5 on the map
    scaled = boxes[:, 1:] * 0.25
    away = torch.sign(scaled) * torch.floor(scaled.abs() + 0.5)
    rounded = torch.cat([boxes[:, :1], away], dim=1)
    reference = torchvision.ops.roi_align(x, rounded, 7, 1.0, sampling_ratio, False)
    assert_same(roi_warp(x, boxes, 7, 0.25, sampling_ratio), reference, x, TOLERANCE[dtype])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_roi_pool_equals_torchvision_exactly(
    layout: torch.memory_format, dtype: torch.dtype
) -> None:
    x, boxes = make_map(dtype, layout), make_boxes(60, dtype)
    ours = roi_pool(x, boxes, (5, 7), 0.25)
    reference = torchvision.ops.roi_pool(x, boxes, (5, 7), 0.25)
    assert torch.equal(ours, reference)
    assert_same(ours, reference, x, TOLERANCE[dtype])
