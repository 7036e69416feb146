"""The promptable segmenter: trained, compared arm by arm, and measured.

    python -m benchmarks.promptable train      # 10 minutes of one core: the weights in data/
    python -m benchmarks.promptable arms       # as long: three masks or one, three seeds each
    python -m benchmarks.promptable measure --set shapes    # a minute each
    python -m benchmarks.promptable measure --set unseen
    python -m benchmarks.promptable measure --set nuclei    # wants MRCNN_DATA

Each writes its part of results/promptable.json, arms after every run; arms that are there already
are passed over. Training images are Shapes of seed 100, which the detector has not seen; choices
were made on seed 101, and what is reported is measured on the first validation images.
"""

import argparse
import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mrcnn_edu.data.coco import CocoDataset
from mrcnn_edu.data.dataset import Dataset, InMemory, Target
from mrcnn_edu.data.prompted import PromptedObjects, look_at
from mrcnn_edu.data.shapes import ShapesDataset, default_set, generate
from mrcnn_edu.data.shapes_config import ShapesConfig
from mrcnn_edu.data.shapes_outline import UNSEEN_NAMES
from mrcnn_edu.data.subset import Subset
from mrcnn_edu.data.transforms import crop_window, to_float
from mrcnn_edu.evaluation.promptable import measure_detector, measure_prompts
from mrcnn_edu.files import write_json
from mrcnn_edu.model import MaskRCNN
from mrcnn_edu.provenance import provenance
from mrcnn_edu.related.automatic_masks import everything
from mrcnn_edu.related.promptable import PromptableConfig, PromptableSegmenter
from mrcnn_edu.related.promptable_losses import PromptLosses, mask_iou
from mrcnn_edu.training.promptable import PromptTrainConfig, train_promptable
from mrcnn_edu.weights.checkpoint import load_model
from mrcnn_edu.weights.promptable import load_promptable, promptable_on, save_promptable

_ORIGIN = ("config", "seed", "commit", "clean", "machine", "versions", "date")
ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "results" / "promptable.json"
DETECTOR = ROOT / "data" / "tiny_fpn_shapes.safetensors"
WEIGHTS = ROOT / "data" / "promptable_shapes.safetensors"

TRAINING_IMAGES = 2000
MAIN = PromptTrainConfig(steps=650)
# One round, half of the prompts: what the arms differ in shows already.
ARM = PromptTrainConfig(steps=240, prompts=4, rounds=1)
ARMS = {
    "three masks": PromptableConfig(),
    "one mask": PromptableConfig(ambiguous_masks=0),
}
SEEDS = (0, 1, 2)
SHAPES_IMAGES, UNSEEN_IMAGES, NUCLEI_IMAGES, NUCLEI_SIDE = 100, 50, 20, 128
AUTOMATIC_IMAGES = 4


def training_objects(detector: MaskRCNN) -> PromptedObjects:
    """What is asked about in training."""
    shapes = ShapesDataset(generate(ShapesConfig(), TRAINING_IMAGES, seed=100))
    return look_at(promptable_on(detector).image_encoder.eval(), shapes)


def train_main() -> dict[str, Any]:
    """Train the segmenter that ships with the course."""
    detector = load_model(DETECTOR).model
    curve: list[list[float]] = []

    def log(step: int, losses: list[PromptLosses]) -> None:
        curve.append([round(x.total().item(), 4) for x in losses])
        if step % 20 == 0:
            print(step, [round(x.dice.item(), 3) for x in losses], flush=True)

    model = promptable_on(detector, seed=MAIN.seed)
    config = {"model": dataclasses.asdict(model.config), "train": dataclasses.asdict(MAIN)}
    origin = provenance(config, MAIN.seed)
    seconds = train_promptable(model, training_objects(detector), MAIN, log)
    save_promptable(WEIGHTS, model)
    return {
        **origin,
        "training_images": TRAINING_IMAGES,
        "seconds": round(seconds, 1),
        "bytes": WEIGHTS.stat().st_size,
        "parameters": {
            name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()
        },
        "losses": [_mean(curve[i : i + 20]) for i in range(0, len(curve), 20)],
    }


def train_arms() -> None:
    """Train each arm with each seed, and write what it reaches at once."""
    detector = load_model(DETECTOR).model
    objects = training_objects(detector)
    val = ShapesDataset(default_set("val"))
    for seed in SEEDS:
        for name, config in ARMS.items():
            key = f"{name}, seed {seed}"
            if key in _stored().get("arms", {}):
                continue
            train = dataclasses.replace(ARM, seed=seed)
            model = promptable_on(detector, config, seed)
            origin = provenance({"train": dataclasses.asdict(train)}, seed)
            seconds = train_promptable(model, objects, train)
            run = {
                **origin,
                "seconds": round(seconds, 1),
                **ambiguity(measure_prompts(model, val, 1)),
            }
            print(key, run["click_alone"], run["both_meanings"], flush=True)
            _store("arms", _stored().get("arms", {}) | {key: run})


def ambiguity(found: dict[str, Tensor]) -> dict[str, Any]:
    """What a first click gets, where it is clear and where it has two meanings.

    `both_meanings`: over objects that touch others, the mean of the IoUs with object and group, of
    whichever answer fits each best; for one mask this is the same answer twice.
    """
    alone = found["alone"]
    both = (found["best_of_all"] + found["group_best_of_all"]) / 2
    top = (found["clicks"][:, 0] + found["group_click"]) / 2
    return {
        "click_alone": _round(found["clicks"][alone, 0].mean()),
        "click_alone_best_of_all": _round(found["best_of_all"][alone].mean()),
        "box": _round(found["box"].mean()),
        "both_meanings": _round(both[~alone].mean()),
        "both_meanings_top_scored": _round(top[~alone].mean()),
        "object": _round(found["best_of_all"][~alone].mean()),
        "group": _round(found["group_best_of_all"][~alone].mean()),
        "objects_alone": int(alone.sum()),
        "objects_touching": int((~alone).sum()),
    }


def a_set(name: str) -> Dataset:
    """What is measured on."""
    if name == "shapes":
        return Subset(ShapesDataset(default_set("val")), range(SHAPES_IMAGES))
    if name == "unseen":
        shapes = generate(ShapesConfig(classes=UNSEEN_NAMES), UNSEEN_IMAGES, seed=102)
        return ShapesDataset(shapes)
    folder = Path(os.environ["MRCNN_DATA"]) / "nuclei"
    nuclei = CocoDataset(folder / "val", folder / "annotations" / "instances_val.json")
    return Crops(nuclei, NUCLEI_SIDE, NUCLEI_IMAGES)


def measure(name: str) -> dict[str, Any]:
    """The trained segmenter beside the detector whose backbone it has."""
    model, detector = load_promptable(WEIGHTS), load_model(DETECTOR).model
    dataset = a_set(name)
    origin = provenance({"set": name, "side_of_nuclei": NUCLEI_SIDE}, 0)
    prompts = measure_prompts(model, dataset)
    theirs = measure_detector(detector, dataset)
    result = {
        **origin,
        "images": len(dataset),
        "clicks": [_round(v) for v in prompts["clicks"].mean(dim=0)],
        "clicks_alone": [_round(v) for v in prompts["clicks"][prompts["alone"]].mean(dim=0)],
        **ambiguity(prompts),
        "detector_in_true_boxes": _round(theirs["box"].mean()),
        "detector_found": _round((theirs["found"] >= 0.5).float().mean()),
        "by_area": by_area(prompts, theirs),
    }
    if name == "shapes":
        result["everything"] = automatic(model, dataset)
    return result


class Crops(InMemory):
    """The middle of each of the first images of a set."""

    def __init__(self, dataset: Dataset, side: int, count: int) -> None:
        super().__init__(dataset)
        self.side, self.image_ids = side, dataset.image_ids[:count]

    def __getitem__(self, index: int) -> tuple[Tensor, Target]:
        """(image uint8 [3, side, side], target)."""
        image, target = super().__getitem__(index)
        top, left = ((length - self.side) // 2 for length in image.shape[1:])
        return crop_window(image, target, top, left, self.side, self.side)


def by_area(prompts: dict[str, Tensor], theirs: dict[str, Tensor]) -> dict[str, dict[str, Any]]:
    """IoU of small, middling and large objects, by the pixels that can be seen."""
    rows = {}
    for name, low, high in (("under 100", 0, 100), ("100 to 600", 100, 600), ("more", 600, 1e9)):
        some = (prompts["area"] >= low) & (prompts["area"] < high)
        if some.any():
            rows[name] = {
                "objects": int(some.sum()),
                "click": _round(prompts["clicks"][some, 0].mean()),
                "box": _round(prompts["box"][some].mean()),
                "detector_in_true_boxes": _round(theirs["box"][some].mean()),
            }
    return rows


def automatic(model: PromptableSegmenter, dataset: Dataset) -> dict[str, Any]:
    """What a grid of clicks finds in the first images, at SAM's thresholds and at lower ones."""
    rows = {}
    for score, steady in ((0.88, 0.95), (0.7, 0.85), (0.5, 0.7)):
        counts, recalled, objects = 0, 0, 0
        for index in range(AUTOMATIC_IMAGES):
            image, target = dataset[index]
            masks = target["masks"].float()
            size = (image.shape[1], image.shape[2])
            with torch.no_grad():
                embedding = model.embed([to_float(image)])
            found = everything(
                model, embedding, size, least_score=score, least_stability=steady
            ).masks
            counts += len(found)
            objects += len(masks)
            for mask in masks:
                ious = mask_iou(found.float() - 0.5, mask)
                recalled += int(bool((ious >= 0.5).any()))
        rows[f"score {score}, stability {steady}"] = {
            "masks_an_image": round(counts / AUTOMATIC_IMAGES, 2),
            "objects_an_image": round(objects / AUTOMATIC_IMAGES, 2),
            "recall_at_0.5": round(recalled / objects, 4),
        }
    return rows


def _mean(rows: Sequence[Sequence[float]]) -> list[float]:
    return [round(v, 4) for v in torch.tensor(rows).mean(dim=0).tolist()]


def _round(value: Tensor) -> float:
    return round(float(value), 4)


def _stored() -> dict[str, Any]:
    return json.loads(RESULT.read_text()) if RESULT.exists() else {}


def _store(part: str, value: dict[str, Any]) -> None:
    origin = {key: value[key] for key in _ORIGIN if key in value}  # of the shipped weights
    write_json(RESULT, _stored() | origin | {part: value})


def main() -> None:
    """Do what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["train", "arms", "measure"])
    parser.add_argument("--set", choices=["shapes", "unseen", "nuclei"], default="shapes")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.what == "train":
        _store("train", train_main())
    elif options.what == "arms":
        train_arms()
    else:
        found = measure(options.set)
        _store("measured", _stored().get("measured", {}) | {options.set: found})


if __name__ == "__main__":
    main()
