"""How wrong are masks where two objects of one class overlap? FCIS, cell by cell, and Mask R-CNN.

Trains FCIS with k = 7, 3 and 1, and Mask R-CNN's heads, on the same backbone and the same pairs of
shapes (`mrcnn_edu.data.pairs`). Then two shapes of one class lie one over the other, shifted by a
share of their width. First with the true boxes as RoIs, without suppression and without voting:
the masks alone. Then from proposals to detections, with voting on and off.

    OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python -m benchmarks.overlap

Writes results/overlap.json after every run; one that is there is not made again. `--keep FOLDER`
also keeps the weights. About a minute of one core a run.
"""

import argparse
import dataclasses
import json
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mrcnn_edu.config import ModelConfig
from mrcnn_edu.data.dataset import InMemory, Target
from mrcnn_edu.data.pairs import NAMES, SIZE, PairsDataset, scenes
from mrcnn_edu.data.transforms import to_float
from mrcnn_edu.files import write_json
from mrcnn_edu.masks import crop_to_boxes, paste
from mrcnn_edu.model import MaskRCNN, parameter_count
from mrcnn_edu.nn.detector import Detector
from mrcnn_edu.presets import TINY_FPN
from mrcnn_edu.provenance import provenance
from mrcnn_edu.record import Detections, Record
from mrcnn_edu.related.fcis import FCIS, FCISConfig, fcis_config
from mrcnn_edu.related.overlap import colliding_share, false_edge, seam_steps, spill
from mrcnn_edu.training.config import recipe
from mrcnn_edu.training.train import train
from mrcnn_edu.weights.checkpoint import MODEL

RESULT = Path(__file__).resolve().parent.parent / "results" / "overlap.json"
SIDE, PICTURES, STEPS = SIZE, 800, 300
SHIFTS = (0.0, 0.04, 0.08, 0.12, 1 / 7, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9)  # of a width
TRAIN = dataclasses.replace(
    recipe("tiny"), steps=STEPS, warmup_steps=40, flip_probability=0.0, checkpoint_seconds=600
)
# Every RoI of a pair reads P2, stride 4, in all four models.
BASE = dataclasses.replace(
    TINY_FPN,
    num_classes=2,
    short_side=SIDE,
    long_side=SIDE,
    anchor_sizes=(12, 24, 48, 80, 112),
    roi_canonical_size=512,
    box_samples=16,
    rpn_top_after_nms=(100, 100),
)
MODELS: dict[str, ModelConfig] = {
    "fcis k=7": fcis_config(BASE, map_level=2, cells=7),
    "fcis k=3": fcis_config(BASE, map_level=2, cells=3),
    "fcis k=1": fcis_config(BASE, map_level=2, cells=1),
    "mask r-cnn": BASE,
}


def pairs_of_one_class(shift: float) -> list[tuple[Tensor, Target]]:
    """Two triangles, then two crosses."""
    return [scene for name in NAMES for scene in scenes(shift, (name, name))]


@torch.no_grad()
def masks_in(model: Detector, record: Record, boxes: Tensor, labels: Tensor) -> Tensor:
    """The mask of each true box, of its true class: probabilities [G, M, M].

    Args:
        model: FCIS or Mask R-CNN.
        record: of one image.
        boxes: [G, 4].
        labels: [G].
    """
    if isinstance(model, FCIS):
        scores = model.read(model.position_maps(record), [boxes])
        return scores.mask_logits(labels).sigmoid()
    assert isinstance(model, MaskRCNN)
    found = model.complete(record, [Detections(boxes, labels, torch.ones(len(boxes)))])
    masks = found[0].masks
    assert masks is not None
    return masks


def measure_masks(model: Detector, shift: float, cells: int) -> dict[str, float | None]:
    """Leak, loss, false edge and seam ratio at one shift, true boxes as RoIs.

    Args:
        model: trained.
        shift: in widths.
        cells: across whose lines steps are measured.
    """
    spills, edges, across, beside = [], [], [], []
    for image, target in pairs_of_one_class(shift):
        record = model([to_float(image)])
        boxes, truth = target["boxes"], target["masks"] > 0
        probabilities = masks_in(model, record, boxes, target["labels"])
        predicted = paste(probabilities, boxes, (SIDE, SIDE)) > 0.5
        deep = torch.stack([_eroded(t, 3) for t in truth]).to(torch.uint8)
        own = torch.arange(2)
        interior = crop_to_boxes(deep, boxes, own, probabilities.shape[-1], aligned=True) > 0.99
        for a, b in ((0, 1), (1, 0)):
            spills.append(spill(predicted[a], truth[a], truth[b], boxes[a], boxes[b]))
            edges.append(false_edge(predicted[a], truth[[a, b]]))
            steps = seam_steps(probabilities[a], interior[a], cells)
            across.append(steps[0])
            beside.append(steps[1])
    leaked, of_other, lost, of_own = (sum(values) for values in zip(*spills, strict=True))
    mean_beside = float(torch.cat(beside).mean())
    return {
        "leak": _share(leaked, of_other),
        "loss": _share(lost, of_own),
        "wrong": _share(leaked + lost, of_other + of_own),
        "false_edge": round(statistics.fmean(edges), 4),
        "seam_ratio": round(float(torch.cat(across).mean()) / mean_beside, 3)
        if len(torch.cat(across)) and mean_beside > 0
        else None,
    }


def measure_control(model: Detector, shift: float) -> float | None:
    """The share of wrong verdicts of two shapes of different classes."""
    spills = []
    for names in (NAMES, NAMES[::-1]):
        for image, target in scenes(shift, names):
            boxes, truth = target["boxes"], target["masks"] > 0
            record = model([to_float(image)])
            found = paste(masks_in(model, record, boxes, target["labels"]), boxes, (SIDE, SIDE))
            for a, b in ((0, 1), (1, 0)):
                spills.append(spill(found[a] > 0.5, truth[a], truth[b], boxes[a], boxes[b]))
    leaked, of_other, lost, of_own = (sum(values) for values in zip(*spills, strict=True))
    return _share(leaked + lost, of_other + of_own)


@torch.no_grad()
def measure_detections(model: Detector, shift: float) -> dict[str, float]:
    """From proposals to detections: how many objects are found, and how many pairs whole.

    An object is found when a detection of its class has a mask of IoU ½ or more with it.
    """
    objects, pairs = [], []
    for image, target in pairs_of_one_class(shift):
        found = model.detect(model([to_float(image)])).detections[0]
        assert found.masks is not None
        masks = paste(found.masks, found.boxes, (SIDE, SIDE)) > model.config.mask_threshold
        masks = masks[(found.labels == target["labels"][0]) & (found.scores > 0.3)]
        truth = target["masks"] > 0
        union = (masks[:, None] | truth).flatten(2).sum(dim=2).clamp(min=1)  # [D, 2]
        iou = (masks[:, None] & truth).flatten(2).sum(dim=2) / union
        hit = (iou >= 0.5).any(dim=0) if len(masks) else torch.zeros(2, dtype=torch.bool)
        objects += hit.tolist()
        pairs.append(bool(hit.all()))
    return {
        "objects": round(statistics.fmean(objects), 4),
        "pairs": round(statistics.fmean(pairs), 4),
    }


def run(name: str, seed: int, keep: Path | None) -> dict[str, Any]:
    """Train one model with one seed, and measure it at every shift.

    Args:
        name: of the model.
        seed: of weights and order.
        keep: folder for the weights, or None.
    """
    config, schedule = MODELS[name], dataclasses.replace(TRAIN, seed=seed)
    described = {"model": dataclasses.asdict(config), "train": dataclasses.asdict(schedule)}
    origin = provenance(described, seed)
    start = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        pictures = InMemory(PairsDataset(PICTURES, seed=1, size=SIDE))
        model = train(config, schedule, pictures, Path(folder), progress=False)
        if keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
            kept = f"{name.replace(' ', '_')}_{seed}.safetensors"
            shutil.copy2(Path(folder) / MODEL, keep / kept)
    trained = time.process_time() - start
    cells = config.cells if isinstance(config, FCISConfig) and config.cells > 1 else 7
    with torch.no_grad():
        masks = {f"{shift:.3f}": measure_masks(model, shift, cells) for shift in SHIFTS}
        control = {f"{shift:.3f}": measure_control(model, shift) for shift in SHIFTS}
    found = {"as configured": {f"{s:.3f}": measure_detections(model, s) for s in SHIFTS}}
    if isinstance(config, FCISConfig):
        model.config = dataclasses.replace(config, vote_iou=0.0)
        found["no voting"] = {f"{s:.3f}": measure_detections(model, s) for s in SHIFTS}
    return {
        **{k: v for k, v in origin.items() if k in ("seed", "commit", "clean", "date")},
        "parameters": parameter_count(model)["total"],
        "training_processor_seconds": round(trained, 1),
        "masks": masks,
        "control": control,
        "found": found,
    }


def _eroded(mask: Tensor, pixels: int) -> Tensor:
    outside = torch.nn.functional.max_pool2d((~mask)[None].float(), 2 * pixels + 1, 1, pixels)
    return outside[0] == 0


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None


def main() -> None:
    """Make what is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--keep", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    configs = {name: dataclasses.asdict(config) for name, config in MODELS.items()}
    described = {"models": configs, "train": dataclasses.asdict(TRAIN), "pictures": PICTURES}
    content = provenance(json.loads(json.dumps(described)), 0)
    content["predicted"] = {
        f"k={k}": {f"{s:.3f}": round(colliding_share(s, 0, k), 4) for s in SHIFTS}
        for k in (7, 3, 1)
    }
    content["runs"] = json.loads(RESULT.read_text())["runs"] if RESULT.exists() else {}
    for seed in arguments.seeds:
        for name in MODELS:
            if str(seed) in content["runs"].setdefault(name, {}):
                continue
            content["runs"][name][str(seed)] = run(name, seed, arguments.keep)
            write_json(RESULT, content)
            print(name, seed, content["runs"][name][str(seed)]["masks"]["0.000"], flush=True)


if __name__ == "__main__":
    main()
