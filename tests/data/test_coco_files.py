"""The check of a COCO folder, on a tree of a few images in COCO's layout."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mrcnn_edu.cli import main
from mrcnn_edu.data.coco_facts import ARCHIVES, CLASSES, SPLITS, Archive, Split
from mrcnn_edu.data.coco_files import check_coco, file_hash

SMALL = {"train2017": Split(3, 3, 4), "val2017": Split(2, 2, 3)}


@pytest.fixture
def root(tmp_path) -> Path:
    """A complete set of three and two images, each with one object, and one crowd a split."""
    (tmp_path / "annotations").mkdir()
    rng = np.random.default_rng(0)
    for name, split in SMALL.items():
        (tmp_path / name).mkdir()
        files = [f"{i:012d}.jpg" for i in range(split.images)]
        for file in files:
            pixels = rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / file)
        annotations = [{"iscrowd": 0} for _ in files] + [{"iscrowd": 1}]
        content = {"images": [{"file_name": f} for f in files], "annotations": annotations}
        (tmp_path / f"annotations/instances_{name}.json").write_text(json.dumps(content))
        (tmp_path / f"annotations/person_keypoints_{name}.json").write_text("{}")
    return tmp_path


def problems(root: Path, **options) -> list[str]:
    report = check_coco(root, SMALL, **options)
    assert report.complete == (not report.problems)
    assert f"COCO 2017 is {'complete' if report.complete else 'not complete'}." in str(report)
    return report.problems


def test_a_complete_set_is_counted_and_hashed(root):
    assert problems(root) == []
    text = str(check_coco(root, SMALL))
    assert "instances_train2017.json: 3 images, 3 objects, 1 crowd regions" in text
    assert file_hash(root / "annotations/instances_val2017.json", "sha256") in text
    assert "val2017/: 2 images" in text


def test_a_missing_folder_says_from_where_and_how_large(root):
    for path in (root / "train2017").iterdir():
        path.unlink()
    (root / "train2017").rmdir()
    (found,) = problems(root)
    assert "train2017/ is missing" in found
    assert ARCHIVES[0].url in found
    assert "19.34 GB" in found


def test_missing_images_are_counted_and_the_first_is_named(root):
    (root / "train2017/000000000001.jpg").unlink()
    (found,) = problems(root)
    assert "lacks 1 of 3 images, 000000000001.jpg the first" in found


@pytest.mark.parametrize("keep", [0, 1, 2, 100, -2])
def test_an_image_that_was_cut_off_is_noticed(root, keep):
    path = root / "val2017/000000000001.jpg"
    path.write_bytes(path.read_bytes()[:keep])
    (found,) = problems(root)
    assert "1 images" in found
    assert "000000000001.jpg" in found


@pytest.mark.parametrize("share", [0, 0.5, 0.9])
def test_annotations_that_were_cut_off(root, share):
    path = root / "annotations/instances_train2017.json"
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    (found,) = problems(root)
    assert "cut off" in found
    assert "annotations_trainval2017.zip" in found


def test_annotations_that_are_missing_or_of_another_set(root):
    (root / "annotations/instances_train2017.json").unlink()
    path = root / "annotations/instances_val2017.json"
    path.write_text(json.dumps({"images": [], "annotations": []}))
    found = problems(root)
    assert any("instances_train2017.json is missing" in p for p in found)
    assert any("lists 0 images; val2017 has 2" in p for p in found)


def test_without_annotations_images_are_counted_all_the_same(root):
    (root / "annotations/instances_train2017.json").unlink()
    (root / "train2017/000000000001.jpg").unlink()
    assert any("lacks 1 of 3 images" in p for p in problems(root))


def test_archives_are_compared_in_size_and_hash(root):
    zipped = root / "val2017.zip"
    zipped.write_bytes(b"0123456789")
    archive = dataclasses.replace(ARCHIVES[1], size=10, md5=file_hash(zipped, "md5"))
    others = (ARCHIVES[0], ARCHIVES[2])
    assert problems(root, archives=(archive, *others), hash_archives=True) == []

    def only(**change: object) -> str:
        changed: Archive = dataclasses.replace(archive, **change)  # type: ignore[arg-type]
        (found,) = problems(root, archives=(changed, *others), hash_archives=True)
        return found

    half = only(size=20)
    assert "10 of 20 bytes, 50%" in half
    assert "curl -C - -O http://images.cocodataset.org/zips/val2017.zip" in half
    assert "another file" in only(size=5)
    assert "damaged" in only(md5="0" * 32)


def test_the_command_prints_the_report_and_fails_in_one_sentence(root, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["data", "coco", "--check", str(root)])
    assert caught.value.code == 1
    printed = capsys.readouterr()
    assert "lists 3 images; train2017 has 118,287" in printed.out
    assert printed.err.startswith("mrcnn-edu: ")
    assert "problems in" in printed.err
    with pytest.raises(SystemExit):
        main(["data", "coco", "--check", str(root / "nowhere")])
    assert "there is no folder" in capsys.readouterr().err


def test_figures_agree_with_each_other():
    assert sum(count for _, _, count in CLASSES) == SPLITS["train2017"].objects
    assert [i for i, _, _ in CLASSES] == sorted({i for i, _, _ in CLASSES})
    assert len(CLASSES) == len({name for _, name, _ in CLASSES}) == 80
