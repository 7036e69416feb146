"""The converter, on a made-up tree of the official layout."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from mrcnn_edu.data.coco import CocoDataset
from mrcnn_edu.data.nuclei import convert_nuclei

IDS = [f"{i:04x}" for i in range(12)]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """12 images of 20×30 (RGBA, as the official ones), each with two nuclei."""
    root = tmp_path / "stage1_train"
    for n, name in enumerate(IDS):
        (root / name / "images").mkdir(parents=True)
        (root / name / "masks").mkdir()
        Image.new("RGBA", (30, 20), (n, n, n, 255)).save(root / name / "images" / f"{name}.png")
        for k in range(2):
            Image.fromarray(nucleus(n, k)).save(root / name / "masks" / f"{name}{k}.png")
    return root


def nucleus(n: int, k: int) -> np.ndarray:
    mask = np.zeros((20, 30), np.uint8)
    mask[n : n + 5, 3 + 15 * k : 9 + 15 * k] = 255
    return mask


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*.*") if p.is_file()}


def test_masks_boxes_and_images_come_through(tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    train, val = convert_nuclei(tree, out, val_share=0.4)
    found = []
    for path, split in ((train, "train"), (val, "val")):
        dataset, theirs = CocoDataset(out / split, path), COCO(str(path))
        assert dataset.class_names == ["nucleus"]
        assert len(dataset) > 0
        for i, record in enumerate(dataset.images):
            n = IDS.index(record["file_name"].removesuffix(".png"))
            found.append(n)
            image, target = dataset[i]
            assert (image == n).all()
            annotations = theirs.loadAnns(theirs.getAnnIds(record["id"]))
            for k, a in enumerate(annotations):
                assert np.array_equal(theirs.annToMask(a), nucleus(n, k) > 0)
            assert target["boxes"].tolist() == [[3, n, 9, n + 5], [18, n, 24, n + 5]]
            assert target["area"].tolist() == [30, 30]
    assert sorted(found) == list(range(12))


def test_zip_and_folder_give_the_same_files(tree: Path, tmp_path: Path) -> None:
    archive = tmp_path / "stage1_train.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(tree.rglob("*.png"), reverse=True):
            file.write(path, path.relative_to(tree))
        file.writestr("__MACOSX/0001/images/._0001.png", b"rubbish")
    convert_nuclei(tree, tmp_path / "a")
    convert_nuclei(archive, tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_split_does_not_move_when_images_are_added(tree: Path, tmp_path: Path) -> None:
    def val_names(folder: Path) -> set[str]:
        truth = json.loads((folder / "annotations/instances_val.json").read_text())
        return {record["file_name"] for record in truth["images"]}

    convert_nuclei(tree, tmp_path / "all", val_share=0.4)
    for name in IDS[:4]:
        (tree / name).rename(tmp_path / name)
    convert_nuclei(tree, tmp_path / "fewer", val_share=0.4)
    kept = {f"{name}.png" for name in IDS[4:]}
    assert val_names(tmp_path / "fewer") == val_names(tmp_path / "all") & kept


def test_missing_source_and_foreign_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"data/README\.md"):
        convert_nuclei(tmp_path / "nothing.zip", tmp_path / "out")
    with pytest.raises(ValueError, match=r"no ID/images/ID\.png"):
        convert_nuclei(tmp_path, tmp_path / "out")


def test_truncated_zip(tree: Path, tmp_path: Path) -> None:
    archive = tmp_path / "x.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in tree.rglob("*.png"):
            file.write(path, path.relative_to(tree))
    archive.write_bytes(archive.read_bytes()[:-500])
    with pytest.raises(ValueError, match="not a complete zip file"):
        convert_nuclei(archive, tmp_path / "out")


@pytest.mark.parametrize("kind", ["images", "masks"])
def test_image_or_masks_missing(kind: str, tree: Path, tmp_path: Path) -> None:
    for path in (tree / IDS[3] / kind).iterdir():
        path.unlink()
    with pytest.raises(ValueError, match=f"{IDS[3]} has no {kind.removesuffix('s')}"):
        convert_nuclei(tree, tmp_path / "out")


def test_damaged_wrong_and_black_masks_are_named_and_nothing_is_written(
    tree: Path, tmp_path: Path
) -> None:
    mask = tree / IDS[5] / "masks" / f"{IDS[5]}1.png"
    out = tmp_path / "out"
    whole = mask.read_bytes()
    mask.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=f"cannot read .*{mask.name}"):
        convert_nuclei(tree, out)
    Image.new("L", (10, 10), 255).save(mask)
    with pytest.raises(ValueError, match=f"{mask.name} is 10×10, its image 30×20"):
        convert_nuclei(tree, out)
    Image.new("L", (30, 20), 0).save(mask)
    with pytest.raises(ValueError, match=f"{mask.name} is all black"):
        convert_nuclei(tree, out)
    assert not out.exists()
