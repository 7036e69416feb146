"""Boxes against torchvision.ops and torchvision's BoxCoder.

Equality is exact (`torch.equal`) wherever the same operations run in the same order; a tolerance
says why it is there. Coordinates in the property tests are quarters of a pixel, so that touching
boxes, equal IoUs and IoUs of exactly the threshold come up all the time.
"""

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder

from mrcnn_edu import boxes as ops

several = settings(deadline=None, max_examples=60)  # no deadline: the first call compiles

seeds = st.integers(0, 2**32 - 1)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_boxes(n: int, seed: int = 0, size: float = 200.0) -> Tensor:
    """[n, 4], some of them reaching out of the image of `size`."""
    g = generator(seed)
    centre = torch.rand(n, 2, generator=g) * size
    side = torch.exp(torch.rand(n, 2, generator=g) * 3 + 1)
    return torch.cat((centre - side / 2, centre + side / 2), dim=1)


def grid_boxes(n: int, seed: int, cells: int = 40) -> Tensor:
    """[n, 4] on quarter pixels; with zero-area boxes among them."""
    g = generator(seed)
    start = torch.randint(-8, cells, (n, 2), generator=g)
    side = torch.randint(0, cells, (n, 2), generator=g)
    return torch.cat((start, start + side), dim=1) / 4


# ---------------------------------------------------------------- area and IoU


def test_iou_by_hand() -> None:
    a = torch.tensor([[0.0, 0.0, 2.0, 2.0]])
    b = torch.tensor([[1.0, 0.0, 3.0, 2.0], [2.0, 0.0, 4.0, 2.0], [0.0, 0.0, 2.0, 2.0]])
    expected = torch.tensor([[2 / 6, 0.0, 1.0]])  # half covered; touching; the same
    assert torch.equal(ops.iou(a, b), expected)
    assert ops.area(b).tolist() == [4.0, 4.0, 4.0]


@several
@given(seeds, st.integers(0, 12), st.integers(0, 12))
def test_iou_is_torchvisions(seed: int, n: int, m: int) -> None:
    a, b = grid_boxes(n, seed), grid_boxes(m, seed + 1)
    ours = ops.iou(a, b)
    assert ours.shape == (n, m)
    expected = torchvision.ops.box_iou(a, b)
    assert torch.equal(ours, torch.where(expected.isnan(), 0.0, expected))
    assert torch.equal(ours.T, ops.iou(b, a))
    assert ((ours >= 0) & (ours <= 1)).all()


def test_iou_of_empty_boxes_is_zero_not_nan() -> None:
    point = torch.tensor([[3.0, 3.0, 3.0, 3.0]])
    assert torchvision.ops.box_iou(point, point).isnan().all()
    assert ops.iou(point, point).item() == 0.0


def test_half_precision_is_widened_first() -> None:
    # 300 · 300 overflows float16; the corners themselves do not.
    half = torch.tensor([[0.0, 0.0, 300.0, 300.0], [0.0, 0.0, 300.0, 150.0]]).half()
    assert ops.area(half).tolist() == [90000.0, 45000.0]
    assert ops.iou(half, half)[0, 1].item() == 0.5


# ---------------------------------------------------------------- the regression code


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0, 1.0), (10.0, 10.0, 5.0, 5.0)])
def test_code_is_torchvisions(weights: tuple[float, float, float, float]) -> None:
    boxes, anchors = random_boxes(300, 1), random_boxes(300, 2)
    coder = BoxCoder(weights)
    deltas = ops.encode(boxes, anchors, weights)
    assert torch.equal(deltas, coder.encode_single(boxes, anchors))
    noisy = torch.randn(300, 4, generator=generator(3)) * 3
    assert torch.equal(ops.decode(noisy, anchors, weights), coder.decode_single(noisy, anchors))


def test_decode_of_several_classes_broadcasts() -> None:
    anchors = random_boxes(20)
    deltas = torch.randn(20, 7, 4, generator=generator(0))
    expected = BoxCoder((10.0, 10.0, 5.0, 5.0)).decode(deltas.flatten(1), [anchors])  # [R, K, 4]
    assert torch.equal(ops.decode(deltas, anchors[:, None], (10.0, 10.0, 5.0, 5.0)), expected)


@several
@given(seeds, st.sampled_from([0, 1, 50]))
def test_decode_inverts_encode(seed: int, n: int) -> None:
    boxes, anchors = random_boxes(n, seed), random_boxes(n, seed + 1)
    back = ops.decode(ops.encode(boxes, anchors), anchors)
    # exp(log(r)) is off by a few roundings (6e-8) of numbers up to 10³ pixels.
    torch.testing.assert_close(back, boxes, atol=1e-3, rtol=1e-5)


def test_decode_clamps_the_size_but_not_the_shrinking() -> None:
    anchor = torch.tensor([[0.0, 0.0, 16.0, 16.0]])
    huge = ops.decode(torch.tensor([[0.0, 0.0, 100.0, 100.0]]), anchor)
    assert torch.allclose(huge, torch.tensor([[-492.0, -492.0, 508.0, 508.0]]))  # 1000 wide
    tiny = ops.decode(torch.tensor([[0.0, 0.0, -100.0, -100.0]]), anchor)
    assert torch.allclose(tiny, torch.tensor([[8.0, 8.0, 8.0, 8.0]]))


def test_decode_gradient_is_autograds_of_torchvision() -> None:
    anchors = random_boxes(30)
    ours = torch.randn(30, 4, generator=generator(1)).requires_grad_()
    theirs = ours.detach().clone().requires_grad_()
    ops.decode(ours, anchors).square().sum().backward()
    BoxCoder((1.0, 1.0, 1.0, 1.0)).decode_single(theirs, anchors).square().sum().backward()
    assert ours.grad is not None
    # The sum of the same terms may be taken in another order.
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-5, atol=1e-2)


def test_code_of_half_precision_is_float32() -> None:
    boxes, anchors = random_boxes(20, 1).half(), random_boxes(20, 2).half()
    deltas = ops.encode(boxes, anchors)
    assert deltas.dtype == torch.float32
    assert torch.equal(deltas, ops.encode(boxes.float(), anchors.float()))
    assert ops.decode(deltas.bfloat16(), anchors).dtype == torch.float32


# ---------------------------------------------------------------- clip, size, flip, format


@several
@given(seeds, st.sampled_from([0, 1, 30]))
def test_clip_and_keep_large_are_torchvisions(seed: int, n: int) -> None:
    boxes = random_boxes(n, seed, size=100)
    clipped = ops.clip(boxes, (60, 90))
    assert torch.equal(clipped, torchvision.ops.clip_boxes_to_image(boxes, (60, 90)))
    for min_size in (0.0, 1e-3, 12.0):
        expected = torchvision.ops.remove_small_boxes(clipped, min_size)
        assert torch.equal(ops.keep_large(clipped, min_size).nonzero()[:, 0], expected)


def test_clip_takes_any_leading_axes_and_strides() -> None:
    boxes = random_boxes(24).reshape(4, 2, 3, 4).transpose(0, 2)  # not contiguous
    expected = torchvision.ops.clip_boxes_to_image(boxes.reshape(-1, 4), (50, 70))
    assert torch.equal(ops.clip(boxes, (50, 70)).reshape(-1, 4), expected)


def test_keep_large_drops_reversed_and_nan() -> None:
    boxes = torch.tensor([[5.0, 0.0, 4.0, 9.0], [math.nan, 0.0, 4.0, 9.0], [0.0, 0.0, 4.0, 9.0]])
    assert ops.keep_large(boxes, 0).tolist() == [False, False, True]


def test_formats_are_torchvisions() -> None:
    boxes = random_boxes(40)
    xywh = torchvision.ops.box_convert(boxes, "xyxy", "xywh")
    assert torch.equal(ops.to_xywh(boxes), xywh)
    assert torch.equal(ops.from_xywh(xywh), torchvision.ops.box_convert(xywh, "xywh", "xyxy"))


@several
@given(seeds)
def test_hflip_mirrors_the_pixels(seed: int) -> None:
    g = generator(seed)
    x1, y1 = torch.randint(0, 12, (2,), generator=g).tolist()
    w, h = torch.randint(1, 8, (2,), generator=g).tolist()
    image = torch.zeros(20, 20)
    image[y1 : y1 + h, x1 : x1 + w] = 1
    box = torch.tensor([[x1, y1, x1 + w, y1 + h]], dtype=torch.float32)
    fx1, fy1, fx2, fy2 = ops.hflip(box, 20)[0].int().tolist()
    flipped = torch.zeros(20, 20)
    flipped[fy1:fy2, fx1:fx2] = 1
    assert torch.equal(flipped, image.flip(1))
    assert torch.equal(ops.hflip(ops.hflip(box, 20), 20), box)


# ---------------------------------------------------------------- NMS


def test_nms_by_hand() -> None:
    boxes = torch.tensor(
        [[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 1.0], [5.0, 5.0, 6.0, 6.0], [0.0, 0.0, 2.0, 2.0]]
    )
    scores = torch.tensor([0.5, 0.9, 0.1, 0.5])
    # Box 1 is best. IoU of 0 and 3 with it is exactly ½: "greater than", so both stay at ½,
    # but 3 is the same as 0 and comes later.
    assert ops.nms(boxes, scores, 0.5).tolist() == [1, 0, 2]
    assert ops.nms(boxes, scores, 0.49).tolist() == [1, 2]
    assert ops.nms_reference(boxes, scores, 0.5) == [1, 0, 2]


@several
@given(
    seeds,
    st.integers(0, 150),
    st.sampled_from([0.0, 0.25, 1 / 3, 0.5, 0.7, 1.0]),
    st.integers(1, 20),
)
def test_nms_keeps_what_torchvision_keeps(seed: int, n: int, threshold: float, levels: int) -> None:
    boxes = grid_boxes(n, seed)
    scores = torch.randint(0, levels, (n,), generator=generator(seed)).float() / levels  # ties
    expected = torchvision.ops.nms(boxes, scores, threshold)
    assert torch.equal(ops.nms(boxes, scores, threshold), expected)
    assert ops.nms_reference(boxes, scores, threshold) == expected.tolist()
    for max_keep in (0, 1, 5):
        assert torch.equal(ops.nms(boxes, scores, threshold, max_keep), expected[:max_keep])


@pytest.mark.parametrize("n", [63, 64, 65, 129, 3000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nms_of_many_boxes(n: int, dtype: torch.dtype) -> None:
    """More kept boxes than one chunk of the kernel; float64 keeps its precision."""
    boxes = random_boxes(n, n).to(dtype)
    scores = torch.rand(n, generator=generator(n)).to(dtype)
    for threshold in (0.3, 0.5, 0.7):
        expected = torchvision.ops.nms(boxes, scores, threshold)
        assert torch.equal(ops.nms(boxes, scores, threshold), expected)


def test_nms_of_odd_boxes() -> None:
    """Reversed, empty, infinite and NaN boxes, NaN scores: whatever torchvision does."""
    boxes = random_boxes(200)
    boxes[::7] = boxes[::7, [2, 3, 0, 1]]
    boxes[::11, 2] = boxes[::11, 0]
    boxes[::13, 1] = math.nan
    boxes[::17, 3] = math.inf
    scores = torch.rand(200, generator=generator(0))
    scores[::19] = math.nan
    for threshold in (0.0, 0.5):
        expected = torchvision.ops.nms(boxes, scores, threshold)
        assert torch.equal(ops.nms(boxes, scores, threshold), expected)


def test_nms_takes_half_precision_and_strides() -> None:
    wide = torch.randn(200, 8, generator=generator(0)).half()
    boxes = wide[:, ::2]
    boxes[:, 2:] += boxes[:, :2].abs() * 3
    scores = wide[:, 1]
    expected = torchvision.ops.nms(boxes.float(), scores.float(), 0.4)
    assert torch.equal(ops.nms(boxes, scores, 0.4), expected)


def test_nms_ignores_gradients() -> None:
    boxes = random_boxes(10).requires_grad_()
    scores = torch.rand(10, generator=generator(0)).requires_grad_()
    assert not ops.nms(boxes, scores, 0.5).requires_grad


@several
@given(seeds, st.integers(0, 120), st.integers(1, 6))
def test_batched_nms_is_torchvisions_nms_per_group(seed: int, n: int, n_groups: int) -> None:
    boxes = grid_boxes(n, seed)
    scores = torch.randint(0, 10, (n,), generator=generator(seed)).float()
    groups = torch.randint(0, n_groups, (n,), generator=generator(seed + 1)) * 1000 - 7
    kept = []
    for group in groups.unique():
        members = (groups == group).nonzero()[:, 0]
        kept.append(members[torchvision.ops.nms(boxes[members], scores[members], 0.5)])
    survivors = torch.cat(kept).sort().values if kept else torch.zeros(0, dtype=torch.int64)
    order = scores[survivors].argsort(descending=True, stable=True)
    expected = survivors[order]
    assert torch.equal(ops.batched_nms(boxes, scores, groups, 0.5), expected)
    assert torch.equal(ops.batched_nms(boxes, scores, groups, 0.5, 4), expected[:4])
    # What runs on a GPU, run here.
    if n:
        assert torch.equal(ops._nms_per_group(boxes, scores, groups, 0.5), expected)


def test_batched_nms_does_not_shift_coordinates() -> None:
    """Why `torchvision.ops.batched_nms` is not the reference.

    The IoU of the first two boxes is 0.49999985. For few boxes torchvision adds group · 1001 to
    all coordinates; the sums are rounded, the IoU passes ½, and the second box is lost. Run on
    the group alone, torchvision keeps it.
    """
    boxes = torch.tensor(
        [
            [99.2513198852539, 153.6443634033203, 142.25131225585938, 196.6443634033203],
            [113.58465576171875, 153.6443634033203, 156.58465576171875, 196.6443634033203],
            [0.0, 0.0, 1000.0, 1000.0],
        ]
    )
    scores, groups = torch.tensor([0.9, 0.8, 0.7]), torch.tensor([7, 7, 0])
    assert torchvision.ops.batched_nms(boxes, scores, groups, 0.5).tolist() == [0, 2]
    assert torchvision.ops.nms(boxes[:2], scores[:2], 0.5).tolist() == [0, 1]
    assert ops.batched_nms(boxes, scores, groups, 0.5).tolist() == [0, 1, 2]


@several
@given(st.floats(0, 1), st.integers(-2, 2))
@example(0.7, 0)
@example(0.1, 0)
def test_rounded_threshold_decides_alike(threshold: float, steps: int) -> None:
    """For float32 numbers, > threshold in double precision and > its rounding are the same."""
    value = np.float32(threshold)
    for _ in range(abs(steps)):
        value = np.nextafter(value, np.float32(np.sign(steps) * 2))
    rounded = ops._round_down(threshold, np.dtype(np.float32))
    assert rounded.dtype == np.float32
    assert (float(value) > threshold) == bool(value > rounded)


def test_nms_from_several_threads() -> None:
    boxes, scores = random_boxes(1500), torch.rand(1500, generator=generator(0))
    expected = torchvision.ops.nms(boxes, scores, 0.5)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: ops.nms(boxes, scores, 0.5), range(16)))
    assert all(torch.equal(r, expected) for r in results)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"boxes": torch.zeros(3, 5)}, r"shape \[A, 4\], got \[3, 5\]"),
        ({"scores": torch.zeros(2)}, r"scores of shape \[3\], got \[2\]"),
        ({"groups": torch.zeros(4)}, r"groups of shape \[3\], got \[4\]"),
        ({"iou_threshold": 50.0}, r"lies in \[0, 1\], got 50"),
        ({"max_keep": -1}, "not be negative"),
    ],
)
def test_nms_says_what_is_wrong(change: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {
        "boxes": torch.zeros(3, 4),
        "scores": torch.zeros(3),
        "groups": torch.zeros(3, dtype=torch.int64),
        "iou_threshold": 0.5,
        "max_keep": None,
    }
    with pytest.raises(ValueError, match=message):
        ops.batched_nms(**(arguments | change))  # type: ignore[arg-type]


# ---------------------------------------------------------------- check_boxes


def test_check_boxes_accepts_good_ones() -> None:
    ops.check_boxes(torch.zeros(0, 4), "empty", (10, 10))
    ops.check_boxes(torch.tensor([[0.0, 0.0, 20.0, 10.0]]), "the whole image", (10, 20))


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ([math.nan, 0.0, 1.0, 1.0], "finite"),
        ([30.0, 5.0, 10.0, 9.0], r"box 1 of 2, \(30, 5, 10, 9\), has no area.*from_xywh"),
        ([3.0, 5.0, 3.0, 9.0], "no area"),
        ([-1.0, 0.0, 5.0, 5.0], "leaves the image of height 40 and width 50"),
        ([45.0, 0.0, 51.0, 5.0], "leaves the image"),
        ([0.0, 0.0, 45.0, 45.0], "leaves the image"),  # W and H are not exchanged
    ],
)
def test_check_boxes_names_the_row(box: list[float], message: str) -> None:
    boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0], box])
    with pytest.raises(ValueError, match="image 7") as error:
        ops.check_boxes(boxes, "image 7", (40, 50))
    assert error.match(message)


def test_check_boxes_wants_a_float_tensor_of_four_columns() -> None:
    with pytest.raises(TypeError, match=r"torch\.Tensor, got list"):
        ops.check_boxes([[0, 0, 1, 1]], "x")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="int64"):
        ops.check_boxes(torch.tensor([[0, 0, 1, 1]]), "x")
    with pytest.raises(ValueError, match=r"\[G, 4\], got \[0\].*\[0, 4\]"):
        ops.check_boxes(torch.zeros(0), "x")
