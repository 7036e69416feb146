"""Masks against pycocotools, torchvision's mask targets and paste, and grid_sample.

Strings of `paste_to_rle` are compared byte for byte. Crops and pasted probabilities differ from
the references by rounding only: they sum the same products in another order.
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco
from pycocotools.coco import COCO
from torch import Tensor
from torchvision.models.detection.roi_heads import paste_masks_in_image, project_masks_on_boxes
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2.functional import resize

from mrcnn_edu import masks as ops

several = settings(deadline=None, max_examples=60)  # no deadline: the first call compiles

# pycocotools 2.0 under NumPy 2; nothing we can put right.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

# Products of numbers in [0, 1], summed in another order: a few float32 roundings of 6e-8. The
# place of a sample is itself rounded, at up to 58 cells, which adds 58 · 6e-8 times the slope.
ROUNDING = 1e-5

seeds = st.integers(0, 2**32 - 1)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def blobs(n: int, size: tuple[int, int], seed: int = 0) -> Tensor:
    """Smooth random bitmaps [n, H, W] uint8."""
    noise = torch.randn(n, 1, 5, 5, generator=generator(seed))
    return (F.interpolate(noise, size=size, mode="bicubic")[:, 0] > 0.2).to(torch.uint8)


def random_boxes(n: int, size: tuple[int, int], seed: int = 0) -> Tensor:
    """[n, 4]: from half a pixel to twice the image, some partly or wholly outside of it."""
    g = generator(seed)
    scale = torch.tensor([size[1], size[0]], dtype=torch.float32)
    centre = (torch.rand(n, 2, generator=g) * 1.4 - 0.2) * scale
    side = 0.5 + scale * 2 * torch.rand(n, 2, generator=g) ** 3
    return torch.cat((centre - side / 2, centre + side / 2), dim=1)


# ---------------------------------------------------------------- RLE, polygons, boxes


@several
@given(seeds, st.integers(1, 30), st.integers(1, 30), st.sampled_from([0.0, 0.1, 0.5, 1.0]))
def test_rle_is_pycocotools(seed: int, height: int, width: int, density: float) -> None:
    mask = (torch.rand(height, width, generator=generator(seed)) < density).to(torch.uint8)
    rle = ops.encode(mask)
    assert rle == coco.encode(np.asfortranarray(mask.numpy()))
    assert torch.equal(ops.decode(rle), mask)
    as_text = {"size": rle["size"], "counts": rle["counts"].decode()}  # as in a JSON file
    assert torch.equal(ops.decode(as_text), mask)
    assert ops.encode(mask.T.contiguous().T * 255) == rle  # other strides, other values


def test_uncompressed_rle_by_hand() -> None:
    # Down the columns: 1 background, 3 object, 2 background.
    mask = ops.decode({"size": [2, 3], "counts": [1, 3, 2]})
    assert mask.tolist() == [[0, 1, 0], [1, 1, 0]]
    assert ops.decode({"size": [2, 2], "counts": [0, 4]}).tolist() == [[1, 1], [1, 1]]


def test_bad_rle_is_refused() -> None:
    with pytest.raises(ValueError, match="add up to 5, but the size 2×3 has 6"):
        ops.decode({"size": [2, 3], "counts": [1, 4]})
    with pytest.raises(ValueError, match="'size' and 'counts'"):
        ops.decode({"counts": b"0"})
    with pytest.raises(ValueError, match=r"\[1, 2, 2\]"):
        ops.encode(torch.zeros(1, 2, 2))


def test_polygons_by_hand() -> None:
    square = [1.0, 1.0, 3.0, 1.0, 3.0, 3.0, 1.0, 3.0]
    corner = [4.0, 0.0, 5.0, 0.0, 5.0, 1.0, 4.0, 1.0]
    mask = ops.polygons_to_mask([square, corner], (4, 5))
    assert mask.tolist() == [[0, 0, 0, 0, 1], [0, 1, 1, 0, 0], [0, 1, 1, 0, 0], [0, 0, 0, 0, 0]]
    assert ops.polygons_to_mask([], (4, 5)).sum() == 0
    with pytest.raises(ValueError, match=r"Polygon 1: .* at least three corners, got 4 numbers"):
        ops.polygons_to_mask([square, [0.0, 0.0, 1.0, 1.0]], (4, 5))


@pytest.mark.skipif("MRCNN_DATA" not in os.environ, reason="MRCNN_DATA names no data folder")
def test_cocos_own_annotations() -> None:
    """Polygons and crowd RLE of real photographs, as pycocotools' annToMask makes them."""
    files = sorted(Path(os.environ["MRCNN_DATA"]).glob("coco_cc/**/instances_val*.json"))
    if not files:
        pytest.skip("MRCNN_DATA has no coco_cc annotations")
    data = COCO()
    data.dataset = json.loads(files[0].read_text())
    data.createIndex()
    kinds = set()
    for annotation in list(data.anns.values())[:150] + [
        a for a in data.anns.values() if a["iscrowd"]
    ]:
        image = data.imgs[annotation["image_id"]]
        size = (image["height"], image["width"])
        shape = annotation["segmentation"]
        ours = ops.polygons_to_mask(shape, size) if isinstance(shape, list) else ops.decode(shape)
        kinds.add(type(shape))
        assert np.array_equal(ours.numpy(), data.annToMask(annotation))
    assert kinds == {list, dict}


@several
@given(seeds, st.integers(1, 9), st.integers(1, 9))
def test_boxes_of_masks_are_pycocotools(seed: int, height: int, width: int) -> None:
    masks = (torch.rand(6, height, width, generator=generator(seed)) < 0.15).to(torch.uint8)
    expected = [coco.toBbox(ops.encode(m)) for m in masks]  # x, y, width, height
    boxes = ops.to_boxes(masks)
    assert boxes.dtype == torch.float32
    xywh = torchvision.ops.box_convert(boxes, "xyxy", "xywh")
    assert torch.equal(xywh, torch.tensor(np.array(expected), dtype=torch.float32))


def test_boxes_of_masks_are_continuous() -> None:
    masks = torch.zeros(2, 8, 9, dtype=torch.bool)
    masks[0, 2, 5] = True
    assert ops.to_boxes(masks).tolist() == [[5, 2, 6, 3], [0, 0, 0, 0]]
    assert ops.to_boxes(masks[:0]).shape == (0, 4)
    theirs = torchvision.ops.masks_to_boxes(masks[:1])
    assert torch.equal(ops.to_boxes(masks[:1]), theirs + torch.tensor([0.0, 0.0, 1.0, 1.0]))


def test_boxes_of_masks_from_the_kernel_are_those_of_torch() -> None:
    masks = blobs(5, (40, 61))
    masks[3] = 0
    assert torch.equal(ops.to_boxes(masks), ops.to_boxes(masks.float()))  # float takes torch's way
    strided = masks.transpose(1, 2)
    assert torch.equal(ops.to_boxes(strided), ops.to_boxes(strided.float()))
    assert torch.equal(ops.to_boxes(masks * 255), ops.to_boxes(masks))


# ---------------------------------------------------------------- other sizes

sides = st.integers(1, 90)


def resized_by_torchvision(masks: Tensor, size: tuple[int, int]) -> Tensor:
    return resize(masks, list(size), InterpolationMode.NEAREST_EXACT)


@several
@given(seeds, st.integers(0, 4), sides, sides, sides, sides, st.sampled_from([0.0, 0.01, 0.6]))
def test_masks_of_another_size_are_torchvisions(
    seed: int, n: int, height: int, width: int, new_height: int, new_width: int, density: float
) -> None:
    masks = (torch.rand(n, height, width, generator=generator(seed)) < density).to(torch.uint8)
    size = (new_height, new_width)
    expected = resized_by_torchvision(masks, size)
    assert torch.equal(ops.resize(masks, size), expected)
    assert torch.equal(ops.resize(masks.bool(), size), expected.bool())
    assert torch.equal(ops.resize(masks.float(), size), expected.float())
    strided = masks.transpose(1, 2).contiguous().transpose(1, 2)
    assert torch.equal(ops.resize(strided, size), expected)
    assert torch.equal(ops.resize(masks * 7, size), expected * 7)
    pixels = expected.flatten(1).sum(1).float()
    for some in (masks, masks.bool(), masks.float(), strided):
        assert torch.equal(ops.areas(some, size), pixels)
    assert torch.equal(ops.areas(masks), masks.flatten(1).sum(1).float())
    top, left = seed % new_height, seed % new_width
    window = (top, left, new_height - top, max(1, (new_width - left) // 2))
    part = expected[:, top:, left : left + window[3]]
    assert torch.equal(ops.resize(masks, size, window), part)
    assert torch.equal(ops.resize(masks.float(), size, window), part.float())


@pytest.mark.parametrize(
    ("old", "new"), [(480, 800), (640, 1066), (1333, 17), (1, 500), (632, 1172), (4000, 1333)]
)
def test_each_pixel_of_a_long_side_is_torchvisions(old: int, new: int) -> None:
    """632 to 1172 is one of the sizes where float32 and exact arithmetic differ."""
    numbers = torch.arange(old, dtype=torch.float32)[None, None]  # [1, 1, W]
    expected = resized_by_torchvision(numbers, (1, new))[0, 0].long()
    assert torch.equal(torch.from_numpy(ops._nearest(old, new)), expected)
    for masks in (blobs(2, (3, old)), blobs(2, (old, 3)).transpose(1, 2)):
        assert torch.equal(ops.resize(masks, (3, new)), resized_by_torchvision(masks, (3, new)))
        assert torch.equal(
            ops.resize(masks.mT, (new, 3)), resized_by_torchvision(masks.mT.contiguous(), (new, 3))
        )


def test_areas_of_large_masks_are_exact() -> None:
    """Float32 holds whole numbers up to 2²⁴, more pixels than any image here has."""
    full = torch.ones(1, 1000, 1200, dtype=torch.uint8)
    assert ops.areas(full).tolist() == [1_200_000]
    assert ops.areas(full, (2500, 3001)).tolist() == [2500 * 3001]


# ---------------------------------------------------------------- mask targets


@pytest.mark.parametrize("size", [(64, 64), (37, 90)])
@pytest.mark.parametrize("cells", [1, 14, 28])
def test_targets_are_torchvisions(size: tuple[int, int], cells: int) -> None:
    masks, boxes = blobs(5, size), random_boxes(150, size)
    index = torch.randint(5, (150,), generator=generator(1))
    old = ops.crop_to_boxes(masks, boxes, index, cells, aligned=False)
    expected = project_masks_on_boxes(masks, boxes, index, cells)
    torch.testing.assert_close(old, expected, atol=ROUNDING, rtol=0)
    rois = torch.cat((index[:, None].float(), boxes), dim=1)
    expected = torchvision.ops.roi_align(masks[:, None].float(), rois, cells, aligned=True)[:, 0]
    new = ops.crop_to_boxes(masks.bool(), boxes, index, cells, aligned=True)
    torch.testing.assert_close(new, expected, atol=ROUNDING, rtol=0)
    assert (old - new).abs().max() > 0.1  # half a pixel shows


@several
@given(seeds, st.booleans())
def test_targets_of_odd_boxes(seed: int, aligned: bool) -> None:
    """Corners on half pixels, up to two image sizes away; without `aligned` in any order."""
    corners = torch.randint(-40, 80, (12, 4), generator=generator(seed)).float() / 2
    if aligned:  # torchvision's operator fails on reversed boxes: "cannot create std::vector"
        x, y = corners[:, 0::2].sort().values, corners[:, 1::2].sort().values
        corners = torch.stack((x, y), dim=-1).flatten(1)
    masks = blobs(1, (20, 20), seed)
    index = torch.zeros(12, dtype=torch.int64)
    rois = torch.cat((index[:, None].float(), corners), dim=1)
    expected = torchvision.ops.roi_align(masks[:, None].float(), rois, 7, aligned=aligned)[:, 0]
    ours = ops.crop_to_boxes(masks, corners, index, 7, aligned)
    torch.testing.assert_close(ours, expected, atol=ROUNDING, rtol=0)


def test_target_of_a_reversed_box_is_empty() -> None:
    boxes = torch.tensor([[9.0, 2.0, 4.0, 8.0], [9.0, 8.0, 4.0, 2.0], [4.0, 2.0, 4.0, 8.0]])
    ones = torch.ones(1, 12, 12, dtype=torch.uint8)
    index = torch.zeros(3, dtype=torch.int64)
    assert ops.crop_to_boxes(ones, boxes, index, 7, aligned=True).sum() == 0


def test_target_of_an_aligned_box_is_the_mask_itself() -> None:
    masks = blobs(2, (30, 40))
    box = torch.tensor([[6.0, 4.0, 20.0, 18.0]])
    crop = ops.crop_to_boxes(masks, box, torch.tensor([1]), 14, aligned=True)
    assert torch.equal(crop[0], masks[1, 4:18, 6:20].float())


def test_targets_take_strides_and_nothing() -> None:
    masks = blobs(3, (20, 30)).permute(0, 2, 1)  # [G, W, H], not contiguous
    boxes = random_boxes(6, (30, 20)).double()
    index = torch.tensor([0, 2, 1, 0, 2, 1])
    expected = project_masks_on_boxes(masks.contiguous(), boxes.float(), index, 7)
    ours = ops.crop_to_boxes(masks, boxes, index, 7, aligned=False)
    torch.testing.assert_close(ours, expected, atol=ROUNDING, rtol=0)
    assert ops.crop_to_boxes(masks, boxes[:0], index[:0], 7, aligned=False).shape == (0, 7, 7)
    assert ops.crop_to_boxes(masks[:0], boxes[:0], index[:0], 7, aligned=True).shape == (0, 7, 7)


def test_targets_say_what_is_wrong() -> None:
    masks, boxes = blobs(2, (8, 8)), random_boxes(2, (8, 8))
    with pytest.raises(ValueError, match="from -1 to 1, but there are 2 masks"):
        ops.crop_to_boxes(masks, boxes, torch.tensor([1, -1]), 7, aligned=True)
    with pytest.raises(ValueError, match=r"index \[R\], got .* \[2, 4\] and \[1\]"):
        ops.crop_to_boxes(masks, boxes, torch.tensor([1]), 7, aligned=True)
    boxes[1, 2] = float("nan")
    with pytest.raises(ValueError, match="box 1 is not finite"):
        ops.crop_to_boxes(masks, boxes, torch.tensor([0, 1]), 7, aligned=True)


# ---------------------------------------------------------------- paste


def soft_masks(n: int, cells: int, seed: int = 0) -> Tensor:
    """Probabilities [n, M, M] with smooth outlines."""
    noise = torch.randn(n, 1, 5, 5, generator=generator(seed))
    return F.interpolate(noise, size=(cells, cells), mode="bicubic")[:, 0].mul(4).sigmoid()


def grid_sampled(masks: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Paste with torch's grid_sample at pixel centres and zero padding."""
    x1, y1, x2, y2 = boxes[:, :, None].unbind(1)  # [D, 1] each
    x = (torch.arange(size[1]) + 0.5 - x1) / (x2 - x1) * 2 - 1  # [D, W]
    y = (torch.arange(size[0]) + 0.5 - y1) / (y2 - y1) * 2 - 1  # [D, H]
    x, y = x[:, None, :].expand(-1, size[0], -1), y[:, :, None].expand(-1, -1, size[1])
    grid = torch.stack((x, y), dim=-1)  # [D, H, W, 2]
    return F.grid_sample(masks[:, None], grid, align_corners=False)[:, 0]


def inside(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Boxes cut to the image, and at least a pixel large: torchvision's paste needs that."""
    boxes = torchvision.ops.clip_boxes_to_image(boxes, size)
    keep = torchvision.ops.remove_small_boxes(boxes, 1)
    return boxes[keep]


@pytest.mark.parametrize("cells", [1, 14, 28, 56])
@pytest.mark.parametrize("size", [(60, 80), (97, 31)])
def test_paste_is_the_reference(cells: int, size: tuple[int, int]) -> None:
    boxes = random_boxes(60, size)
    masks = soft_masks(len(boxes), cells)
    expected = grid_sampled(masks, boxes, size)
    torch.testing.assert_close(ops.paste(masks, boxes, size), expected, atol=ROUNDING, rtol=0)
    boxes = inside(boxes, size)
    masks = masks[: len(boxes)]
    expected = paste_masks_in_image(masks[:, None], boxes, size)[:, 0]
    ours = ops.paste(masks, boxes, size, "torchvision")
    torch.testing.assert_close(ours, expected, atol=ROUNDING, rtol=0)


@pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"),
    reason="PyTorch resizes without fused multiply-add on this processor",
)
def test_large_paste_is_torchvisions_to_the_last_bit() -> None:
    size = (400, 500)
    boxes = inside(random_boxes(300, size), size)
    boxes = boxes[(boxes[:, 2:] - boxes[:, :2]).sum(dim=1) > 128]
    masks = soft_masks(len(boxes), 28)
    assert len(boxes) > 100
    expected = paste_masks_in_image(masks[:, None], boxes, size)[:, 0]
    assert torch.equal(ops.paste(masks, boxes, size, "torchvision"), expected)


def test_paste_at_its_own_size_is_exact() -> None:
    mask = soft_masks(1, 4)
    image = ops.paste(mask, torch.tensor([[3.0, 2.0, 7.0, 6.0]]), (8, 9))
    assert torch.equal(image[0, 2:6, 3:7], mask[0])
    image[0, 2:6, 3:7] = 0
    assert image.sum() == 0
    # Half a pixel to the right, every pixel is the mean of two cells.
    image = ops.paste(torch.ones(1, 2, 2), torch.tensor([[1.5, 1.0, 3.5, 3.0]]), (4, 5))
    assert image[0].tolist() == [
        [0.0, 0.0, 0.0, 0.0, 0.0],
        [0.0, 0.5, 1.0, 0.5, 0.0],
        [0.0, 0.5, 1.0, 0.5, 0.0],
        [0.0, 0.0, 0.0, 0.0, 0.0],
    ]


def test_dialects_differ_by_half_a_pixel() -> None:
    """The centre of a full mask against the centre of its box, as the box moves by tenths."""
    shift = torch.arange(0, 1, 0.1)
    boxes = torch.tensor([20.0, 20.0, 76.0, 76.0]) + shift[:, None]  # [10, 4]
    worst = {}
    for dialect in ("continuous", "torchvision"):
        images = ops.paste(torch.ones(10, 28, 28), boxes, (99, 99), dialect)  # [10, 99, 99]
        place = (images.sum(dim=1) * (torch.arange(99) + 0.5)).sum(dim=1) / images.sum(dim=(1, 2))
        worst[dialect] = (place - boxes[:, 0::2].mean(dim=1)).abs().max().item()
    assert worst["continuous"] < 1e-4
    assert 0.4 < worst["torchvision"] < 0.6


@pytest.mark.parametrize("dialect", ["continuous", "torchvision"])
@several
@given(
    seeds,
    st.sampled_from([1, 2, 7, 28]),
    st.sampled_from([(1, 1), (13, 50), (64, 48), (120, 160)]),
    st.sampled_from([0.0, 0.25, 0.5, 0.7, 1.0]),
    st.booleans(),
)
def test_runs_are_those_of_the_image(
    dialect: ops.Dialect,
    seed: int,
    cells: int,
    size: tuple[int, int],
    threshold: float,
    binary: bool,
) -> None:
    """Also for masks of 0 and 1 in boxes on half pixels, where values equal to the threshold
    and columns that join at the image's border are common."""
    boxes, masks = random_boxes(8, size, seed), soft_masks(8, cells, seed)
    if binary:
        boxes, masks = (boxes * 2).round() / 2, masks.round()
    image = ops.paste(masks, boxes, size, dialect)
    expected = [coco.encode(np.asfortranarray((m > threshold).numpy())) for m in image]
    assert ops.paste_to_rle(masks, boxes, size, threshold, dialect) == expected


def test_runs_are_torchvisions_and_pycocotools() -> None:
    size = (400, 530)
    boxes = inside(random_boxes(60, size), size)
    masks = soft_masks(len(boxes), 28)
    image = paste_masks_in_image(masks[:, None], boxes, size)[:, 0] > 0.5
    expected = [coco.encode(np.asfortranarray(m.numpy())) for m in image]
    assert ops.paste_to_rle(masks, boxes, size, 0.5, "torchvision") == expected


def test_runs_of_values_near_the_threshold() -> None:
    """A plateau within rounding of the threshold: the short cut per cell must not be taken."""
    masks = 0.5 + torch.randint(-3, 4, (40, 9, 9), generator=generator(0)) * 3e-8
    boxes, size = random_boxes(40, (50, 60)), (50, 60)
    expected = [ops.encode(m > 0.5) for m in ops.paste(masks, boxes, size)]
    assert ops.paste_to_rle(masks, boxes, size) == expected
    assert any(len(r["counts"]) > 100 for r in expected)


def test_runs_that_fill_or_leave_a_large_image() -> None:
    """Runs of millions of pixels need the longest codes; full, empty and border columns."""
    size = (2000, 2100)
    boxes = torch.tensor(
        [
            [-3000.0, -3000.0, 5000.0, 5000.0],  # everything
            [2090.0, 1990.0, 2100.0, 2000.0],  # the last corner
            [500.0, -50.0, 520.0, 2050.0],  # whole columns: one run
            [0.0, 1000.0, 30.0, 2000.0],  # down to the border
            [3000.0, 0.0, 3010.0, 10.0],  # outside
            [5.0, 5.0, 5.0, 9.0],  # no area
            [9.0, 9.0, 5.0, 5.0],  # reversed
        ]
    )
    masks = torch.ones(len(boxes), 28, 28)
    rles = ops.paste_to_rle(masks, boxes, size)
    for i, rle in enumerate(rles):
        assert rle == ops.encode(ops.paste(masks[i : i + 1], boxes[i : i + 1], size)[0] > 0.5)
    # A mask fades to ½ · ½ at the corners of its box, so it may lose the pixels there.
    areas = coco.area(rles).tolist()
    assert areas == [2000 * 2100, 100, 20 * 2000, 30 * 1000 - 4, 0, 0, 0]


def test_paste_takes_half_precision_strides_and_nothing() -> None:
    masks = soft_masks(3, 14).half().transpose(1, 2)
    boxes, size = random_boxes(3, (40, 50)).double(), (40, 50)
    expected = ops.paste(masks.float().contiguous(), boxes.float(), size)
    assert torch.equal(ops.paste(masks, boxes, size), expected)
    assert ops.paste(masks[:0], boxes[:0], size).shape == (0, 40, 50)
    assert ops.paste_to_rle(masks[:0], boxes[:0], size) == []


def test_paste_says_what_is_wrong() -> None:
    masks, boxes = soft_masks(2, 7), random_boxes(2, (20, 20))
    with pytest.raises(ValueError, match=r"\[2, 1, 7, 7\] and \[2, 4\]"):
        ops.paste(masks[:, None], boxes, (20, 20))
    with pytest.raises(ValueError, match=r"got \[2, 7, 7\] and \[1, 4\]"):
        ops.paste_to_rle(masks, boxes[:1], (20, 20))
    with pytest.raises(ValueError, match="dialect is 'continuous' or 'torchvision', got 'old'"):
        ops.paste(masks, boxes, (20, 20), "old")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="threshold must be at least 0"):
        ops.paste_to_rle(masks, boxes, (20, 20), -0.5)
    boxes[0, 0] = float("inf")
    with pytest.raises(ValueError, match="box 0 is not finite"):
        ops.paste(masks, boxes, (20, 20))


def test_runs_are_pycocotools_uncompressed_counts() -> None:
    generator = torch.Generator().manual_seed(0)
    for height, width in ((1, 1), (3, 4), (17, 5), (0, 4), (40, 30)):
        for share in (0.0, 0.3, 1.0):
            mask = (torch.rand(height, width, generator=generator) < share).to(torch.uint8)
            runs = ops.to_runs(mask)
            assert sum(runs) == mask.numel()
            assert all(run > 0 for run in runs[1:])
            if mask.numel():
                assert torch.equal(ops.decode({"size": [height, width], "counts": runs}), mask)
                theirs = coco.frPyObjects({"size": [height, width], "counts": runs}, height, width)
                assert theirs == ops.encode(mask)
            assert ops.to_runs(mask.bool()) == runs
    assert ops.to_runs(torch.tensor([[0, 0, 1], [0, 1, 1]])) == [3, 3]
    assert ops.to_runs(torch.ones(2, 2)) == [0, 4]
    with pytest.raises(ValueError, match=r"expected one bitmap \[H, W\]"):
        ops.to_runs(torch.zeros(1, 2, 2))
