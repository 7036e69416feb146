"""A file whose values are of another type is read as it was meant, or refused by name."""

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from mrcnn_edu.coco_ap import evaluate
from mrcnn_edu.data.check import check_dataset, check_target
from mrcnn_edu.data.coco import CocoDataset, CocoFormatDataset
from mrcnn_edu.data.coco_types import typed
from mrcnn_edu.data.dataset import InMemory
from mrcnn_edu.data.subset import Subset
from mrcnn_edu.data.transforms import augment, crop_window, resize_target
from mrcnn_edu.errors import UserError
from mrcnn_edu.files import read_json
from mrcnn_edu.model import MaskRCNN
from mrcnn_edu.training.refusals import check_dataset as check_training_set
from tests.fake_data import small_config


def truth(n: int = 3) -> dict[str, Any]:
    """n images of 64 × 64 with a square each; classes disc and box."""
    square = [16, 16, 40, 16, 40, 40, 16, 40]
    return {
        "images": [
            {"id": i, "file_name": f"im{i}.png", "height": 64, "width": 64} for i in range(1, n + 1)
        ],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 1 + i % 2, "iscrowd": 0, "area": 576.0}
            | {"bbox": [16.0, 16.0, 24.0, 24.0], "segmentation": [square]}
            for i in range(1, n + 1)
        ],
        "categories": [{"id": 1, "name": "disc"}, {"id": 2, "name": "box"}],
    }


def changed(key: str, **fields: Any) -> dict[str, Any]:
    content = truth()
    content[key][0] |= fields
    return content


NAN, DELETED = float("nan"), object()


@pytest.mark.parametrize(
    ("key", "field", "value", "message"),
    [
        ("annotations", "bbox", None, "annotation 1: 'bbox' is None, and must be four finite"),
        ("annotations", "bbox", [], r"annotation 1: 'bbox' is \[\], and must be four"),
        ("annotations", "bbox", {"x": 1}, "annotation 1: 'bbox' is {"),
        ("annotations", "bbox", "16 16 24 24", "annotation 1: 'bbox' is '16 16"),
        ("annotations", "bbox", "1624", "annotation 1: 'bbox' is '1624'"),
        ("annotations", "bbox", [16, 16, "24", 24], "annotation 1: 'bbox'"),
        ("annotations", "bbox", [16, 16, NAN, 24], "annotation 1: 'bbox'"),
        ("annotations", "bbox", [16, 16, 10**400, 24], "annotation 1: 'bbox'"),
        ("annotations", "bbox", [16, 16, True, 24], "annotation 1: 'bbox'"),
        ("annotations", "area", NAN, "annotation 1: 'area' is nan"),
        ("annotations", "area", -1.0, "annotation 1: 'area' is -1.0"),
        ("annotations", "area", "576", "annotation 1: 'area' is '576'"),
        ("annotations", "iscrowd", "0", "annotation 1: 'iscrowd' is '0', and must be 0 or 1"),
        ("annotations", "iscrowd", 2, "annotation 1: 'iscrowd' is 2"),
        ("annotations", "iscrowd", [0], "annotation 1: 'iscrowd'"),
        ("annotations", "id", "a", r"annotations\[0\]: 'id' is 'a'.*whole number"),
        ("annotations", "id", None, r"annotations\[0\]: 'id' is None"),
        ("annotations", "id", 2, "two annotations have the id 2"),
        ("annotations", "image_id", "1", "annotation 1: 'image_id' is '1'.*without quotes"),
        ("annotations", "image_id", [1], r"annotation 1: 'image_id' is \[1\]"),
        ("annotations", "image_id", 2**64, "annotation 1: 'image_id'.*64 bits"),
        ("annotations", "image_id", 1.5, "annotation 1: 'image_id' is 1.5"),
        ("annotations", "image_id", 9, "annotation 1 has unknown image id 9"),
        ("annotations", "category_id", [1], r"annotation 1: 'category_id' is \[1\]"),
        ("annotations", "category_id", True, "annotation 1: 'category_id' is True"),
        ("annotations", "segmentation", DELETED, r"annotations\[0\] has no 'segmentation'"),
        ("annotations", "segmentation", None, r"annotations\[0\] has no 'segmentation'"),
        ("images", "id", "1", r"images\[0\]: 'id' is '1'.*integer"),
        ("images", "id", "9f-aa", r"images\[0\]: 'id' is '9f-aa'.*number what has names"),
        ("images", "id", 2, "two images have the same id 2"),
        ("images", "height", "64", "image id 1: 'height' is '64'.*it is text"),
        ("images", "height", 64.5, "image id 1: 'height' is 64.5"),
        ("images", "height", 0, "image id 1: 'height' is 0, and must be at least 1"),
        ("images", "height", 10**9, "image id 1 has 1000000000×64 pixels"),
        ("images", "file_name", None, "image id 1: 'file_name' is None"),
        ("images", "file_name", 5, "image id 1: 'file_name' is 5"),
        ("images", "file_name", "a\0.png", "image id 1: 'file_name'"),
        ("categories", "id", "1", r"categories\[0\]: 'id' is '1'"),
        ("categories", "id", 2, "two categories have the same id 2"),
        ("categories", "name", None, "category 1: 'name' is None"),
        ("categories", "keypoints", "nose", "the keypoints of category 'disc' must be"),
    ],
)
def test_what_is_wrong_is_named(key, field, value, message):
    content = truth()
    if value is DELETED:
        del content[key][0][field]
    else:
        content[key][0][field] = value
    with pytest.raises(ValueError, match=rf"^g\.json: .*{message}"):
        CocoFormatDataset(content, "g.json")


def test_no_classes_are_refused_and_entries_that_are_none():
    with pytest.raises(ValueError, match="'categories' is empty"):
        CocoFormatDataset(truth() | {"categories": [], "annotations": []}, "g.json")
    for key in ("images", "annotations", "categories"):
        with pytest.raises(ValueError, match=rf"{key}\[0\] is not a JSON object"):
            CocoFormatDataset(truth() | {key: [5]}, "g.json")


def test_what_has_a_default_may_be_null_and_64_0_is_a_whole_number():
    content = changed(
        "annotations", area=None, iscrowd=None, keypoints=None, num_keypoints=None, id=1.0
    )
    content["images"][0] |= {"height": 64.0, "id": 1.0}
    content["annotations"][1]["iscrowd"] = False
    content["categories"][0]["keypoints"] = None
    before = copy.deepcopy(content)
    dataset = CocoFormatDataset(content, "g.json")
    assert content == before
    plain = CocoFormatDataset(truth(), "g.json")
    for i in range(3):
        theirs, ours = plain.target(i), dataset.target(i)
        assert theirs.keys() == ours.keys()
        assert all(torch.equal(theirs[k], ours[k]) for k in theirs)
    assert json.dumps(dataset.ground_truth()["annotations"], sort_keys=True) == json.dumps(
        plain.ground_truth()["annotations"], sort_keys=True
    )


def test_deep_json_and_what_is_no_json_are_told(tmp_path: Path):
    path = tmp_path / "a.json"
    for content, message in (
        ("[" * 100_000, "nested too deep"),
        ('{"images": ', "is not JSON"),
        ("1" * 5000, "is not JSON"),
    ):
        path.write_text(content)
        with pytest.raises(ValueError, match=message):
            read_json(path)
        with pytest.raises(ValueError, match=message):
            CocoDataset(tmp_path, path)


def test_single_bad_annotations_can_be_left_out_and_are_counted():
    content = truth(4)
    content["annotations"][0]["bbox"] = None
    content["annotations"][1]["segmentation"] = [[1, 1, NAN, 1, 9, 9]]
    content["annotations"][2]["category_id"] = 7
    with pytest.raises(ValueError, match="annotation 1: 'bbox'"):
        CocoFormatDataset(content, "g.json")
    dataset = CocoFormatDataset(content, "g.json", skip_broken=True)
    ((reason, count),) = dataset.left_out.items()
    assert count == 3
    assert "broken annotations (the first: annotation 1: 'bbox' is None" in reason
    assert [len(dataset.target(i)["labels"]) for i in range(4)] == [0, 0, 0, 1]
    assert [a["id"] for a in dataset.ground_truth()["annotations"]] == [4]
    assert typed(content, "g.json", skip_broken=True).broken[1].startswith("annotation 2: polygon")


def write(folder: Path, content: dict[str, Any]) -> CocoDataset:
    for image in content["images"]:
        Image.new("RGB", (64, 64), (90, 20, 30)).save(folder / image["file_name"])
    (folder / "g.json").write_text(json.dumps(content))
    return CocoDataset(folder, folder / "g.json")


def test_objects_that_vanish_are_counted_by_reason(tmp_path: Path):
    content = truth(5)
    content["annotations"][0]["bbox"] = [0, 0, 0, 0]
    content["annotations"][1]["iscrowd"] = 1
    content["annotations"][2]["segmentation"] = {"size": [64, 64], "counts": [4096]}
    content["annotations"][3]["bbox"] = [70, 3, 10, 10]
    summary = check_dataset(write(tmp_path, content))
    assert summary.objects == 1
    assert summary.left_out == {
        "boxes without area in their image": 2,
        "crowd regions, which hold many objects": 1,
        "masks without a pixel": 1,
    }
    assert "left out of the targets: 2 boxes without area" in str(summary)
    assert summary.problems == []


@pytest.mark.parametrize("change", [{"bbox": [0, 0, 0, 0]}, {"iscrowd": 1}])
def test_a_set_in_which_everything_vanishes_is_refused(tmp_path: Path, change: dict[str, Any]):
    content = truth()
    for a in content["annotations"]:
        a |= change
    dataset = write(tmp_path, content)
    (problem,) = check_dataset(dataset).problems
    assert "no image has an object to learn from; left out of the targets: 3 " in problem
    config = small_config(num_classes=2)
    with pytest.raises(UserError, match="no object to learn from; left out of the targets: 3"):
        check_training_set(dataset, config)
    check_training_set(write(tmp_path, truth()), config)


def test_box_and_mask_are_compared_in_both_directions():
    mask = torch.zeros(1, 40, 60, dtype=torch.uint8)
    mask[0, 5:20, 30:58] = 1
    target = {"labels": torch.tensor([1]), "masks": mask}
    image = torch.zeros(3, 40, 60)
    check_target(image, target | {"boxes": torch.tensor([[30.0, 5, 58, 20]])}, 1)
    for box, name in (([0.0, 5, 20, 20], "columns 30..58"), ([30.0, 25, 58, 40], "rows 5..20")):
        with pytest.raises(ValueError, match=f"mask fills {name}"):
            check_target(image, target | {"boxes": torch.tensor([box])}, 1)


def boxes_alone(way: str) -> dict[str, Any]:
    content = truth()
    for a in content["annotations"]:
        if way == "absent":
            del a["segmentation"]
        else:
            a |= {"segmentation": [] if way == "empty" else None}
            del a["area"]
    return content


@pytest.mark.parametrize("way", ["absent", "empty", "null"])
def test_boxes_alone_are_read_checked_measured_and_transformed(tmp_path: Path, way: str):
    dataset = write(tmp_path, boxes_alone(way))
    assert not dataset.has_masks
    assert not InMemory(dataset).has_masks
    assert not Subset(dataset, [1]).has_masks
    summary = check_dataset(dataset)
    assert (summary.objects, summary.problems, summary.small) == (3, [], 3)
    image, target = dataset[0]
    assert "masks" not in target
    assert target["area"].tolist() == [576.0]
    found = [
        {"image_id": i, "category_id": 1 + i % 2, "bbox": [16, 16, 24, 24], "score": 0.9}
        for i in (1, 2, 3)
    ]
    assert evaluate(dataset.ground_truth(), found, "bbox").summary()["AP"] == pytest.approx(100)
    with pytest.raises(UserError, match=r"Annotation 1 .* no 'segmentation'"):
        evaluate(dataset.ground_truth(), [], "segm")
    half = resize_target(target, (64, 64), (32, 32))
    assert half["boxes"].tolist() == [[8, 8, 20, 20]]
    _, turned = augment(image, target, torch.Generator().manual_seed(0), quarter_turns=True)
    assert turned["boxes"].shape == (1, 4)
    _, cut = crop_window(image, target, 20, 10, 30, 20)
    assert cut["boxes"].tolist() == [[6, 0, 20, 20]]
    assert cut["area"].tolist() == [280.0]
    assert len(crop_window(image, target, 38, 38, 20, 20)[1]["boxes"]) == 0  # 4 of 576 pixels


def test_a_model_with_masks_refuses_boxes_alone_and_one_without_takes_them(tmp_path: Path):
    dataset = write(tmp_path, boxes_alone("absent"))
    with pytest.raises(UserError, match="boxes alone"):
        check_training_set(dataset, small_config(num_classes=2))
    config = small_config(num_classes=2, mask_head="none")
    check_training_set(dataset, config)
    image, target = dataset[0]
    model = MaskRCNN(config)
    losses = model.losses(model([image / 255]), [target], [torch.Generator().manual_seed(0)])
    assert all(math.isfinite(v.item()) for v in losses.values())
