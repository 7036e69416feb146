"""The definition: examples small enough to check by eye, then every implementation against it."""

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st

from mrcnn_edu.roi import reference, roi_align, roi_pool, roi_warp

# 0  1  2  3  4
# 5  6  7  8  9      The value at (y, x) is 5·y + x, between pixels too,
# 10 11 12 13 14     so a symmetric mean is the value at the middle.
# 15 16 17 18 19
# 20 21 22 23 24
GRID = np.arange(25.0).reshape(1, 5, 5)


def test_roi_pool_by_hand() -> None:
    # Pixels 1..3 both ways, bins of 1.5: pixels 1, 2 and 2, 3. They overlap.
    out = reference.pool_forward(GRID, (1, 1, 3, 3), (2, 2), 1.0)
    assert out.tolist() == [[[12, 13], [17, 18]]]
    # 2.4 and 2.5 are one tenth of a pixel apart, and round to 2 and 3.
    assert reference.pool_forward(GRID, (0, 0, 2.4, 2.4), (1, 1), 1.0).item() == 12
    assert reference.pool_forward(GRID, (0, 0, 2.5, 2.5), (1, 1), 1.0).item() == 18
    # −0.5 rounds away from zero, to −1; bins that hold no pixel of the map are 0.
    out = reference.pool_forward(GRID + 1, (-0.5, -0.5, 0, 0), (2, 2), 1.0)
    assert out.tolist() == [[[0, 0], [0, 1]]]
    gradient = reference.pool_backward(np.ones((1, 2, 2)), GRID, (1, 1, 3, 3), (2, 2), 1.0)
    assert gradient[0].tolist() == [
        [0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0],
        [0, 0, 1, 1, 0],
        [0, 0, 1, 1, 0],
        [0, 0, 0, 0, 0],
    ]


def test_roi_align_by_hand() -> None:
    box = (1, 1, 3, 3)
    # aligned: bins of ½ from 0.5, middles 0.75, 1.25, ...: the first is 5 · 0.75 + 0.75.
    out = reference.sampled_forward(GRID, box, (4, 4), 1.0, 2, True)
    assert out[0].tolist() == [
        [4.5, 5.0, 5.5, 6.0],
        [7.0, 7.5, 8.0, 8.5],
        [9.5, 10.0, 10.5, 11.0],
        [12.0, 12.5, 13.0, 13.5],
    ]
    # As first published, half a pixel to the right and below: 5 · ½ + ½ = 3 more.
    shifted = reference.sampled_forward(GRID, box, (4, 4), 1.0, 2, False)
    assert (shifted - out).tolist() == np.full((1, 4, 4), 3.0).tolist()
    # The largest of four samples is the lower right one, ¼ of a bin (⅛ pixel) off the middle.
    largest = reference.sampled_forward(GRID, box, (4, 4), 1.0, 2, True, reduce="max")
    assert (largest - out).tolist() == np.full((1, 4, 4), 0.75).tolist()
    # One sample at (1.5, 1.5) reads four pixels, a quarter of each.
    gradient = reference.sampled_backward(np.ones((1, 1, 1)), GRID, box, (1, 1), 1.0, 1, True)
    assert gradient[0].tolist() == [
        [0, 0, 0, 0, 0],
        [0, 0.25, 0.25, 0, 0],
        [0, 0.25, 0.25, 0, 0],
        [0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0],
    ]


def test_roi_warp_by_hand() -> None:
    # 0.6 and 2.6 round to 1 and 3: bins of one pixel, middles 1.5 and 2.5.
    box = (0.6, 0.6, 2.6, 2.6)
    out = reference.sampled_forward(GRID, box, (2, 2), 1.0, 2, False, rounded=True)
    assert out[0].tolist() == [[9, 10], [14, 15]]
    # Unrounded they are 1.1 and 2.1: the box moved by 0.4 pixel, the value by 5 · 0.4 + 0.4.
    unrounded = reference.sampled_forward(GRID, box, (2, 2), 1.0, 2, False)
    np.testing.assert_allclose(out - unrounded, np.full((1, 2, 2), 2.4), atol=1e-12)


def test_outside_the_map() -> None:
    # Middle at −1 still reads the border (0); one millionth further, nothing: so use GRID + 1.
    for y, expected in ((-1.0, 1.0), (-1.000001, 0.0), (5.0, 21.0), (5.000001, 0.0)):
        box = (0, y - 0.5, 1, y + 0.5)
        value = reference.sampled_forward(GRID + 1, box, (1, 1), 1.0, 1, False).item()
        assert value == pytest.approx(expected + (0.5 if expected else 0.0))


boxes = st.tuples(
    st.integers(-9, 60), st.integers(-9, 60), st.integers(-6, 50), st.integers(-6, 50)
)
sizes = st.tuples(st.integers(1, 4), st.integers(1, 4))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(boxes, max_size=4), sizes, sizes, st.sampled_from([1.0, 0.5, 0.13]),
    st.integers(0, 3), st.booleans(), st.booleans(), st.integers(0, 2**31),
)  # fmt: skip
def test_kernels_equal_the_reference(
    rectangles: list[tuple[int, int, int, int]],
    size: tuple[int, int],
    extent: tuple[int, int],
    scale: float,
    sampling: int,
    aligned: bool,
    channels_last: bool,
    seed: int,
) -> None:
    """float64, any map from 1 × 2 to 4 × 8, boxes inside, outside, empty, reversed: 1e-12.

    Sums are in another order; everything else is the same arithmetic.
    """
    generator = np.random.default_rng(seed)
    x = generator.standard_normal((2, 2, extent[0], 2 * extent[1]))
    # Eighths: sample positions are then often exactly on pixels and on the limits of the map.
    rows = [
        [i % 2, left / 8, top / 8, (left + width) / 8, (top + height) / 8]
        for i, (left, top, width, height) in enumerate(rectangles)
    ]
    rois = torch.tensor(rows, dtype=torch.float64).reshape(-1, 5)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    features = torch.from_numpy(x).contiguous(memory_format=layout).requires_grad_()
    gradient = generator.standard_normal((len(rows), 2, *size))

    cases = [(roi_pool(features, rois, size, scale), None)]
    cases.append((
        roi_align(features, rois, size, scale, sampling, aligned),
        (scale, sampling, aligned, False),
    ))  # fmt: skip
    cases.append((
        roi_warp(features, rois, size, scale, sampling),
        (scale, sampling, False, True),
    ))  # fmt: skip
    for ours, how in cases:
        (found,) = torch.autograd.grad(ours, features, torch.from_numpy(gradient))
        wanted = np.zeros_like(x)
        for i, row in enumerate(rows):
            n, box = int(row[0]), row[1:]
            if how is None:
                value = reference.pool_forward(x[n], box, size, scale)
                wanted[n] += reference.pool_backward(gradient[i], x[n], box, size, scale)
            else:
                value = reference.sampled_forward(x[n], box, size, *how)
                wanted[n] += reference.sampled_backward(gradient[i], x[n], box, size, *how)
            np.testing.assert_allclose(ours[i].detach().numpy(), value, rtol=0, atol=1e-12)
        np.testing.assert_allclose(found.numpy(), wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sampling", [1, 2, 3, 4])
@pytest.mark.parametrize("aligned", [True, False])
def test_largest_samples_equal_the_reference(
    dtype: torch.dtype, sampling: int, aligned: bool
) -> None:
    """RoIAlign and RoIWarp with the maximum, values and gradients: the definition's.

    They are read as P · S bins of one sample, so positions may differ by a rounding: 2e-6 in
    float32. A sample on the very limit of the map may then be in or out. RoIWarp's often are, so
    it is compared where P and S are powers of two and nothing is rounded. Where samples are
    equally large, as many zeros are, the first one is it.
    """
    generator = torch.Generator().manual_seed(sampling)
    tolerance = 2e-6 if dtype == torch.float32 else 1e-12
    x = torch.rand(2, 3, 9, 11, dtype=dtype, generator=generator)
    x = (x - 0.5).clamp(min=0)  # as after a ReLU
    x = x.contiguous(memory_format=torch.channels_last)
    corners = torch.rand(60, 2, dtype=dtype, generator=generator) * 60 - 15
    sides = torch.rand(60, 2, dtype=dtype, generator=generator) * 60 - 10
    rois = torch.cat([(torch.arange(60) % 2)[:, None], corners, corners + sides], 1)
    size, scale = (2, 4), 0.25
    gradient = torch.randn(60, 3, *size, dtype=dtype, generator=generator)
    for rounded in (False,) if sampling == 3 else (False, True):
        features = x.clone().requires_grad_()
        if rounded:
            ours = roi_warp(features, rois, size, scale, sampling, reduce="max")
        else:
            ours = roi_align(features, rois, size, scale, sampling, aligned, reduce="max")
        (found,) = torch.autograd.grad(ours, features, gradient)
        how = (size, scale, sampling, aligned and not rounded, rounded, "max")
        wanted = np.zeros_like(x.numpy())
        for i, (n, *box) in enumerate(rois.tolist()):
            image, given = x[int(n)].numpy(), gradient[i].numpy()
            value = reference.sampled_forward(image, box, *how)
            np.testing.assert_allclose(ours[i].detach().numpy(), value, rtol=0, atol=tolerance)
            wanted[int(n)] += reference.sampled_backward(given, image, box, *how)
        np.testing.assert_allclose(found.numpy(), wanted, rtol=0, atol=20 * tolerance)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(boxes, min_size=1, max_size=6), sizes, st.sampled_from([1.0, 0.25, 0.37]),
    st.integers(0, 3), st.booleans(), st.integers(0, 2**31),
)  # fmt: skip
def test_torchvision_agrees(
    rectangles: list[tuple[int, int, int, int]],
    size: tuple[int, int],
    scale: float,
    sampling: int,
    aligned: bool,
    seed: int,
) -> None:
    """float32, as torchvision computes: RoIPool exactly, RoIAlign to 1e-4."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(1, 3, 7, 9, generator=generator)
    x = x.contiguous(memory_format=torch.channels_last)
    rois = torch.tensor([[0, a / 4, b / 4, (a + c) / 4, (b + d) / 4] for a, b, c, d in rectangles])
    assert torch.equal(
        roi_pool(x, rois, size, scale), torchvision.ops.roi_pool(x, rois, size, scale)
    )
    arguments = (x, rois, size, scale, sampling, aligned)
    torch.testing.assert_close(
        roi_align(*arguments), torchvision.ops.roi_align(*arguments), rtol=0, atol=1e-4
    )


def test_alignment_is_what_the_paper_says() -> None:
    """Move image and box together: by a stride nothing changes; by less, RoIPool's output does.

    The image's value at u is u itself, so an error in value is an error in pixels of the image.
    The map has stride 16; its pixel j is the image at its centre, (j + ½) · 16.
    """
    stride = 16

    def features(shift: float) -> torch.Tensor:
        centres = (torch.arange(20.0, dtype=torch.float64) + 0.5) * stride - shift
        return centres.expand(1, 1, 20, 20).contiguous()

    def boxes(shift: float) -> torch.Tensor:
        return torch.tensor([[0, 83, 83, 195, 195]], dtype=torch.float64) + torch.tensor(
            [0, shift, shift, shift, shift]
        )

    errors: dict[str, list[float]] = {"align": [], "pool": [], "warp": []}
    for shift in range(stride + 1):
        for name, op in (
            ("align", lambda x, b: roi_align(x, b, 7, 1 / stride, 2, True)),
            ("pool", lambda x, b: roi_pool(x, b, 7, 1 / stride)),
            ("warp", lambda x, b: roi_warp(x, b, 7, 1 / stride, 2)),
        ):
            still, moved = op(features(0), boxes(0)), op(features(shift), boxes(shift))
            errors[name].append((moved - still).abs().max().item())
    assert max(errors["align"]) < 1e-9
    assert errors["pool"][stride] < 1e-9
    assert errors["warp"][stride] < 1e-9
    # Rounding the box alone moves the output by up to a stride; bins add to it.
    assert max(errors["warp"]) > stride / 2
    assert max(errors["pool"]) > stride / 2
