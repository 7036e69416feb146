"""CocoDataset against pycocotools: every annotation of real photographs, and every bad file."""

import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as rle_ops
from pycocotools.coco import COCO

from mrcnn_edu.data.check import check_target
from mrcnn_edu.data.coco import CocoDataset, CocoFormatDataset, read_rgb, segmentation_to_rle
from mrcnn_edu.data.dataset import InMemory
from mrcnn_edu.data.shapes import ShapesConfig, ShapesDataset, generate
from mrcnn_edu.data.transforms import collate
from tests.fake_data import as_pycocotools

DATA = Path(os.environ.get("MRCNN_DATA", "absent"))
needs_photographs = pytest.mark.skipif(
    not (DATA / "coco_cc").is_dir(), reason="MRCNN_DATA does not point at a folder with coco_cc"
)


def photographs(split: str, kind: str = "instances", keep_crowd: bool = False) -> CocoDataset:
    root = DATA / "coco_cc"
    return CocoDataset(root / split, root / f"annotations/{kind}_{split}.json", keep_crowd)


def truth(**changes: Any) -> dict[str, Any]:
    """Two images, the second empty; ids with holes; a polygon, and a crowd as uncompressed RLE."""
    square = [2.0, 1.0, 6.0, 1.0, 6.0, 5.0, 2.0, 5.0]
    crowd = {"size": [8, 10], "counts": [0, 8, 72]}  # the first column
    common = {"image_id": 7, "area": 16.0}
    return {
        "images": [
            {"id": 7, "file_name": "a.png", "height": 8, "width": 10},
            {"id": 9, "file_name": "b.png", "height": 8, "width": 10},
        ],
        "annotations": [
            {"id": 1, "category_id": 90, "bbox": [2, 1, 4, 4], "segmentation": [square], **common},
            {"id": 2, "category_id": 3, "bbox": [0, 0, 1, 8], "segmentation": crowd, **common}
            | {"iscrowd": 1},
        ],
        "categories": [{"id": 90, "name": "toothbrush"}, {"id": 3, "name": "car"}],
    } | changes


def write(folder: Path, ground_truth: Any, images: tuple[str, ...] = ("a.png", "b.png")) -> Path:
    for name in images:
        Image.new("RGB", (10, 8), (10, 20, 30)).save(folder / name)
    path = folder / "truth.json"
    path.write_text(json.dumps(ground_truth))
    return path


@needs_photographs
@pytest.mark.parametrize("split", ["train2017", "val2017"])
def test_every_mask_equals_pycocotools(split: str) -> None:
    """Polygons, uncompressed and compressed RLE, crowd: bit for bit what annToMask gives."""
    dataset, theirs = photographs(split, keep_crowd=True), as_pycocotools(photographs(split))
    checked = crowds = 0
    for i, image_id in enumerate(dataset.image_ids):
        target = dataset.target(i)
        annotations = theirs.loadAnns(theirs.getAnnIds(image_id))
        assert len(annotations) == len(target["labels"])
        for a, mask, box, label in zip(
            annotations, target["masks"], target["boxes"], target["labels"].tolist(), strict=True
        ):
            assert np.array_equal(theirs.annToMask(a), mask.numpy())
            x, y, w, h = a["bbox"]
            assert np.allclose(box, [x, y, x + w, y + h], atol=0.02)  # clipped: at most rounding
            assert dataset.to_category_id(label) == a["category_id"]
            assert dataset.class_names[label - 1] == theirs.cats[a["category_id"]]["name"]
            checked += 1
            crowds += a["iscrowd"]
    assert checked == len(theirs.anns)
    assert crowds > 0


@needs_photographs
def test_photographs_are_valid_items_and_crowds_are_left_out() -> None:
    dataset = photographs("val2017")
    assert dataset.num_classes == 80
    assert (dataset.to_category_id(80), dataset.to_label(90)) == (90, 80)
    assert "keypoints" not in dataset.target(0)
    total = 0
    for i in range(len(dataset)):
        image, target = dataset[i]
        assert image.dtype == torch.uint8
        assert not target["iscrowd"].any()
        check_target(image, target, 80)
        total += len(target["labels"])
    crowds = sum(a["iscrowd"] for a in as_pycocotools(dataset).anns.values())
    assert total == len(as_pycocotools(dataset).anns) - crowds
    assert crowds > 0


@needs_photographs
def test_keypoints_are_pixel_centres() -> None:
    dataset = photographs("val2017", "person_keypoints")
    compared = 0
    for i in range(len(dataset)):
        raw = [a for a in dataset.annotations(i) if not a["iscrowd"]]
        points = dataset.target(i)["keypoints"]
        assert points.shape == (len(raw), 17, 3)
        for a, ours in zip(raw, points.numpy(), strict=True):
            theirs = np.array(a["keypoints"], np.float32).reshape(17, 3)
            labelled = theirs[:, 2] > 0
            assert np.array_equal(ours[labelled, :2], theirs[labelled, :2] + 0.5)
            assert not ours[~labelled].any()
            assert np.array_equal(ours[:, 2], theirs[:, 2])
            compared += labelled.sum()
    assert compared > 100


@needs_photographs
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_items_are_the_same_in_dataloader_workers(method: str) -> None:
    dataset = photographs("val2017")
    subset = torch.utils.data.Subset(dataset, range(4))
    loader = torch.utils.data.DataLoader(
        subset, 2, num_workers=2, collate_fn=collate, multiprocessing_context=method
    )
    items = [item for images, targets in loader for item in zip(images, targets, strict=True)]
    for i, (image, target) in enumerate(items):
        here, expected = dataset[i]
        assert torch.equal(image, here)
        assert all(torch.equal(target[k], expected[k]) for k in expected)


def test_ids_become_labels_in_the_order_of_the_ids(tmp_path: Path) -> None:
    dataset = CocoDataset(tmp_path, write(tmp_path, truth()), keep_crowd=True)
    assert dataset.categories.ids == (3, 90)
    assert dataset.class_names == ["car", "toothbrush"]
    assert dataset.image_ids == [7, 9]
    _, target = dataset[0]
    assert target["labels"].tolist() == [2, 1]
    assert target["iscrowd"].tolist() == [0, 1]
    assert target["boxes"].tolist() == [[2, 1, 6, 5], [0, 0, 1, 8]]
    expected = torch.zeros(2, 8, 10, dtype=torch.uint8)
    expected[0, 1:5, 2:6] = 1
    expected[1, :, 0] = 1
    assert torch.equal(target["masks"], expected)
    with pytest.raises(ValueError, match=r"0 is not in 1\.\.2 \(0 is background\)"):
        dataset.to_category_id(0)
    with pytest.raises(ValueError, match="no category id 4"):
        dataset.to_label(4)


def test_an_image_without_objects_is_kept_and_legal(tmp_path: Path) -> None:
    image, target = CocoDataset(tmp_path, write(tmp_path, truth()))[1]
    assert target["boxes"].shape == (0, 4)
    assert target["masks"].shape == (0, 8, 10)
    assert target["labels"].dtype == torch.int64
    check_target(image, target, 2)


def test_objects_without_area_are_left_out(tmp_path: Path) -> None:
    ground_truth = truth()
    first = ground_truth["annotations"][0]
    for i, box in enumerate(([2, 1, 0, 4], [2, 1, 4, 0], [11, 1, 4, 4]), start=10):
        ground_truth["annotations"].append(first | {"id": i, "bbox": box})
    nothing = {"size": [8, 10], "counts": [80]}
    ground_truth["annotations"].append(first | {"id": 20, "segmentation": nothing})
    dataset = CocoDataset(tmp_path, write(tmp_path, ground_truth))
    assert len(dataset[0][1]["labels"]) == 1
    assert len(as_pycocotools(dataset).anns) == 6  # the evaluator still sees the file as it is


def test_area_and_iscrowd_may_be_missing(tmp_path: Path) -> None:
    ground_truth = truth()
    ground_truth["annotations"] = ground_truth["annotations"][:1]
    del ground_truth["annotations"][0]["area"]
    _, target = CocoDataset(tmp_path, write(tmp_path, ground_truth))[0]
    assert target["area"].tolist() == [16.0]
    assert target["iscrowd"].tolist() == [0]


def test_the_ground_truth_is_new_each_time_and_equal_to_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, truth())
    dataset = CocoDataset(tmp_path, path)
    first = as_pycocotools(dataset)
    assert capsys.readouterr().out == ""
    first.anns[1]["ignore"] = 1  # as COCOeval does
    assert "ignore" not in as_pycocotools(dataset).anns[1]
    theirs = COCO(str(path))
    ours = as_pycocotools(dataset)
    for number, annotation in theirs.anns.items():
        completed = {"area": float(ours.annToMask(annotation).sum()), "iscrowd": 0} | annotation
        assert ours.anns[number] == completed  # pycocotools' evaluation reads both fields
    assert as_pycocotools(dataset).imgs == theirs.imgs


def test_a_dataset_survives_pickling(tmp_path: Path) -> None:
    dataset = CocoDataset(tmp_path, write(tmp_path, truth()))
    again = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(again[0][1]["masks"], dataset[0][1]["masks"])


def test_three_forms_of_a_segmentation_give_one_mask() -> None:
    polygon = [[2.0, 1.0, 6.0, 1.0, 6.0, 5.0, 2.0, 5.0]]
    compressed = segmentation_to_rle(polygon, 8, 10)
    counts = [17, 4, 4, 4, 4, 4, 4, 4, 35]
    plain = segmentation_to_rle({"size": [8, 10], "counts": counts}, 8, 10)
    same = segmentation_to_rle(compressed, 8, 10)
    for rle in (plain, same):
        assert np.array_equal(rle_ops.decode(rle), rle_ops.decode(compressed))


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([], "neither"),
        ("text", "neither"),
        ({"counts": [80]}, "neither"),
        ([[1.0, 2.0, 3.0, 4.0]], "six or more"),
        ([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]], "even number"),
        ({"size": [10, 8], "counts": [80]}, r"RLE of size \[10, 8\], image \[8, 10\]"),
    ],
)
def test_a_bad_segmentation_names_annotation_and_image(segmentation: Any, message: str) -> None:
    ground_truth = truth()
    ground_truth["annotations"][0]["segmentation"] = segmentation
    dataset = CocoFormatDataset(ground_truth, "truth.json")
    with pytest.raises(ValueError, match=message) as error:
        dataset.target(0)
    assert "truth.json: annotation 1 of image id 7" in str(error.value)


@pytest.mark.parametrize(
    ("mode", "value", "expected"),
    [
        ("L", 77, (77, 77, 77)),
        ("LA", (77, 10), (77, 77, 77)),
        ("RGBA", (1, 2, 3, 0), (1, 2, 3)),
        ("CMYK", (0, 255, 255, 0), (255, 0, 0)),
        ("1", 1, (255, 255, 255)),
        ("I;16", 0x4D21, (0x4D, 0x4D, 0x4D)),
    ],
)
def test_images_of_any_mode_become_rgb(
    mode: str, value: Any, expected: tuple[int, ...], tmp_path: Path
) -> None:
    path = tmp_path / ("image.tif" if mode == "CMYK" else "image.png")
    Image.new(mode, (5, 4), value).save(path)
    pixels = read_rgb(path)
    assert pixels.shape == (4, 5, 3)
    assert pixels.dtype == np.uint8
    assert (pixels == expected).all()


def test_a_palette_image_is_looked_up(tmp_path: Path) -> None:
    image = Image.new("P", (5, 4), 1)
    image.putpalette([0, 0, 0, 9, 8, 7])
    image.save(tmp_path / "p.png")
    assert (read_rgb(tmp_path / "p.png") == [9, 8, 7]).all()


def test_a_float_image_is_refused(tmp_path: Path) -> None:
    Image.new("F", (5, 4), 0.5).save(tmp_path / "f.tif")
    with pytest.raises(ValueError, match="holds floats"):
        read_rgb(tmp_path / "f.tif")


def test_exif_orientation_is_not_applied(tmp_path: Path) -> None:
    image = Image.new("RGB", (10, 8))
    exif = image.getexif()
    exif[0x0112] = 6  # "turn by 90° to view"
    image.save(tmp_path / "a.jpg", exif=exif)
    assert read_rgb(tmp_path / "a.jpg").shape == (8, 10, 3)


def test_missing_folder_file_and_images_are_named(tmp_path: Path) -> None:
    path = write(tmp_path, truth(), images=("a.png",))
    with pytest.raises(FileNotFoundError, match=r"no annotation file .*nothing\.json"):
        CocoDataset(tmp_path, tmp_path / "nothing.json")
    with pytest.raises(FileNotFoundError, match="no image folder"):
        CocoDataset(tmp_path / "nowhere", path)
    with pytest.raises(FileNotFoundError, match=r"1 of 2 images .* first is b\.png"):
        CocoDataset(tmp_path, path)


def test_images_in_subfolders_are_found(tmp_path: Path) -> None:
    ground_truth = truth()
    for record in ground_truth["images"]:
        record["file_name"] = "sub/" + record["file_name"]
    (tmp_path / "sub").mkdir()
    path = write(tmp_path, ground_truth, images=("sub/a.png", "sub/b.png"))
    assert CocoDataset(tmp_path, path)[1][0].shape == (3, 8, 10)


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_a_truncated_image_is_named_with_its_id(name: str, tmp_path: Path) -> None:
    ground_truth = truth()
    ground_truth["images"][0]["file_name"] = name
    path = write(tmp_path, ground_truth, images=("b.png",))
    noise = np.random.default_rng(0).integers(0, 255, (8, 10, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: int(len(whole) * 0.7)])
    with pytest.raises(ValueError, match=r"cannot read .*\(image id 7\).*fetch it again"):
        CocoDataset(tmp_path, path)[0]
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(ValueError, match="image id 7"):
        CocoDataset(tmp_path, path)[0]


def test_an_image_of_another_size_than_the_json_says(tmp_path: Path) -> None:
    path = write(tmp_path, truth())
    Image.new("RGB", (8, 10)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"is 8×10, .* says 10×8: was it resized or turned"):
        CocoDataset(tmp_path, path)[0]


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
def test_json_that_is_not_coco_names_the_missing_key(key: str) -> None:
    ground_truth = truth()
    del ground_truth[key]
    with pytest.raises(ValueError, match=f"no list '{key}'"):
        CocoFormatDataset(ground_truth, "x.json")


@pytest.mark.parametrize(
    ("key", "field"),
    [("images", "file_name"), ("annotations", "segmentation"), ("categories", "id")],
)
def test_an_entry_without_a_field_is_named(key: str, field: str) -> None:
    ground_truth = truth()
    del ground_truth[key][1 if key != "annotations" else 0][field]
    with pytest.raises(ValueError, match=rf"{key}\[\d\] has no '{field}'"):
        CocoFormatDataset(ground_truth, "x.json")


def test_a_results_file_and_broken_json_are_recognised(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"list \(a results file"):
        CocoDataset(tmp_path, write(tmp_path, [{"image_id": 1}]))
    (tmp_path / "truth.json").write_text('{"images": [')
    with pytest.raises(ValueError, match="is not JSON"):
        CocoDataset(tmp_path, tmp_path / "truth.json")


def test_unknown_ids_and_twin_images_are_refused() -> None:
    ground_truth = truth()
    ground_truth["annotations"][0]["image_id"] = 8
    with pytest.raises(ValueError, match="annotation 1 has unknown image id 8"):
        CocoFormatDataset(ground_truth, "x.json")
    ground_truth = truth()
    ground_truth["annotations"][1]["category_id"] = 4
    with pytest.raises(ValueError, match="annotation 2 has unknown category id 4"):
        CocoFormatDataset(ground_truth, "x.json")
    ground_truth = truth()
    ground_truth["images"][1]["id"] = 7
    with pytest.raises(ValueError, match="same id"):
        CocoFormatDataset(ground_truth, "x.json")


def test_in_memory_reads_each_sample_once() -> None:
    shapes = ShapesDataset(generate(ShapesConfig(image_size=64), 3, seed=1))
    kept = InMemory(shapes)
    assert len(kept) == 3
    assert kept[1] is kept[1]
    image, target = shapes[1]
    assert torch.equal(kept[1][0], image)
    assert torch.equal(kept[1][1]["masks"], target["masks"])
    assert kept.to_category_id(2) == shapes.to_category_id(2)
    assert as_pycocotools(kept).getImgIds() == shapes.image_ids
