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
from mrcnn_edu.roi.torch_ops import roi_mean, roi_pool_max

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
@pytest.mark.parametrize("sampling_ratio", [1, 2, 0, -1])
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


def every_op(x: Tensor, boxes: Tensor | list[Tensor]) -> dict[str, Tensor]:
    """Each operator once, 3 × 3 bins at stride 4."""
    return {
        "align": roi_align(x, boxes, 3, 0.25, 2, True),
        "align max": roi_align(x, boxes, 3, 0.25, 3, False, reduce="max"),
        "warp": roi_warp(x, boxes, 3, 0.25, 2),
        "warp max": roi_warp(x, boxes, 3, 0.25, 2, reduce="max"),
        "pool": roi_pool(x, boxes, 3, 0.25),
    }


def test_box_forms_give_the_same() -> None:
    x = make_map(torch.float32, torch.channels_last)
    rois = make_boxes(20, torch.float32)
    rois = rois[rois[:, 0].sort(stable=True).indices]
    listed = [rois[rois[:, 0] == n, 1:] for n in range(2)]
    as_list = every_op(x, listed)
    for name, value in every_op(x, rois).items():
        assert torch.equal(value, as_list[name]), name


def test_layouts_give_the_same() -> None:
    """Channels first, whether copied (many RoIs) or read with strides (few), and slices."""
    x = make_map(torch.float64, torch.channels_last).detach()
    padded = torch.randn(2, 20, 40, 50, dtype=torch.float64)
    padded[:, :, 3:36, 5:46] = x
    for count in (1, 200):
        rois = make_boxes(count, torch.float64)
        expected = every_op(x, rois)
        for other in (x.contiguous(), padded[:, :, 3:36, 5:46]):
            for name, value in every_op(other, rois).items():
                torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-12)


def test_no_boxes() -> None:
    x = make_map(torch.float32, torch.contiguous_format)
    for boxes in (torch.zeros(0, 5), [torch.zeros(0, 4), torch.zeros(0, 4)]):
        for value in every_op(x, boxes).values():
            assert value.shape == (0, 20, 3, 3)
            (gradient,) = torch.autograd.grad(value.sum(), x)
            assert gradient.shape == x.shape
            assert not gradient.any()
    for value in every_op(torch.zeros(0, 20, 5, 5), []).values():
        assert value.shape == (0, 20, 3, 3)


def test_boxes_outside_empty_and_reversed() -> None:
    x = make_map(torch.float32, torch.contiguous_format)
    rois = torch.tensor(
        [[0, 500, 500, 600, 600], [1, -900, -900, -800, -800], [0, 20, 20, 20, 20],
         [1, 60, 60, 20, 20], [0, -1000, -1000, 2000, 2000]], dtype=torch.float32,
    )  # fmt: skip
    for name, value in every_op(x, rois).items():
        assert not value[:2].any(), name
        assert value.isfinite().all(), name
    for aligned in (True, False):
        arguments = (x, rois, 3, 0.25, 2, aligned)
        assert_same(roi_align(*arguments), torchvision.ops.roi_align(*arguments), x, 1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    x = make_map(torch.float32, torch.channels_last).detach().to(dtype).requires_grad_()
    rois = make_boxes(20, torch.float32)
    wide = every_op(x.float(), rois)
    with torch.autocast("cpu", torch.bfloat16):
        for name, value in every_op(x, rois).items():
            assert value.dtype == dtype
            assert torch.equal(value, wide[name].to(dtype)), name  # rounded once, at the end
    (gradient,) = torch.autograd.grad(roi_align(x, rois, 3, 0.25, 2, True).sum(), x)
    assert gradient.dtype == dtype


def test_gradients_by_finite_differences() -> None:
    """Means are linear in the features; a maximum is too, where it is unique."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(1, 2, 5, 6, dtype=torch.float64, generator=generator, requires_grad=True)
    rois = torch.tensor([[0, 1.3, 2.1, 15.7, 18.9], [0, -4, 3, 8, 30]], dtype=torch.float64)
    for name in every_op(x, rois):
        assert torch.autograd.gradcheck(lambda m, name=name: every_op(m, rois)[name], x), name


def test_second_order_is_refused() -> None:
    x = make_map(torch.float32, torch.channels_last)
    rois = make_boxes(3, torch.float32)
    for value in every_op(x, rois).values():
        (gradient,) = torch.autograd.grad((value**2).sum(), x, create_graph=True)
        with pytest.raises(RuntimeError, match="no second-order gradient"):
            gradient.sum().backward()


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        (torch.zeros(3, 4), "pass a list"),
        ([torch.zeros(3, 4)], "a list of 1 for a batch of 2"),
        ([torch.zeros(3, 4), torch.zeros(3, 5)], r"boxes\[1\] must be \[R, 4\]"),
        (torch.tensor([[2.0, 0, 0, 9, 9]]), "names image 2"),
        (torch.tensor([[-1.0, 0, 0, 9, 9]]), "names image -1"),
        (torch.tensor([[0, 0, 0, float("nan"), 9]]), "diverged"),
        (torch.tensor([[0, 0, 0, float("inf"), 9]]), "diverged"),
    ],
)
def test_wrong_boxes(boxes: Tensor | list[Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        roi_align(torch.zeros(2, 3, 8, 8), boxes, 7, 0.25, 2, True)
    with pytest.raises(ValueError, match=message):
        roi_pool(torch.zeros(2, 3, 8, 8), boxes, 7, 0.25)


def test_wrong_arguments() -> None:
    x, boxes = torch.zeros(1, 3, 8, 8), torch.zeros(1, 5)
    with pytest.raises(ValueError, match="reduce must be"):
        roi_align(x, boxes, 7, 0.25, 2, True, reduce="sum")
    with pytest.raises(ValueError, match="needs a sampling_ratio of 1 or more, got 0"):
        roi_align(x, boxes, 7, 0.25, 0, True, reduce="max")
    with pytest.raises(ValueError, match=r"\[N, C, H, W\]"):
        roi_align(x[0], boxes, 7, 0.25, 2, True)
    with pytest.raises(TypeError, match="floating point"):
        roi_align(x.int(), boxes, 7, 0.25, 2, True)
    with pytest.raises(ValueError, match="output_size"):
        roi_align(x, boxes, 0, 0.25, 2, True)
    with pytest.raises(ValueError, match="positive"):
        roi_align(x, boxes, 7, 0, 2, True)
    with pytest.raises(ValueError, match="agree in images, channels"):
        multiscale_roi_align([x, x[:, :2]], boxes, 7, [0.25, 0.125], 2, True)


def make_pyramid(layout: torch.memory_format) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    maps = [torch.randn(2, 8, 64 >> i, 96 >> i, generator=generator) for i in range(4)]
    return [m.contiguous(memory_format=layout).requires_grad_() for m in maps]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_pyramid_equals_torchvision(layout: torch.memory_format) -> None:
    maps = make_pyramid(layout)
    generator = torch.Generator().manual_seed(1)
    boxes = []
    for count in (70, 0):
        sides = torch.exp(torch.rand(count, 2, generator=generator) * 4 + 2)
        corners = torch.rand(count, 2, generator=generator) * 200
        boxes.append(torch.cat([corners, corners + sides], 1))
    scales = [1 / 4, 1 / 8, 1 / 16, 1 / 32]
    ours = multiscale_roi_align(maps, boxes, 7, scales, 2, False, canonical_size=112)
    pooler = torchvision.ops.MultiScaleRoIAlign(["0", "1", "2", "3"], 7, 2, canonical_scale=112)
    named = {str(i): m for i, m in enumerate(maps)}
    reference = pooler(named, boxes, [(256, 384)] * 2)
    torch.testing.assert_close(ours, reference, rtol=0, atol=1e-4)
    gradient = torch.randn_like(ours)
    mine = torch.autograd.grad(ours, maps, gradient)
    theirs = torch.autograd.grad(reference, maps, gradient)
    torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-4)


def test_pyramid_pool_and_warp_are_rows_of_single_levels() -> None:
    maps = make_pyramid(torch.channels_last)
    boxes = [torch.tensor([[0.0, 0, 30, 30], [5, 5, 120, 130]]), torch.tensor([[0.0, 0, 380, 250]])]
    scales = [1 / 4, 1 / 8, 1 / 16, 1 / 32]
    rois = torch.cat([torch.cat([torch.full((len(b), 1), n), b], 1) for n, b in enumerate(boxes)])
    levels = assign_levels(rois[:, 1:])
    assert levels.tolist() == [2, 3, 4]
    for pyramid, single in (
        (multiscale_roi_pool(maps, boxes, 3, scales), roi_pool),
        (
            multiscale_roi_warp(maps, boxes, 3, scales, 2),
            lambda m, b, size, scale: roi_warp(m, b, size, scale, 2),
        ),
    ):
        for r, level in enumerate(levels.tolist()):
            alone = single(maps[level - 2], rois[r : r + 1], 3, scales[level - 2])
            assert torch.equal(pyramid[r], alone[0])


def test_level_rule() -> None:
    """Sides of 112, 224, 448 are the limits, and belong to the upper level; torchvision's too."""
    sides = torch.tensor([0.0, 1, 111.9, 112, 223.9, 224, 447.9, 448, 5000])
    boxes = torch.stack([sides * 0, sides * 0, sides, sides], 1)
    assert assign_levels(boxes).tolist() == [2, 2, 2, 3, 3, 4, 4, 5, 5]
    mapper = torchvision.ops.poolers.LevelMapper(2, 5)
    assert torch.equal(assign_levels(boxes[1:]) - 2, mapper([boxes[1:]]))
    assert assign_levels(boxes[:0]).shape == (0,)
    with pytest.raises(ValueError, match="above max_level"):
        assign_levels(boxes, 5, 2)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_operators_are_registered_properly(layout: torch.memory_format) -> None:
    """opcheck: schema, shapes and strides of tracing, autograd, dynamic shapes."""
    maps = [m[:, :, :8, :8].contiguous(memory_format=layout) for m in make_pyramid(layout)[:2]]
    maps = [m.detach().requires_grad_() for m in maps]
    rois, levels = make_boxes(4, torch.float32), torch.tensor([0, 1, 1, 0])
    head = (maps, rois, levels, [2, 3], [0.25, 0.125])
    torch.library.opcheck(roi_mean, (*head, 2, True, False))
    torch.library.opcheck(roi_mean, (*head, 0, False, True))
    torch.library.opcheck(roi_pool_max, head)


def test_compiled_without_graph_break() -> None:
    x = make_map(torch.float32, torch.channels_last)

    def loss(m: Tensor, rois: Tensor, maps: list[Tensor], boxes: list[Tensor]) -> Tensor:
        total = sum(value.square().sum() for value in every_op(m * 2, rois).values())
        pyramid = multiscale_roi_align(maps, boxes, 3, [1 / 4, 1 / 8, 1 / 16, 1 / 32], 2, True)
        return total + pyramid.sum()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    for count in (5, 9):  # the second has another number of boxes: shapes become dynamic
        rois = make_boxes(count, torch.float32)
        rest = (rois, make_pyramid(torch.channels_last), [rois[:2, 1:], rois[2:, 1:]])
        expected, found = loss(x, *rest), compiled(x, *rest)
        torch.testing.assert_close(found, expected)
        (wanted,) = torch.autograd.grad(expected, x)
        (gradient,) = torch.autograd.grad(found, x)
        torch.testing.assert_close(gradient, wanted)
