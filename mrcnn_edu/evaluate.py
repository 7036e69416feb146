"""Run a model over a data set, and measure it as COCO does.

Detections become the list of dictionaries that every COCO tool reads (boxes as xywh, masks as
run-lengths, raw category ids); :mod:`mrcnn_edu.coco_ap` turns that list and the ground truth into
average precision. Chapter 11.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from tqdm.auto import tqdm

from mrcnn_edu import boxes as box_ops
from mrcnn_edu import coco_ap
from mrcnn_edu import masks as mask_ops
from mrcnn_edu.config import ModelConfig, to_json
from mrcnn_edu.data.dataset import Dataset
from mrcnn_edu.data.transforms import resize, to_float
from mrcnn_edu.detection_log import DetectionLog
from mrcnn_edu.model import Detections, MaskRCNN
from mrcnn_edu.provenance import write_json

METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")
DETECTIONS = "detections.json"


@torch.no_grad()
def predict(model: MaskRCNN, images: Sequence[Tensor]) -> list[Detections]:
    """Detect objects in images of any size; boxes come back in pixels of those images.

    Args:
        model: any; the mode it is in is restored afterwards.
        images: each uint8 [3, H, W], RGB.

    Returns:
        for each image its detections. Masks stay M×M inside their boxes; see
        :func:`mrcnn_edu.masks.paste`.
    """
    was_training = model.training
    model.eval()
    try:
        device = next(model.parameters()).device
        resized = [
            resize(
                to_float(x),
                model.config.short_side,
                model.config.long_side,
                model.config.resize_rounding,
            ).to(device)
            for x in images
        ]
        found = model.detect(model(resized)).detections
    finally:
        model.train(was_training)
    return [
        _in_original_pixels(d, small.shape, image.shape)
        for d, small, image in zip(found, resized, images, strict=True)
    ]


def coco_results(
    model: MaskRCNN,
    dataset: Dataset,
    batch_size: int = 1,
    progress: bool = True,
    folder: Path | None = None,
) -> list[dict[str, Any]]:
    """Detect on a whole data set, in COCO's results format.

    Where ``torch.distributed`` runs, each process takes its share of the batches, and each
    returns all results. The batches are the same for any number of processes, and so are the
    results.

    Args:
        model: any.
        dataset: images and their ids; targets are not used.
        batch_size: images at a time. Only images of one size are equal alone and in a batch:
            padding changes borders and GroupNorm's statistics.
        progress: show a bar.
        folder: receives ``detections.json`` in the end. Until then what is done is kept there, and
            a call that was killed goes on with the batch it was at when it is repeated, with as
            many processes as you like.

    Returns:
        a list of dictionaries with ``image_id``, ``category_id``, ``bbox`` (xywh), ``score`` and
        ``segmentation`` (compressed RLE), ready for JSON, in the order of the images.

    Raises:
        UserError: ``folder`` holds an unfinished evaluation of another model or data set.
    """
    rank, processes = 0, 1
    if dist.is_available() and dist.is_initialized():
        rank, processes = dist.get_rank(), dist.get_world_size()
    run = "" if folder is None else _fingerprint(model, dataset, batch_size)
    log = None if folder is None else DetectionLog(folder, run, rank)
    done: dict[int, list[dict[str, Any]]] = {} if log is None else log.done
    starts = range(rank * batch_size, len(dataset), processes * batch_size)
    hidden = not progress or rank > 0
    for start in tqdm(starts, desc="detecting", disable=hidden, leave=False):
        indices = range(start, min(start + batch_size, len(dataset)))
        if all(i in done for i in indices):
            continue
        images = [dataset[i][0] for i in indices]
        found = [
            to_coco(
                detections,
                dataset.image_ids[i],
                (image.shape[1], image.shape[2]),
                dataset.to_category_id,
                model.config,
                getattr(dataset, "keypoint_labels", None),
            )
            for i, image, detections in zip(indices, images, predict(model, images), strict=True)
        ]
        done.update(zip(indices, found, strict=True))
        if log is not None:
            log.append(indices, found)
    done = _gather(done, processes)
    results = [r for i in range(len(dataset)) for r in done[i]]
    if log is not None and folder is not None:
        if rank == 0:
            write_json(folder / DETECTIONS, results)
            log.remove()
        log.close()
    return results


def _gather(
    done: dict[int, list[dict[str, Any]]], processes: int
) -> dict[int, list[dict[str, Any]]]:
    """What all processes have done; lists travel by gloo, whatever the gradients use."""
    if processes == 1:
        return done
    group: Any = dist.new_group(backend="gloo")
    parts: list[Any] = [None] * processes
    dist.all_gather_object(parts, done, group)
    dist.destroy_process_group(group)
    return {i: found for part in parts for i, found in part.items()}


def _fingerprint(model: MaskRCNN, dataset: Dataset, batch_size: int) -> str:
    """Changes with all that detections depend on: weights, settings, images, batches."""
    classes = [dataset.to_category_id(i + 1) for i in range(dataset.num_classes)]
    settings = [to_json(model.config), classes, list(dataset.image_ids), batch_size]
    digest = hashlib.blake2b(json.dumps(settings).encode(), digest_size=16)
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def to_coco(
    detections: Detections,
    image_id: int,
    image_size: tuple[int, int],
    to_category_id: Callable[[int], int],
    config: ModelConfig,
    keypoint_labels: Collection[int] | None = None,
) -> list[dict[str, Any]]:
    """Write the detections of one image as COCO results.

    COCO's joints are pixel indices, ours places: half a pixel is taken off, as half a pixel was
    added to those of the targets.

    Args:
        detections: in pixels of the image.
        image_id: the id to write.
        image_size: (height, width) of the image, to which the masks are pasted.
        to_category_id: label 1..K -> category id.
        config: ``mask_paste``, ``mask_threshold`` and ``keypoint_shift`` of it are used.
        keypoint_labels: the labels whose objects have joints; None: all.

    Returns:
        one dictionary a detection; with ``segmentation`` if the model has a mask head, and with
        ``keypoints``, x, y and 1 of each joint, if it has a keypoint head.
    """
    xywh = box_ops.to_xywh(detections.boxes).tolist()
    labels, scores = detections.labels.tolist(), detections.scores.tolist()
    results: list[dict[str, Any]] = [
        {
            "image_id": int(image_id),
            "category_id": int(to_category_id(label)),
            "bbox": [round(v, 3) for v in box],
            "score": round(score, 6),
        }
        for box, label, score in zip(xywh, labels, scores, strict=True)
    ]
    if detections.masks is not None:
        rles = mask_ops.paste_to_rle(
            detections.masks.cpu(),
            detections.boxes.cpu(),
            image_size,
            threshold=config.mask_threshold,
            dialect=config.mask_paste,
        )
        for result, rle in zip(results, rles, strict=True):
            counts = rle["counts"].decode("ascii")
            result["segmentation"] = {"size": rle["size"], "counts": counts}
    if detections.keypoints is not None:
        shift = torch.tensor([config.keypoint_shift, config.keypoint_shift, 0.0])
        joints = (detections.keypoints.cpu() - shift).flatten(1).tolist()  # [D, 3 · J]
        for result, label, numbers in zip(results, labels, joints, strict=True):
            if keypoint_labels is None or label in keypoint_labels:
                result["keypoints"] = [round(v, 3) for v in numbers]
    return results


def coco_metrics(
    ground_truth: Any,
    results: Sequence[dict[str, Any]],
    iou_type: coco_ap.IouType,
    max_detections: int | None = None,
) -> dict[str, float | None]:
    """The numbers that COCO publishes, by :mod:`mrcnn_edu.coco_ap`.

    Args:
        ground_truth: a ``pycocotools.coco.COCO``, or the dictionary of an annotation file.
        results: as :func:`coco_results` writes them.
        iou_type: "bbox", "segm" or "keypoints".
        max_detections: detections of an image and class that count, best first; None for COCO's
            100, for keypoints 20.

    Returns:
        in percent, None where there is no ground truth in the range: AP, AP50, AP75, APs, APm,
        APl, and average recall, AR1, AR10, AR100 (at 1, 10 and ``max_detections``), ARs, ARm,
        ARl. Keypoints have no small range; their recalls are AR, AR50, AR75, ARm, ARl.

    Raises:
        UserError: image or category ids of the results are not those of the ground truth, or
            something else is wrong with either; see :mod:`mrcnn_edu.coco_ap.load`.
    """
    truth = ground_truth if isinstance(ground_truth, dict) else ground_truth.dataset
    limits = recall_limits(iou_type, max_detections)
    return coco_ap.evaluate(truth, results, iou_type, limits).summary()


def measure(
    dataset: Dataset, results: Sequence[dict[str, Any]], config: ModelConfig
) -> dict[str, dict[str, float | None]]:
    """:func:`coco_metrics` of boxes, masks and joints, as far as a model has such heads.

    Args:
        dataset: whose ground truth counts.
        results: as :func:`coco_results` writes them.
        config: of the model; its ``detections_per_image`` count, for joints COCO's 20.

    Returns:
        ``box``, and ``mask`` and ``keypoints`` where there are heads for them.
    """
    truth, most = dataset.coco_gt(), config.detections_per_image
    found = {"box": coco_metrics(truth, results, "bbox", most)}
    if config.mask_head != "none":
        found["mask"] = coco_metrics(truth, results, "segm", most)
    if config.keypoints:
        found["keypoints"] = coco_metrics(truth, results, "keypoints")
    return found


def recall_limits(iou_type: coco_ap.IouType, max_detections: int | None) -> list[int] | None:
    """At how many detections recall is told: COCO's 1 and 10, and the limit itself."""
    if max_detections is None:
        return None
    if iou_type == "keypoints":
        return [max_detections]
    return [n for n in (1, 10) if n < max_detections] + [max_detections]


def _in_original_pixels(d: Detections, small: torch.Size, original: torch.Size) -> Detections:
    x, y = original[2] / small[2], original[1] / small[1]
    joints = d.keypoints
    if joints is not None:
        joints = joints * torch.tensor([x, y, 1.0], device=joints.device)  # [D, J, 3]
    boxes = d.boxes * torch.tensor([x, y, x, y], device=d.boxes.device)  # [D, 4]
    return dataclasses.replace(d, boxes=boxes, keypoints=joints)
