"""COCO's average precision and recall from scratch, for boxes, masks and keypoints.

`load` turns files into arrays, `groups` says who is compared with whom, `evaluation` is the method,
`overlap_kernels` and `match_kernels` the fast loops, `reference` the same in plain NumPy;
`breakdown` says what the errors are. Chapter 11.
"""

from mrcnn_edu.coco_ap.evaluation import AREAS, IOU_THRESHOLDS, RECALL_POINTS, Evaluation, evaluate
from mrcnn_edu.coco_ap.load import FIELD, IouType
from mrcnn_edu.data.skeleton import COCO_SIGMAS

__all__ = [
    "AREAS",
    "COCO_SIGMAS",
    "FIELD",
    "IOU_THRESHOLDS",
    "RECALL_POINTS",
    "Evaluation",
    "IouType",
    "evaluate",
]
