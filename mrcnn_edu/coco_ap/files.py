"""From two JSON files to numbers: the ground truth and the results. Chapter 11.

Both files are read once, for boxes and masks together.
"""

from collections.abc import Sequence
from pathlib import Path

from mrcnn_edu.coco_ap.evaluation import Evaluation, evaluate
from mrcnn_edu.coco_ap.load import IouType
from mrcnn_edu.files import read_json


def evaluate_files(
    truth: str | Path, results: str | Path, kinds: Sequence[IouType]
) -> dict[IouType, Evaluation]:
    """Measure a file of results against a file of annotations, both in COCO's format.

    Args:
        truth: annotations.
        results: detections with what `kinds` need.
        kinds: "bbox", "segm", "keypoints".

    Returns:
        an evaluation of each kind.

    Raises:
        UserError: as `evaluate`.
        OSError, ValueError: there is no such file, or it is not JSON.
    """
    ground_truth, found = read_json(truth), read_json(results)
    return {kind: evaluate(ground_truth, found, kind) for kind in kinds}
