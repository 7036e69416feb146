"""Transforms: the box stays the box of its mask, twice is identity, torchvision agrees."""

import math

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mrcnn_edu.data import transforms as T
from mrcnn_edu.data.check import check_target
from mrcnn_edu.data.shapes import ShapesConfig, ShapesDataset, generate
from mrcnn_edu.masks import to_boxes

Target = dict[str, Tensor]
DATASET = ShapesDataset(generate(ShapesConfig(image_size=96), 24, seed=9))
PEOPLE = [i for i in range(24) if (DATASET.target(i)["labels"] == 10).any()]


def item(index: int = 0) -> tuple[Tensor, Target]:
    """A Shapes image cut to 96×80, so that width and height cannot be mistaken."""
    return T.crop_window(*DATASET[index], top=0, left=5, height=96, width=80)


def empty() -> tuple[Tensor, Target]:
    image = torch.arange(3 * 6 * 8, dtype=torch.uint8).reshape(3, 6, 8)
    target = {
        "boxes": torch.zeros(0, 4),
        "labels": torch.zeros(0, dtype=torch.int64),
        "masks": torch.zeros(0, 6, 8, dtype=torch.uint8),
        "area": torch.zeros(0),
        "iscrowd": torch.zeros(0, dtype=torch.int64),
        "image_id": torch.tensor(1),
        "keypoints": torch.zeros(0, 17, 3),
    }
    return image, target


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def assert_same(a: tuple[Tensor, Target], b: tuple[Tensor, Target], atol: float = 0.0) -> None:
    assert torch.equal(a[0], b[0])
    assert a[1].keys() == b[1].keys()
    for key in a[1]:
        assert torch.allclose(a[1][key], b[1][key], rtol=0, atol=atol), key


FLIPS = {
    "horizontal": T.horizontal_flip,
    "vertical": T.vertical_flip,
    "one turn": lambda image, target: T.quarter_turn(image, target, 1),
    "two turns": lambda image, target: T.quarter_turn(image, target, 2),
    "three turns": lambda image, target: T.quarter_turn(image, target, 3),
}


@pytest.mark.parametrize("name", FLIPS)
@pytest.mark.parametrize("index", range(0, 24, 5))
def test_boxes_stay_the_boxes_of_their_masks(name: str, index: int) -> None:
    image, target = FLIPS[name](*item(index))
    assert torch.equal(target["boxes"], to_boxes(target["masks"]))  # whole pixels: exact
    check_target(image, target, DATASET.num_classes)


@pytest.mark.parametrize("name", FLIPS)
def test_masks_and_joints_go_where_the_pixels_go(name: str) -> None:
    """The image is made of the masks, and of one bright pixel a joint: they move together."""
    for index in PEOPLE[:5]:
        _, target = item(index)
        person = int((target["labels"] == 10).nonzero()[0]) if 10 in target["labels"] else None
        if person is None:
            continue
        image = torch.zeros(3, 96, 80)
        image[0] = target["masks"][person]
        points = target["keypoints"][person]
        for x, y, v in points.tolist():
            if v:
                image[1, int(y), int(x)] = 1
        moved, out = FLIPS[name](image, target)
        assert torch.equal(moved[0], out["masks"][person].float())
        joints = out["keypoints"][person]
        lit = {(int(x - 1e-4), int(y - 1e-4)) for x, y, v in joints.tolist() if v}
        lit |= {(int(x), int(y)) for x, y, v in joints.tolist() if v}
        bright = {(int(x), int(y)) for y, x in moved[1].nonzero().tolist()}
        assert bright <= lit  # a joint exactly between two pixels may belong to either
        assert sorted(joints[:, 2].tolist()) == sorted(points[:, 2].tolist())


@pytest.mark.parametrize("name", ["horizontal", "vertical", "two turns"])
@pytest.mark.parametrize("index", PEOPLE[:4])
def test_twice_is_the_identity(name: str, index: int) -> None:
    once = FLIPS[name](*item(index))
    twice = FLIPS[name](*once)
    assert not torch.equal(once[0], twice[0])
    # joints lie on a grid of 1/64 pixel, so x -> W - x is exact in float32
    assert_same(twice, item(index))


def test_four_quarter_turns_are_the_identity_and_two_are_both_flips() -> None:
    image, target = item(PEOPLE[0])
    turned = image, target
    for _ in range(4):
        turned = T.quarter_turn(*turned, 1)
    assert_same(turned, (image, target))
    assert_same(T.quarter_turn(image, target, 4), (image, target))
    both = T.vertical_flip(*T.horizontal_flip(image, target))
    assert_same(T.quarter_turn(image, target, 2), both)  # two mirrors: left is left again


def test_quarter_turn_on_a_single_point() -> None:
    image, target = item()
    target = target | {"boxes": torch.tensor([[10.0, 20.0, 30.0, 60.0]])}
    assert T.quarter_turn(image, target, 1)[1]["boxes"].tolist() == [[20, 50, 60, 70]]


def test_a_flip_swaps_left_and_right_joints() -> None:
    image, target = empty()
    target["keypoints"] = torch.zeros(1, 17, 3)
    target["keypoints"][0, 9] = torch.tensor([1.5, 2.0, 2.0])  # left wrist
    _, flipped = T.horizontal_flip(image, target)
    expected = torch.zeros(1, 17, 3)
    expected[0, 10] = torch.tensor([6.5, 2.0, 2.0])  # right wrist, at 8 − 1.5
    assert torch.equal(flipped["keypoints"], expected)  # the other sixteen stay (0, 0, 0)
    swap = torch.tensor(T.MIRRORED_JOINTS)
    assert torch.equal(swap[swap], torch.arange(17))


def test_flips_equal_torchvisions_reference_on_boxes() -> None:
    image, target = item(3)
    ours = T.horizontal_flip(image, target)[1]["boxes"]
    theirs = target["boxes"].clone()
    theirs[:, [0, 2]] = image.shape[-1] - theirs[:, [2, 0]]
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", FLIPS)
def test_no_objects_is_legal_everywhere(name: str) -> None:
    image, target = FLIPS[name](*empty())
    check_target(image, target, 1)
    check_target(*T.crop_window(*empty(), 1, 2, 3, 4), 1)
    resized = T.resize_target(empty()[1], (6, 8), (12, 16))
    assert resized["masks"].shape == (0, 12, 16)


def test_transforms_do_not_write_to_their_input() -> None:
    image, target = item(PEOPLE[0])
    kept = image.clone(), {k: v.clone() for k, v in target.items()}
    for flip in FLIPS.values():
        flip(image, target)
    T.crop_window(image, target, 10, 10, 40, 40)
    T.resize_target(target, (96, 80), (48, 40))
    T.augment(T.to_float(image), target, generator(), quarter_turns=True)
    assert_same((image, target), kept)


@given(
    index=st.integers(0, 23),
    top=st.integers(0, 60),
    left=st.integers(0, 60),
    height=st.integers(1, 96),
    width=st.integers(1, 96),
)
@settings(max_examples=60, deadline=None)
def test_crops_keep_what_is_left_of_each_object(
    index: int, top: int, left: int, height: int, width: int
) -> None:
    image, target = DATASET[index]
    height, width = min(height, 96 - top), min(width, 96 - left)
    small, out = T.crop_window(image, target, top, left, height, width)
    assert torch.equal(small, image[:, top : top + height, left : left + width])
    check_target(small, out, DATASET.num_classes)
    assert torch.equal(out["boxes"], to_boxes(out["masks"]))
    assert torch.equal(out["area"], out["masks"].flatten(1).sum(1).float())
    window = target["masks"][:, top : top + height, left : left + width]
    left_over = window.flatten(1).sum(1)
    keep = (left_over >= 10) & (left_over >= 0.1 * target["masks"].flatten(1).sum(1))
    assert torch.equal(out["masks"], window[keep])
    assert torch.equal(out["labels"], target["labels"][keep])
    for before, after in zip(target["keypoints"][keep], out["keypoints"], strict=True):
        for (x, y, v), (new_x, new_y, new_v) in zip(before.tolist(), after.tolist(), strict=True):
            if v and left <= x < left + width and top <= y < top + height:
                assert (new_x, new_y, new_v) == (x - left, y - top, v)
            else:
                assert (new_x, new_y, new_v) == (0, 0, 0)


def test_a_window_outside_the_image_is_refused() -> None:
    for window in ((-1, 0, 5, 5), (0, -1, 5, 5), (4, 0, 3, 5), (0, 4, 3, 5)):
        with pytest.raises(ValueError, match="leaves the image of 6×8"):
            T.crop_window(*empty(), *window)
        with pytest.raises(ValueError, match="leaves the image of 6×8"):
            T.resize_target(empty()[1], (3, 4), (6, 8), window)


@given(
    index=st.integers(0, 23),
    size=st.tuples(st.integers(20, 150), st.integers(20, 150)),
    corner=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    share=st.tuples(st.floats(0.1, 1), st.floats(0.1, 1)),
)
@settings(max_examples=60, deadline=None)
def test_a_window_of_a_resized_target_is_that_of_the_whole(
    index: int, size: tuple[int, int], corner: tuple[float, float], share: tuple[float, float]
) -> None:
    """The straightforward way: torchvision makes each mask whole, then most of it is cut away."""
    _, target = item(index)
    height, width = (max(1, int(n * s)) for n, s in zip(size, share, strict=True))
    top, left = int(corner[0] * (size[0] - height)), int(corner[1] * (size[1] - width))
    whole = T.resize_target(target, (96, 80), size)
    whole["masks"] = T.F.resize(target["masks"], list(size), T.InterpolationMode.NEAREST_EXACT)
    image = torch.zeros(3, *size)
    expected = T.crop_window(image, whole, top, left, height, width)[1]
    cut = T.resize_target(target, (96, 80), size, (top, left, height, width))
    assert list(cut) == list(expected)
    for key in cut:
        assert torch.equal(cut[key], expected[key]), key
        assert cut[key].dtype == expected[key].dtype
    # Other devices and types make the masks whole; they are the same there.
    slow = T.resize_target(
        target | {"masks": target["masks"].float()}, (96, 80), size, (top, left, height, width)
    )
    assert all(torch.equal(slow[key].to(cut[key].dtype), cut[key]) for key in cut)


def test_a_crop_keeps_no_more_memory_than_it_shows() -> None:
    image, _ = T.crop_window(*item(), 3, 4, 20, 30)
    assert image.untyped_storage().nbytes() == 3 * 20 * 30


SCENES = [(480, 640), (640, 480), (100, 1000), (333, 500), (427, 640), (500, 375), (612, 612)]


@pytest.mark.parametrize(("height", "width"), SCENES)
def test_resized_shape_is_torchvisions(height: int, width: int) -> None:
    """Rounding down it is torchvision's; to the nearest, at most a pixel more."""
    theirs = torchvision.models.detection.transform.GeneralizedRCNNTransform(
        800, 1333, [0.0] * 3, [1.0] * 3
    ).resize(torch.zeros(3, height, width), None)[0]
    assert T.resized_shape(height, width, 800, 1333, "floor") == theirs.shape[-2:]
    nearest = T.resized_shape(height, width, 800, 1333)
    assert all(0 <= a - b <= 1 for a, b in zip(nearest, theirs.shape[-2:], strict=True))


def test_resize_equals_torch_interpolate_and_leaves_a_fitting_image_alone() -> None:
    image = T.to_float(item()[0])
    resized = T.resize(image, 160, 1000)
    assert resized.shape == (3, 192, 160)
    theirs = torch.nn.functional.interpolate(
        image[None], size=(192, 160), mode="bilinear", align_corners=False
    )[0]
    assert torch.allclose(resized, theirs, atol=1e-6)  # the same kernel, one rounding apart
    assert T.resize(image, 80, 96) is image


@pytest.mark.parametrize("factor", [2, 3])
def test_enlarged_masks_are_exact_blocks(factor: int) -> None:
    _, target = item(PEOPLE[0])
    out = T.resize_target(target, (96, 80), (96 * factor, 80 * factor))
    blocks = np.kron(target["masks"].numpy(), np.ones((1, factor, factor), np.uint8))
    assert np.array_equal(out["masks"].numpy(), blocks)
    assert torch.equal(out["boxes"], to_boxes(out["masks"]))
    assert torch.equal(out["area"], target["area"] * factor**2)
    assert torch.equal(out["keypoints"][..., :2], target["keypoints"][..., :2] * factor)


def test_shrunken_masks_do_not_drift() -> None:
    """A disc's centroid stays in place: the reason for NEAREST_EXACT."""
    y, x = torch.meshgrid(torch.arange(96) + 0.5, torch.arange(96) + 0.5, indexing="ij")
    disc = ((x - 45) ** 2 + (y - 50) ** 2 < 30**2).to(torch.uint8)[None]
    _, target = empty()
    target |= {"masks": disc, "boxes": to_boxes(disc), "area": disc.sum().float()[None]}
    out = T.resize_target(target, (96, 96), (32, 32))["masks"][0].nonzero() + 0.5
    assert torch.allclose(out.float().mean(0), torch.tensor([50.0, 45.0]) / 3, atol=0.05)


def test_to_float() -> None:
    image = torch.tensor([0, 51, 255], dtype=torch.uint8)[:, None, None]
    assert torch.allclose(T.to_float(image).flatten(), torch.tensor([0, 0.2, 1.0]))
    half = T.to_float(image).half()
    assert T.to_float(half).dtype == torch.float32


def test_augment_depends_on_the_generator_and_on_nothing_else() -> None:
    image, target = item(PEOPLE[0])
    options = {"vertical_flip_probability": 0.5, "quarter_turns": True}
    torch.manual_seed(1)
    first = T.augment(image, target, generator(5), **options)
    state = torch.get_rng_state()
    torch.manual_seed(2)
    assert_same(first, T.augment(image, target, generator(5), **options))
    torch.manual_seed(1)
    assert torch.equal(state, torch.get_rng_state())  # the global generator is not touched
    pictures = [T.augment(image, target, generator(s), **options)[0] for s in range(20)]
    assert len({tuple(p.flatten()[:99].tolist()) for p in pictures}) > 4  # of eight


def test_augment_flips_as_often_as_it_is_told() -> None:
    image, target = empty()
    g = generator()
    flips = sum(
        not torch.equal(T.augment(image, target, g, flip_probability=0.3)[0], image)
        for _ in range(1000)
    )
    assert abs(flips - 300) < 4 * math.sqrt(1000 * 0.3 * 0.7)  # four standard deviations
    assert torch.equal(T.augment(image, target, g, flip_probability=0.0)[0], image)


def test_windows_are_drawn_evenly_and_small_images_are_taken_whole() -> None:
    g = generator()
    corners = {T.draw_window((6, 8), 5, g)[:2] for _ in range(99)}
    assert corners == {(top, left) for top in (0, 1) for left in (0, 1, 2, 3)}
    assert T.draw_window((6, 8), 50, g) == (0, 0, 6, 8)


@pytest.mark.parametrize("seed", range(6))
def test_augmented_targets_are_valid(seed: int) -> None:
    for index in range(0, 24, 4):
        image, target = item(index)
        g = generator(seed)
        image, target = T.crop_window(image, target, *T.draw_window(image.shape[1:], 64, g))
        image, target = T.augment(
            image, target, g, vertical_flip_probability=0.5, quarter_turns=True
        )
        check_target(image, target, DATASET.num_classes)
        assert torch.equal(target["boxes"], to_boxes(target["masks"]))


def test_float16_and_non_contiguous_images() -> None:
    image, target = item(2)
    strided = image.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    assert not strided.is_contiguous()
    assert_same(T.horizontal_flip(strided, target), T.horizontal_flip(image, target))
    half = T.to_float(image).half()
    assert T.quarter_turn(half, target, 1)[0].dtype == torch.float16


def test_collate_keeps_images_of_any_size_apart() -> None:
    images, targets = T.collate([item(0), empty()])
    assert [x.shape for x in images] == [(3, 96, 80), (3, 6, 8)]
    assert [len(t["labels"]) for t in targets] == [len(item(0)[1]["labels"]), 0]
    assert T.collate([]) == ([], [])
