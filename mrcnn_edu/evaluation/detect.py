"""Run a model over a data set, and measure it as COCO does.

Detections become the list of dictionaries that every COCO tool reads (boxes as xywh, masks as
run-lengths, raw category ids); `mrcnn_edu.coco_ap` turns that list and the ground truth into
average precision. Chapter 11.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from tqdm.auto import tqdm

from mrcnn_edu.config import to_json
from mrcnn_edu.data.dataset import Dataset
from mrcnn_edu.evaluation.coco_format import to_coco
from mrcnn_edu.evaluation.detection_log import DetectionLog
from mrcnn_edu.evaluation.predict import predict
from mrcnn_edu.files import write_json
from mrcnn_edu.nn.detector import Detector

DETECTIONS = "detections.json"


def coco_results(
    model: Detector,
    dataset: Dataset,
    batch_size: int = 1,
    progress: bool = True,
    folder: Path | None = None,
) -> list[dict[str, Any]]:
    """Detect on a whole data set, in COCO's results format.

    Where `torch.distributed` runs, each process takes its share of the batches, and each returns
    all results. The batches are the same for any number of processes, and so are the results.

    Args:
        model: any.
        dataset: images and their ids; targets are not used.
        batch_size: images at a time. Only images of one size are equal alone and in a batch:
            padding changes borders and GroupNorm's statistics.
        progress: show a bar.
        folder: receives `detections.json` in the end. Until then what is done is kept there, and
            a call that was killed goes on with the batch it was at when it is repeated, with as
            many processes as you like.

    Returns:
        a list of dictionaries with `image_id`, `category_id`, `bbox` (xywh), `score` and
        `segmentation` (compressed RLE), ready for JSON, in the order of the images.

    Raises:
        UserError: `folder` holds an unfinished evaluation of another model or data set.
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
                dataset.keypoint_labels,
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


def _fingerprint(model: Detector, dataset: Dataset, batch_size: int) -> str:
    """Changes with all that detections depend on: weights, settings, images, batches."""
    settings = [to_json(model.config), dataset.categories.ids, list(dataset.image_ids), batch_size]
    digest = hashlib.blake2b(json.dumps(settings).encode(), digest_size=16)
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
