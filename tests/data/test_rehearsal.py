"""The rehearsal set has COCO's statistics, is deterministic, and appears whole or not at all."""

import os
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrcnn_edu.cli import main
from mrcnn_edu.data import coco_facts as facts
from mrcnn_edu.data import rehearsal
from mrcnn_edu.data.check import check_dataset
from mrcnn_edu.data.coco import CocoDataset
from mrcnn_edu.data.rehearsal import ground_truth, image_size, write_rehearsal
from mrcnn_edu.data.rehearsal_outlines import area, outline, star

COUNT = 800


@pytest.fixture(scope="module")
def truth() -> dict:
    return ground_truth(COUNT, seed=7)


@pytest.fixture(scope="module")
def objects(truth) -> list[dict]:
    return [a for a in truth["annotations"] if not a["iscrowd"]]


def test_objects_and_crowds_an_image(truth, objects):
    assert len(objects) / COUNT == pytest.approx(849_949 / 118_287, rel=0.1)
    crowds = len(truth["annotations"]) - len(objects)
    assert crowds / len(truth["annotations"]) == pytest.approx(10_052 / 860_001, abs=0.004)
    counts = np.bincount([a["image_id"] for a in objects], minlength=COUNT + 1)[1:]
    assert (counts == 0).mean() == pytest.approx(1_021 / 118_287, abs=0.01)


def test_sizes_of_objects(objects):
    side = np.sqrt([a["area"] for a in objects])
    shares = ((side < 32).mean(), ((side >= 32) & (side < 96)).mean(), (side >= 96).mean())
    assert shares == pytest.approx(facts.SMALL_MEDIUM_LARGE, abs=0.03)
    assert side.min() > 0


def test_corners_and_pieces(objects):
    corners = [len(polygon) // 2 for a in objects for polygon in a["segmentation"]]
    assert np.median(corners) == pytest.approx(facts.VERTICES_MEDIAN, abs=1)
    assert np.percentile(corners, 90) == pytest.approx(facts.VERTICES_90, abs=3)
    pieces = np.array([len(a["segmentation"]) for a in objects])
    assert (pieces > 1).mean() == pytest.approx(facts.IN_PIECES, abs=0.015)
    large = [a for a in objects if a["area"] > 1000]  # a small mask is more pixels than polygon
    fill = np.mean([a["area"] / np.prod(a["bbox"][2:]) for a in large])
    assert fill == pytest.approx(facts.BOX_FILL, abs=0.05)
    sigma = np.std([np.log(a["bbox"][3] / a["bbox"][2]) for a in objects])
    assert sigma == pytest.approx(facts.ASPECT_SIGMA, abs=0.06)
    together = np.corrcoef(
        [(np.log(a["area"]), np.log(max(map(len, a["segmentation"])))) for a in objects],
        rowvar=False,
    )[0, 1]
    assert together == pytest.approx(facts.SIZE_VERTICES_CORRELATION, abs=0.05)


def test_classes(truth, objects):
    people = np.mean([a["category_id"] == 1 for a in objects])
    assert people == pytest.approx(257_253 / 849_949, abs=0.05)
    classes = defaultdict(set)
    for a in objects:
        classes[a["image_id"]].add(a["category_id"])
    assert np.mean([len(c) for c in classes.values()]) == pytest.approx(3.5, abs=0.3)
    assert [c["id"] for c in truth["categories"]] == [i for i, _, _ in facts.CLASSES]
    assert len({a["category_id"] for a in objects}) > 65  # 198 of 849,949 are hair driers


def test_sizes_of_images():
    rng = np.random.default_rng(0)
    sizes = [image_size(rng) for _ in range(5000)]
    for size, share in facts.IMAGE_SIZES.items():
        assert np.mean([s == size for s in sizes]) == pytest.approx(share, abs=0.02)
    assert np.mean([w > h for w, h in sizes]) == pytest.approx(facts.WIDE_IMAGES, abs=0.03)
    assert max(max(s) for s in sizes) == 640


def test_files_are_jpegs_of_cocos_weight_and_sound(tmp_path):
    annotations = write_rehearsal(tmp_path, 24, seed=1)
    files = sorted((tmp_path / "train").iterdir())
    weight = np.mean([f.stat().st_size for f in files])
    assert weight == pytest.approx(facts.JPEG_BYTES, rel=0.15)
    assert all(f.read_bytes()[:2] == b"\xff\xd8" for f in files)
    dataset = CocoDataset(tmp_path / "train", annotations)
    assert check_dataset(dataset, 8).problems == []
    assert dataset.num_classes == 80


def test_the_same_seed_gives_the_same_bytes_and_no_other(tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        main(f"data rehearsal --out {tmp_path / name} --count 2 --seed {seed}".split())
    for file in ("train/000000000002.jpg", "annotations/instances_train.json"):
        a, b, c = ((tmp_path / name / file).read_bytes() for name in "abc")
        assert a == b != c
    assert ground_truth(3, 3)["images"][:2] == ground_truth(2, 3)["images"]  # a longer set goes on


def test_nothing_is_left_behind_when_writing_fails(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(rehearsal, "paint", full)
    with pytest.raises(OSError, match="No space"):
        write_rehearsal(tmp_path / "set", 2, seed=0)
    assert os.listdir(tmp_path / "set") == []


def test_what_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one"):
        write_rehearsal(tmp_path, 0, seed=0)
    (tmp_path / "train").mkdir()
    with pytest.raises(FileExistsError):
        write_rehearsal(tmp_path, 1, seed=0)


@settings(max_examples=100, deadline=None)
@given(
    corners=st.lists(st.integers(4, 200), min_size=1, max_size=3),
    side=st.floats(3, 2000),
    aspect=st.floats(0.05, 20),
    size=st.tuples(st.integers(40, 640), st.integers(40, 640)),
    seed=st.integers(0, 2**32),
)
def test_outlines_lie_in_the_image_and_have_the_area_if_there_is_room(
    corners, side, aspect, size, seed
):
    polygons = outline(corners, side, aspect, size, np.random.default_rng(seed))
    assert [len(p) for p in polygons] == corners
    for points in polygons:
        assert (points >= 0).all()
        assert (points <= size).all()
    total = sum(map(area, polygons))
    assert 0 < total <= side**2 * 1.001
    if side**2 * max(aspect, 1 / aspect) * 20 < min(size) ** 2:
        assert total == pytest.approx(side**2, rel=0.01)


def test_area_is_the_shoelace():
    assert area(np.array([[0.0, 0], [3, 0], [3, 2], [0, 2]])) == 6
    low, high = (f(star(9, np.random.default_rng(0)), axis=0).tolist() for f in (np.min, np.max))
    assert (low, high) == ([0, 0], [1, 1])
