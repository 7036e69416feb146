"""Shapes: exact masks, honest statistics, the same bytes for the same seed."""

import dataclasses
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from pycocotools.coco import COCO

from mrcnn_edu.data import shapes as shapes_module
from mrcnn_edu.data.check import check_target
from mrcnn_edu.data.coco import CocoDataset
from mrcnn_edu.data.shapes import ShapesConfig, ShapesDataset, ShapesSet, generate, write_coco
from mrcnn_edu.data.shapes_outline import (
    CLASS_NAMES,
    KEYPOINTS,
    SUB,
    UNIT,
    UNSEEN_NAMES,
    coverage,
    place,
)
from mrcnn_edu.masks import to_boxes


@pytest.fixture(scope="module")
def default_val() -> ShapesSet:
    return generate(ShapesConfig(), 200, seed=2)


@pytest.fixture(scope="module")
def few() -> ShapesSet:
    return generate(ShapesConfig(), 12, seed=5)


def test_same_seed_same_bytes_and_images_do_not_depend_on_their_number(few: ShapesSet) -> None:
    again = generate(ShapesConfig(), 12, seed=5)
    assert np.array_equal(few.images, again.images)
    assert few.ground_truth == again.ground_truth
    assert np.array_equal(few.images[:4], generate(ShapesConfig(), 4, seed=5).images)


def test_another_seed_gives_another_set(few: ShapesSet) -> None:
    other = generate(ShapesConfig(), 12, seed=6)
    assert few.digest() != other.digest()
    assert not np.array_equal(few.images, other.images)


def test_digest_sees_a_single_changed_mask(few: ShapesSet) -> None:
    truth = json.loads(json.dumps(few.ground_truth))
    assert dataclasses.replace(few, ground_truth=truth).digest() == few.digest()
    truth["annotations"][3]["segmentation"]["counts"] = "0"
    assert dataclasses.replace(few, ground_truth=truth).digest() != few.digest()


def test_statistics_promised_for_the_default_set(default_val: ShapesSet) -> None:
    annotations = default_val.ground_truth["annotations"]
    per_image = Counter(a["image_id"] for a in annotations)
    hidden = [a["area"] < a["full_area"] for a in annotations]
    small = [max(a["bbox"][2:]) < 16 for a in annotations]
    assert np.mean(hidden) >= 0.30  # objects partly covered by another
    assert np.mean(small) >= 0.20
    assert set(per_image) == set(range(1, 201))
    assert set(per_image.values()) == set(range(1, 9))
    assert min(Counter(a["category_id"] for a in annotations).values()) >= 50
    assert max(max(a["bbox"][2:]) for a in annotations) > 90
    assert min(a["area"] for a in annotations) >= 12
    assert all(a["area"] >= 0.7 * a["full_area"] for a in annotations)


def test_masks_of_an_image_do_not_overlap_and_boxes_are_theirs(few: ShapesSet) -> None:
    dataset = ShapesDataset(few)
    for image, target in (dataset[i] for i in range(len(dataset))):
        assert int(target["masks"].sum(dim=0).max()) == 1  # visible parts are disjoint
        assert torch.equal(target["boxes"], to_boxes(target["masks"]))
        assert torch.equal(target["area"], target["masks"].flatten(1).sum(1).float())
        check_target(image, target, dataset.num_classes)


def test_objects_stand_out_from_what_is_around_them(few: ShapesSet) -> None:
    """Inside and a 2 px rim outside differ in mean colour, noise and texture aside."""
    dataset = ShapesDataset(few)
    gaps = []
    for image, target in (dataset[i] for i in range(len(dataset))):
        for mask in target["masks"].float():
            grown = torch.nn.functional.max_pool2d(mask[None], 5, 1, 2)[0]
            inside = (image * mask).sum((1, 2)) / mask.sum()
            rim = (image * (grown - mask)).sum((1, 2)) / (grown - mask).sum()
            gaps.append(float((inside - rim).norm()))
    assert min(gaps) > 20
    assert np.median(gaps) > 80


def test_keypoints_are_cocos_17_and_visibility_tells_the_truth(default_val: ShapesSet) -> None:
    dataset = ShapesDataset(default_val)
    assert len(KEYPOINTS) == 17
    seen = Counter()
    for i in range(len(dataset)):
        target = dataset.target(i)
        person = target["labels"] == dataset.class_names.index("person") + 1
        assert not target["keypoints"][~person].any()
        for points, mask in zip(target["keypoints"][person], target["masks"][person], strict=True):
            for x, y, v in points.tolist():
                seen[v] += 1
                if v == 0:
                    assert x == y == 0
                else:
                    assert 0 <= x < 128
                    assert 0 <= y < 128
                if v == 1:  # hidden: the pixel shows somebody else
                    assert not mask[int(y), int(x)]
                if v == 2:  # on the figure, or within a pixel of its thinnest limb
                    near = mask[max(int(y) - 1, 0) : int(y) + 2, max(int(x) - 1, 0) : int(x) + 2]
                    assert near.any()
    assert set(seen) == {0, 1, 2}
    assert seen[2] > 5 * seen[1]


def test_left_joints_are_on_the_right_of_a_figure_that_faces_us() -> None:
    rng = np.random.default_rng(0)
    left, right = KEYPOINTS.index("left_shoulder"), KEYPOINTS.index("right_shoulder")
    for _ in range(50):
        joints = place("person", 60, 64, 64, 20, rng).joints
        assert joints.shape == (17, 2)
        assert joints[left, 0] > joints[right, 0]


@pytest.mark.parametrize(
    "name", [n for n in CLASS_NAMES + UNSEEN_NAMES if n not in ("ring", "zigzag", "person")]
)
def test_rasteriser_agrees_with_pillow_on_simple_polygons(name: str) -> None:
    """Pillow draws the outline too, so its shape is ours grown by at most one sub-sample."""
    rng = np.random.default_rng(3)
    for _ in range(5):
        contour = place(name, 50, 40, 40, 180, rng).contours
        y0, x0, counts = coverage(contour)
        big = Image.new("1", (80 * 8, 80 * 8))
        ImageDraw.Draw(big).polygon([(x / 8, y / 8) for x, y in contour[0].tolist()], fill=1)
        theirs = np.asarray(big).reshape(80, 8, 80, 8).mean(axis=(1, 3))
        ours = np.zeros((80, 80))
        ours[y0 : y0 + counts.shape[0], x0 : x0 + counts.shape[1]] = counts / (SUB * SUB)
        assert np.abs(ours - theirs).max() < 0.45  # one sub-sample line along an edge
        assert np.abs(ours - theirs).mean() < 0.01


def test_rasteriser_on_a_square_small_enough_to_count() -> None:
    square = np.array([[1, 1], [3, 1], [3, 2], [1, 2]]) * UNIT
    y0, x0, counts = coverage([square])
    assert (y0, x0, counts.tolist()) == (1, 1, [[16, 16]])
    half = square + np.array([UNIT // 2, 0])
    assert coverage([half])[2].tolist() == [[8, 16, 8]]


def test_rasteriser_cuts_a_hole_where_a_contour_runs_the_other_way() -> None:
    outer = np.array([[0, 0], [4, 0], [4, 4], [0, 4]]) * UNIT
    inner = (np.array([[1, 1], [3, 1], [3, 3], [1, 3]]) * UNIT)[::-1]
    counts = coverage([outer, inner])[2]
    expected = np.full((4, 4), 16)
    expected[1:3, 1:3] = 0
    assert np.array_equal(counts, expected)
    united = coverage([outer, inner[::-1]])[2]  # the same way round: no hole
    assert (united == 16).all()


@given(
    name=st.sampled_from(CLASS_NAMES + UNSEEN_NAMES),
    size=st.floats(8, 100),
    x=st.floats(-20, 150),
    y=st.floats(-20, 150),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_a_placed_shape_has_the_size_and_the_centre_that_were_asked_for(
    name: str, size: float, x: float, y: float, seed: int
) -> None:
    points = (
        np.concatenate(place(name, size, x, y, 180, np.random.default_rng(seed)).contours) / UNIT
    )
    low, high = points.min(axis=0), points.max(axis=0)
    assert abs((high - low).max() - size) <= 2 / UNIT  # both ends are rounded to the grid
    assert np.abs((low + high) / 2 - [x, y]).max() <= 1 / UNIT


@given(
    image_size=st.integers(32, 160),
    max_objects=st.integers(1, 12),
    overlap=st.floats(0, 1),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=15, deadline=None)
def test_any_config_gives_valid_targets(
    image_size: int, max_objects: int, overlap: float, seed: int
) -> None:
    config = ShapesConfig(image_size=image_size, max_objects=max_objects, overlap=overlap)
    dataset = ShapesDataset(generate(config, 2, seed))
    for i in range(2):
        image, target = dataset[i]
        assert image.shape == (3, image_size, image_size)
        assert 1 <= len(target["labels"]) <= max_objects
        check_target(image, target, dataset.num_classes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": ()}, "each of those wanted once"),
        ({"classes": ("disc", "disc")}, "each of those wanted once"),
        ({"classes": ("disc", "dog")}, "each of those wanted once"),
        ({"min_object_size": 4}, "legible"),
        ({"image_size": 16}, "at least twice"),
        ({"max_object_share": 1.5}, "at most image_size"),
        ({"max_objects": 0}, "at least 1"),
        ({"overlap": 1.2}, "overlap"),
        ({"min_visible": 0.0}, "min_visible"),
    ],
)
def test_impossible_configs_are_refused(change: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ShapesConfig(**change)


def test_a_set_can_have_fewer_classes_and_labels_follow_their_order() -> None:
    few = generate(ShapesConfig(classes=("person", "disc")), 12, seed=5)
    person, disc = few.ground_truth["categories"]
    assert (person["id"], person["name"], len(person["keypoints"])) == (1, "person", 17)
    assert (disc["id"], disc["name"]) == (2, "disc")
    assert "keypoints" not in disc
    found = few.ground_truth["annotations"]
    assert {a["category_id"] for a in found} == {1, 2}
    assert all(("keypoints" in a) == (a["category_id"] == 1) for a in found)


def test_negative_seed_or_number_is_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        generate(ShapesConfig(), -1, 0)
    with pytest.raises(ValueError, match="negative"):
        generate(ShapesConfig(), 1, -5)


def test_an_empty_set_is_a_set() -> None:
    empty = generate(ShapesConfig(), 0, 0)
    assert len(ShapesDataset(empty)) == 0
    assert empty.images.shape == (0, 128, 128, 3)


def test_written_set_is_read_back_equal(few: ShapesSet, tmp_path: Path) -> None:
    path = write_coco(few, tmp_path, "train")
    assert path == tmp_path / "annotations" / "instances_train.json"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["annotations", "train"]
    theirs, ours = COCO(str(path)), ShapesDataset(few)
    read = CocoDataset(tmp_path / "train", path)
    assert read.class_names == list(CLASS_NAMES)
    for i, image_id in enumerate(ours.image_ids):
        (image, target), (image_2, target_2) = ours[i], read[i]
        assert torch.equal(image, image_2)
        assert target.keys() == target_2.keys()
        assert all(torch.equal(target[k], target_2[k]) for k in target)
        annotations = theirs.loadAnns(theirs.getAnnIds(image_id))
        masks = np.stack([theirs.annToMask(a) for a in annotations])
        assert np.array_equal(masks, target["masks"].numpy())


def test_nothing_is_overwritten(few: ShapesSet, tmp_path: Path) -> None:
    write_coco(few, tmp_path, "val")
    with pytest.raises(FileExistsError, match="choose another folder"):
        write_coco(few, tmp_path, "val")


def test_a_write_that_fails_leaves_nothing_behind(few: ShapesSet, tmp_path: Path) -> None:
    broken = dataclasses.replace(few, images=few.images[:3])
    with pytest.raises(ValueError, match="shorter"):
        write_coco(broken, tmp_path, "train")
    assert list(tmp_path.iterdir()) == []


def test_default_sets_are_the_ones_the_course_speaks_of(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(
        shapes_module, "generate", lambda config, n, seed: asked.append((config, n, seed))
    )
    shapes_module.default_sets()
    assert asked == [(ShapesConfig(), 1500, 1), (ShapesConfig(), 200, 2)]


def test_the_default_sets_are_frozen(default_val: ShapesSet) -> None:
    """An easier set would give better numbers that compare with nothing. Who must change the set
    measures everything in results/ again. Textures, noise and contrast do not show in the
    annotations, so the config is frozen beside their hash.
    """
    assert dataclasses.asdict(ShapesConfig()) == {
        "classes": CLASS_NAMES,
        "image_size": 128,
        "max_objects": 8,
        "min_object_size": 8,
        "max_object_share": 0.8,
        "max_turn": 20.0,
        "overlap": 0.6,
        "min_visible": 0.7,
        "min_contrast": 110.0,
        "texture": 20.0,
        "lines": 2,
        "noise": 6.0,
    }
    assert default_val.digest() == (
        "6176d53ac7dd5569c99f899a0a2f2324d2e2f8cf3c33da629c3b0d814780f5d6"
    )
    assert generate(ShapesConfig(), 1500, seed=1).digest() == (
        "56aa01eccf837a9a2358c89ebcaeafdac16f29b678f745be40700456fad85c3b"
    )
