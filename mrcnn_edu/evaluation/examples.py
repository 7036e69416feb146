"""Ground truth and detections of some images side by side, as one picture. Chapter 11."""

from collections.abc import Sequence
from pathlib import Path

from mrcnn_edu.data.dataset import Dataset
from mrcnn_edu.evaluation.predict import predict
from mrcnn_edu.nn.detector import Detector
from mrcnn_edu.pictures.overlay import draw_detections, draw_target, save_comparison


def save_examples(
    path: Path, model: Detector, dataset: Dataset, indices: Sequence[int], scale: int = 1
) -> None:
    """Draw ground truth and detections of some images side by side.

    Args:
        path: the picture to write.
        model: the detector.
        dataset: what the images are taken from.
        indices: which images.
        scale: how many times as large they are drawn.
    """
    pairs = []
    for i in indices:
        image, target = dataset[i]
        found = predict(model, [image])[0]
        truth = draw_target(image, target, dataset.class_names, scale)
        detected = draw_detections(
            image,
            found,
            dataset.class_names,
            scale=scale,
            paste=model.config.mask_paste,
            threshold=model.config.mask_threshold,
        )
        pairs.append((truth, detected))
    save_comparison(path, pairs)
