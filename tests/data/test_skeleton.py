"""Joints that are not COCO's: mirrors, counts and constants follow from a category's names."""

import copy
import math

import numpy as np
import pytest
import torch

from mrcnn_edu.coco_ap import COCO_SIGMAS, evaluate
from mrcnn_edu.coco_ap.breakdown import breakdown
from mrcnn_edu.coco_ap.cases import by_pycocotools, summarised
from mrcnn_edu.data.check import check_dataset, check_target
from mrcnn_edu.data.coco import CocoFormatDataset
from mrcnn_edu.data.shapes_outline import KEYPOINTS
from mrcnn_edu.data.skeleton import UNPAIRED, mirrored_order, sigmas_of
from mrcnn_edu.data.subset import Subset
from mrcnn_edu.data.transforms import (
    MIRRORED_JOINTS,
    crop_window,
    horizontal_flip,
    quarter_turn,
    vertical_flip,
)
from mrcnn_edu.errors import UserError
from mrcnn_edu.nn.keypoint_head import keypoint_loss
from mrcnn_edu.presets import KEYPOINT
from mrcnn_edu.training.refusals import check_dataset as refuse

DOG = ["nose", "left_ear", "right_ear", "tail", "right_paw", "left_paw"]
POINTS = [28, 20, 2, 24, 21, 2, 32, 22, 1, 0, 0, 0, 20, 37, 2, 36, 38, 2]
SQUARE = [[16, 16, 40, 16, 40, 40, 16, 40]]


class Pictures(CocoFormatDataset):
    """Grey pictures of 64 × 64."""

    def load_image(self, index):
        return np.full((64, 64, 3), 99, np.uint8)


def annotation(number, category=1, **more):
    box = {"bbox": [16.0, 16, 24, 24], "area": 576.0, "segmentation": SQUARE, "iscrowd": 0}
    return {"id": number, "image_id": number, "category_id": category, **box, **more}


def truth(points=POINTS, names=DOG, **category):
    return {
        "images": [{"id": i, "file_name": f"{i}.png", "height": 64, "width": 64} for i in (1, 2)],
        "annotations": [annotation(1, keypoints=points), annotation(2, category=2)],
        "categories": [
            {"id": 1, "name": "dog", "keypoints": names, **category},
            {"id": 2, "name": "disc"},
        ],
    }


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (KEYPOINTS, list(MIRRORED_JOINTS)),
        (DOG, [0, 2, 1, 3, 5, 4]),
        (("eye_left", "eye_right", "Left Ear", "Right Ear"), [1, 0, 3, 2]),
        (("leftEye", "rightEye", "hipLeft", "hipRight", "HIP_L", "HIP_R"), [1, 0, 3, 2, 5, 4]),
        (("LEye", "REye", "l_hand", "r_hand", "LEFT", "RIGHT"), [1, 0, 3, 2, 5, 4]),
        (("cleft", "upright", "Lip", "Rear", "lower", "copyright"), [0, 1, 2, 3, 4, 5]),
        (("R1", "R2", "L9"), [0, 1, 2]),
        (("nose", "left_eye", "right_ear"), [0, UNPAIRED, UNPAIRED]),
        ((), []),
    ],
)
def test_partners_are_found_by_their_names(names, order):
    assert mirrored_order(names) == order


@pytest.mark.parametrize("flip", [horizontal_flip, vertical_flip])
def test_in_a_mirror_a_left_ear_is_a_right_ear(flip):
    image, target = Pictures(truth(), "dogs")[0]
    mirrored_image, mirrored = flip(image, target)
    by_name = dict(zip(DOG, mirrored["keypoints"][0].tolist(), strict=True))
    before = dict(zip(DOG, target["keypoints"][0].tolist(), strict=True))
    across = flip is horizontal_flip
    for name, old in (("left_ear", "right_ear"), ("right_paw", "left_paw"), ("nose", "nose")):
        x, y, v = before[old]
        assert by_name[name] == ([64 - x, y, v] if across else [x, 64 - y, v])
    assert by_name["tail"] == [0, 0, 0], "not labelled"
    _, again = flip(mirrored_image, mirrored)
    assert torch.equal(again["keypoints"], target["keypoints"])


def test_each_object_has_the_joints_of_its_own_category():
    both = truth()
    both["categories"][1]["keypoints"] = ["right_end", "left_end"]
    both["annotations"][1] |= {"image_id": 1, "keypoints": [20, 20, 2, 30, 30, 2]}
    dataset = Pictures(both, "both")
    assert (dataset.num_keypoints, dataset.keypoint_labels) == (6, {1, 2})
    image, target = dataset[0]
    assert target["keypoints"].shape == (2, 6, 3)
    assert not target["keypoints"][1, 2:].any()
    assert target["mirrored_joints"].tolist() == [[0, 2, 1, 3, 5, 4], [1, 0, 2, 3, 4, 5]]
    joints = horizontal_flip(image, target)[1]["keypoints"]
    assert joints[1, :2].tolist() == [[64 - 30.5, 30.5, 2], [64 - 20.5, 20.5, 2]]
    part = Subset(dataset, [0])  # it reads what `ground_truth` has filled up
    assert torch.equal(part.target(0)["keypoints"], target["keypoints"])


def test_coco_s_own_joints_need_no_order():
    target = Pictures(truth([30, 30, 2] * 17, list(KEYPOINTS)), "people").target(0)
    assert "mirrored_joints" not in target
    assert target["keypoints"].shape == (1, 17, 3)


def test_the_order_goes_with_its_object():
    image, target = Pictures(truth(), "dogs")[0]
    assert crop_window(image, target, 0, 0, 8, 8)[1]["mirrored_joints"].shape == (0, 6)
    assert crop_window(image, target, 8, 8, 40, 40)[1]["mirrored_joints"].shape == (1, 6)
    turned = quarter_turn(image, target, 1)[1]
    assert turned["keypoints"][0, 1].tolist() == [21.5, 64 - 24.5, 2], "a turn is no mirror"


def test_a_mirror_that_nobody_can_name_is_refused():
    image, target = Pictures(truth(names=["a", "left_b", "c", "d", "e", "f"]), "odd")[0]
    with pytest.raises(ValueError, match="joint 2 of object 0 has left or right in its name"):
        horizontal_flip(image, target)
    del target["mirrored_joints"]
    with pytest.raises(ValueError, match="6 joints an object and does not say which"):
        horizontal_flip(image, target)
    nobody = {k: v[:0] if v.ndim else v for k, v in target.items()}
    assert horizontal_flip(image, nobody)[1]["keypoints"].shape == (0, 6, 3)


@pytest.mark.parametrize("points", [[], None])
def test_no_list_of_joints_means_none_labelled(points):
    dataset = Pictures(truth(points), "dogs")
    assert not dataset.target(0)["keypoints"].any()
    first = dataset.ground_truth()["annotations"][0]
    assert (len(first["keypoints"]), first["num_keypoints"]) == (18, 0)


@pytest.mark.parametrize(
    ("points", "sentence"),
    [
        ([20, 20, 2] * 4, "annotation 1 of image id 1 has 12 keypoint numbers; 6 joints .* are 18"),
        ([20, 20, 2] * 17, "51 keypoint numbers; 6 joints"),
        ([*POINTS[:3], math.nan, *POINTS[4:]], "x of joint 2 is nan, not a finite number"),
        ([*POINTS[:4], 1e999, *POINTS[5:]], "y of joint 2 is inf"),
        ([*POINTS[:5], 3, *POINTS[6:]], "v of joint 2 is 3, not 0, 1 or 2"),
        (["20", *POINTS[1:]], "x of joint 1 is '20'"),
        ([None, *POINTS[1:]], "x of joint 1 is None"),
        ("none", "keypoint numbers; 6 joints"),
        ({}, "keypoint numbers; 6 joints"),
    ],
)
def test_joints_that_are_no_joints_are_named(points, sentence):
    dataset = Pictures(truth(points), "dogs.json")
    with pytest.raises(
        ValueError, match=rf"dogs\.json: annotation 1.*{sentence.split('1 has')[-1]}"
    ):
        dataset.target(0)
    with pytest.raises(ValueError, match="annotation 1"):
        dataset.ground_truth()
    summary = check_dataset(dataset)
    assert len(summary.problems) == 1
    assert "annotation 1" in summary.problems[0]


@pytest.mark.parametrize("names", ["abc", ["a", 2], ["a", "a"], 5])
def test_a_category_s_joints_are_different_names(names):
    with pytest.raises(ValueError, match="keypoints of category 'dog' must be a list of different"):
        Pictures(truth(names=names), "dogs")


def test_null_is_no_joints():
    dataset = Pictures(truth(None, names=None), "dogs")
    assert (dataset.num_keypoints, dataset.keypoint_labels) == (0, frozenset())
    assert "keypoints" not in dataset.target(0)


# ---------------------------------------------------------------- evaluation


def measured(dataset, shift):
    """The ground truth, and the truth itself moved by `shift` pixels as a detection."""
    gt = dataset.ground_truth()
    joints = np.array(gt["annotations"][0]["keypoints"], float).reshape(-1, 3)
    joints[:, :2] += shift
    found = {"image_id": 1, "category_id": 1, "score": 0.9, "keypoints": joints.ravel().tolist()}
    return gt, [found]


@pytest.mark.parametrize("shift", [0, 1.5, 4])
@pytest.mark.parametrize("sigmas", [None, [0.03, 0.05, 0.05, 0.1, 0.08, 0.08]])
def test_another_skeleton_is_measured_as_pycocotools_would(shift, sigmas):
    own = {} if sigmas is None else {"sigmas": sigmas}
    gt, found = measured(Pictures(truth(**own), "dogs"), shift)
    constants = sigmas_of(gt["categories"], "dogs")
    if sigmas is not None:
        assert constants.tolist() == sigmas
    else:
        assert constants[0] == COCO_SIGMAS[0], "a nose is a nose"
        assert constants[3] == pytest.approx(COCO_SIGMAS.mean()), "COCO has no tail"
        assert constants[1] == COCO_SIGMAS[3]
    ours = evaluate(gt, found, "keypoints").summary()
    from pycocotools.cocoeval import Params

    before = Params.setKpParams

    def with_ours(self):
        before(self)
        self.kpt_oks_sigmas = constants

    Params.setKpParams = with_ours
    try:
        theirs = summarised(by_pycocotools(copy.deepcopy(gt), found, "keypoints"))
    finally:
        Params.setKpParams = before
    for value, each in zip(ours.values(), theirs, strict=True):
        assert (-1 if value is None else value / 100) == pytest.approx(each, abs=1e-5)
    assert breakdown(gt, found, "keypoints").ap == pytest.approx(ours["AP50"], abs=1e-3)


def test_coco_s_joints_have_coco_s_constants():
    for categories in ([{"name": "person", "keypoints": list(KEYPOINTS)}], [{"name": "disc"}], []):
        assert np.array_equal(sigmas_of(categories, "x"), COCO_SIGMAS)


@pytest.mark.parametrize("sigmas", [[0.1] * 5, [0.1] * 5 + [0], [0.1] * 5 + ["a"], 0.1])
def test_constants_are_one_positive_number_a_joint(sigmas):
    gt, found = measured(Pictures(truth(), "dogs"), 1)
    gt["categories"][0]["sigmas"] = sigmas
    with pytest.raises(UserError, match="'sigmas' of category 'dog' must be 6 positive numbers"):
        evaluate(gt, found, "keypoints")


def test_two_skeletons_at_once_are_not_measured():
    gt, found = measured(Pictures(truth(), "dogs"), 1)
    gt["categories"][1]["keypoints"] = ["left_hip", "right_hip"]
    with pytest.raises(UserError, match="'dog' and 'disc' have different joints"):
        evaluate(gt, found, "keypoints")


def test_detections_with_another_number_of_joints_are_refused():
    gt, found = measured(Pictures(truth(), "dogs"), 1)
    found[0]["keypoints"] = [1, 1, 1] * 17
    with pytest.raises(UserError, match="has 51 keypoint numbers; 6 keypoints"):
        evaluate(gt, found, "keypoints")


# ---------------------------------------------------------------- training


def test_a_model_for_other_joints_is_refused_before_the_first_step():
    one = truth()
    one["annotations"], one["categories"] = one["annotations"][:1], one["categories"][:1]
    with pytest.raises(UserError, match=r"predicts 17 joints .* has 6\. Set keypoints to 6"):
        refuse(Pictures(one, "dogs"), KEYPOINT)
    del one["categories"][0]["keypoints"]
    with pytest.raises(UserError, match="categories name no keypoints"):
        refuse(Pictures(one, "dogs"), KEYPOINT)


def test_a_loss_of_other_joints_is_refused():
    with pytest.raises(ValueError, match="predicts 17 joints an object, the targets have 6"):
        keypoint_loss(torch.zeros(1, 17, 4, 4), torch.tensor([[0.0, 0, 8, 8]]), torch.ones(1, 6, 3))


@pytest.mark.parametrize(
    ("points", "sentence"),
    [
        (torch.zeros(2, 6, 3), r"shape \[2, 6, 3\], expected \[G, J, 3\]"),
        (torch.zeros(1, 18), r"shape \[1, 18\]"),
        (torch.full((1, 6, 3), math.nan), "joint 1 of object 0"),
    ],
)
def test_a_target_s_joints_are_checked(points, sentence):
    image, target = Pictures(truth(), "dogs")[0]
    check_target(image, target, 2)
    with pytest.raises(ValueError, match=sentence):
        check_target(image, target | {"keypoints": points}, 2)
