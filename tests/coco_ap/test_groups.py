"""What matching sees of a class in an image, as plain arrays."""

import numpy as np
import pytest

from mrcnn_edu.coco_ap import RECALL_POINTS, evaluate, reference
from mrcnn_edu.coco_ap.cases import make_case, one_class
from mrcnn_edu.coco_ap.groups import pairs_by_class
from mrcnn_edu.errors import UserError


def test_two_images_by_hand():
    truth, results = one_class(
        [(1, (0, 0, 10, 10)), (2, (0, 0, 20, 10))],
        [(2, 0.3, (0, 0, 10, 10)), (2, 0.9, (0, 0, 20, 10)), (2, 0.1, (50, 50, 5, 5))],
    )
    truth["annotations"][1]["iscrowd"] = 1
    ((first, second),) = pairs_by_class(truth, results, "bbox", limit=2)
    assert first.ious.shape == (0, 1)
    assert first.area.tolist() == [100]
    assert second.ious.tolist() == [[1.0], [1.0]]  # in a crowd the detection's share counts
    assert second.scores.tolist() == [0.9, 0.3]  # best first, and no more than two
    assert second.sizes.tolist() == [200, 100]
    assert second.crowd.tolist() == second.ignore.tolist() == [True]


@pytest.mark.parametrize("iou_type", ["bbox", "segm", "keypoints"])
def test_from_them_the_reference_gives_the_evaluator_s_ap(iou_type):
    for seed in range(5):
        truth, results = make_case(seed, iou_type, 3, 2, 12, 15)
        expected = evaluate(truth, results, iou_type, [20]).precision[0, :, :, 0, 0]  # [Q, K]
        for k, images in enumerate(pairs_by_class(truth, results, iou_type, 20)):
            objects = sum(int((~p.ignore).sum()) for p in images)
            if not objects:
                assert (expected[:, k] == -1).all()
                continue
            found = [reference.match(p.ious, p.crowd, p.ignore, 0.5) for p in images]
            right = np.concatenate([m >= 0 for m, _ in found])
            counts = np.concatenate([~ignored for _, ignored in found])
            scores = np.concatenate([p.scores for p in images])
            p, r, _ = reference.precision_recall(scores, right, counts, objects)
            np.testing.assert_array_equal(reference.at_recalls(p, r, RECALL_POINTS), expected[:, k])


def test_nothing_and_unknown_ids():
    truth, results = one_class([(1, (0, 0, 5, 5))], [])
    assert len(pairs_by_class(truth, results, "bbox", 9)[0]) == 1
    truth["annotations"] = []
    assert pairs_by_class(truth, [], "bbox", 9) == [[]]
    with pytest.raises(UserError, match="image ids of the detections"):
        pairs_by_class(truth, one_class([], [(7, 0.5, (0, 0, 1, 1))])[1], "bbox", 9)
