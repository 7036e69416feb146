"""What is wrong with a file is said in a sentence that names the entry."""

import copy

import pytest

from mrcnn_edu import coco_ap
from mrcnn_edu.coco_ap.cases import make_case
from mrcnn_edu.errors import UserError


@pytest.mark.parametrize(
    ("iou_type", "change", "message"),
    [
        ("bbox", {"category_id": 91}, r"1 category ids of the detections .* example \[91\]"),
        ("bbox", {"image_id": 99}, r"1 image ids .* example \[99\].*another data set or split"),
        ("bbox", {"image_id": None}, r"1 of 4 detections have no 'image_id'"),
        ("bbox", {"bbox": None}, r"Detection 0 .* has no 'bbox', so its box cannot be measured"),
        ("segm", {"segmentation": None}, r"Detection 0 .* no 'segmentation', so its mask cannot"),
        ("bbox", {"score": None}, r"Detection 0 .* has no 'score'"),
        ("bbox", {"score": float("nan")}, r"1 entries have a score that is not finite; the first"),
        ("bbox", {"bbox": [0, 0, 5]}, r"detection's box does not have 4 numbers"),
        ("bbox", {"bbox": [0, 0, 5, float("inf")]}, r"detection's box that is not finite"),
        ("keypoints", {"keypoints": [1, 2, 2] * 5}, r"15 keypoint numbers; 17 keypoints .* are 51"),
        (
            "segm",
            {"segmentation": {"size": [3, 4], "counts": "01"}},
            r"RLE of size \[3, 4\], image",
        ),
        ("segm", {"segmentation": []}, r"neither a list of polygons nor an RLE"),
    ],
)
def test_results(iou_type, change, message):
    truth, results = make_case(0, iou_type, 2, 2, 4, 4)
    for key, value in change.items():
        if value is None:
            del results[0][key]
        else:
            results[0][key] = value
    with pytest.raises(UserError, match=message):
        coco_ap.evaluate(truth, results, iou_type)


def test_a_mask_that_was_cut_short():
    truth, results = make_case(0, "segm", 2, 2, 4, 4)
    r = results[1]["segmentation"]
    r["counts"] = r["counts"][:-1]
    with pytest.raises(UserError, match=r"mask of one detection of image id \d+ is damaged"):
        coco_ap.evaluate(truth, results, "segm")


def test_ground_truth():
    truth, results = make_case(0, "bbox", 2, 2, 4, 4)
    broken = copy.deepcopy(truth)
    del broken["annotations"][2]["area"]
    with pytest.raises(UserError, match=r"Annotation \d .* has no 'area', which decides"):
        coco_ap.evaluate(broken, results, "bbox")
    broken = copy.deepcopy(truth)
    broken["annotations"][2]["image_id"] = 77
    with pytest.raises(UserError, match=r"1 image ids of the annotations"):
        coco_ap.evaluate(broken, results, "bbox")


def test_what_is_given_is_not_changed():
    for iou_type in ("bbox", "segm", "keypoints"):
        case = make_case(5, iou_type, 2, 2, 6, 6)
        before = copy.deepcopy(case)
        coco_ap.evaluate(*case, iou_type)
        assert case == before
