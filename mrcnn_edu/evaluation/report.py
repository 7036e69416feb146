"""What an evaluation says: tables, precision curves, classes, mistakes, pictures.

From COCO results and a ground truth, whoever made them; no model is needed. Chapter 11.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.table import Table
from torch import Tensor

from mrcnn_edu import masks as mask_ops
from mrcnn_edu import run_lengths
from mrcnn_edu.coco_ap import FIELD, RECALL_POINTS, Evaluation, IouType, evaluate
from mrcnn_edu.coco_ap.breakdown import KINDS, Breakdown, breakdown
from mrcnn_edu.data.dataset import Categories, Dataset
from mrcnn_edu.evaluation.measure import recall_limits
from mrcnn_edu.files import write_atomically, write_json
from mrcnn_edu.pictures.overlay import draw_target, overlay, save_comparison
from mrcnn_edu.pictures.show import BLUE, RED, STYLE

NAMES: dict[IouType, str] = {"bbox": "box", "segm": "mask", "keypoints": "keypoints"}
NOTHING = "no ground truth"
METRICS_FILE, CLASSES_FILE, ERRORS_FILE = "metrics.json", "classes.json", "errors.json"
CURVES_FILE, CURVES_PICTURE, PICTURES_FILE = "curves.json", "curves.png", "examples.png"
_SIDE = 400  # small images are enlarged to about this many pixels, so that labels are small


@dataclass(frozen=True)
class Report:
    """Evaluations and mistakes of one list of results, by name: box, mask, keypoints."""

    evaluations: dict[str, Evaluation]
    errors: dict[str, Breakdown]
    class_names: dict[int, str]  # by category id
    images: int

    def metrics(self) -> dict[str, dict[str, float | None]]:
        """COCO's numbers of each kind, in percent."""
        return {name: e.summary() for name, e in self.evaluations.items()}


def make_report(
    ground_truth: dict[str, Any], results: Sequence[dict[str, Any]], max_detections: int = 100
) -> Report:
    """Measure everything that the results hold.

    Args:
        ground_truth: the content of an annotation file.
        results: in COCO's results format. Boxes, masks and keypoints are each measured if every
            result has them, keypoints if every result of a class with joints has them, and masks if
            the ground truth has outlines. No results at all are measured as boxes and masks.
        max_detections: of an image and class, for boxes and masks; keypoints take COCO's 20.

    Raises:
        UserError: see `mrcnn_edu.coco_ap.evaluate`.
    """
    evaluations: dict[str, Evaluation] = {}
    errors: dict[str, Breakdown] = {}
    for iou_type in _measurable(ground_truth, results):
        limit = 20 if iou_type == "keypoints" else max_detections
        limits = recall_limits(iou_type, limit)
        of_kind = [r for r in results if "keypoints" in r] if iou_type == "keypoints" else results
        evaluations[NAMES[iou_type]] = evaluate(ground_truth, of_kind, iou_type, limits)
        errors[NAMES[iou_type]] = breakdown(ground_truth, of_kind, iou_type, limit)
    names = {c["id"]: c["name"] for c in ground_truth["categories"]}
    return Report(evaluations, errors, names, len(ground_truth["images"]))


def _measurable(ground_truth: dict[str, Any], results: Sequence[dict[str, Any]]) -> list[IouType]:
    found: list[IouType] = []
    annotations = ground_truth["annotations"]  # of a set of boxes alone no mask can be measured
    has_outlines = not annotations or any("segmentation" in a for a in annotations)
    for iou_type, (field, _) in FIELD.items():
        if iou_type == "keypoints":
            with_joints = {
                a["category_id"]
                for a in annotations
                if any(v > 0 for v in a.get("keypoints", ())[2::3])
            }
            people = [r for r in results if r.get("category_id") in with_joints]
            if people and all(field in r for r in people):
                found.append(iou_type)
        elif all(field in r for r in results) and (iou_type == "bbox" or has_outlines):
            found.append(iou_type)
    if not found:  # half of the results lack something: the loader says which
        found.append("segm" if any("segmentation" in r for r in results) else "bbox")
    return found


def summary_table(report: Report) -> Table:
    """COCO's numbers, a line each; a range without ground truth says so."""
    metrics = report.metrics()
    title = f"Average precision and recall in percent, {report.images:,} images"
    table = Table(title=title, title_justify="left", caption_justify="left")
    if any(v is None for values in metrics.values() for v in values.values()):
        table.caption = f"{NOTHING} in this range (COCO's tools print −1)"
    table.add_column("")
    table.add_column("")
    for kind in metrics:
        table.add_column(kind, justify="right")
    names = list(dict.fromkeys(name for values in metrics.values() for name in values))
    for name in names:
        cells = [
            "" if name not in values else NOTHING if values[name] is None else f"{values[name]:.1f}"
            for values in metrics.values()
        ]
        table.add_row(name, _meaning(name), *cells, end_section=name == "APl")
    return table


def _meaning(name: str) -> str:
    """What a metric is restricted to, in words."""
    rest = name[2:]
    ranges = {"s": "small objects", "m": "medium objects", "l": "large objects"}
    if rest in ranges:
        return ranges[rest]
    if rest in ("50", "75"):
        return f"at an IoU of 0.{rest}"
    if rest:
        return f"{rest} detection{'s' * (rest != '1')} an image"
    return "mean of IoU 0.50 to 0.95"


def error_table(report: Report) -> Table:
    """How often each mistake is made, and what AP at an IoU of 0.5 would gain without it."""
    table = Table(title="Mistakes, and the AP50 that each kind costs", title_justify="left")
    table.add_column("")
    table.add_column("")
    for name in report.errors:
        table.add_column(name, justify="right")
        table.add_column("costs", justify="right")
    for kind, meaning in KINDS.items():
        cells = []
        for errors in report.errors.values():
            cost = errors.cost[kind]
            cells += [f"{errors.count[kind]:,}", "–" if cost is None else f"{cost:.1f}"]
        table.add_row(kind, meaning, *cells)
    return table


def class_metrics(report: Report) -> dict[str, dict[str, dict[str, float | None]]]:
    """AP, AP50, AP75 and AR of every class, in percent, by kind and class name."""

    def numbers(e: Evaluation, category: int) -> dict[str, float | None]:
        found = {
            "AP": e.ap(category_id=category),
            "AP50": e.ap(0.5, category_id=category),
            "AP75": e.ap(0.75, category_id=category),
            "AR": e.ar(category_id=category),
        }
        return {k: None if v is None else round(v, 3) for k, v in found.items()}

    return {
        kind: {report.class_names[c]: numbers(e, c) for c in e.category_ids}
        for kind, e in report.evaluations.items()
    }


def curves(report: Report) -> dict[str, Any]:
    """Precision [101] at each recall: of all classes at each IoU, of each class at 0.5 and 0.75.

    A mean is over the classes that have ground truth; None where none has.
    """

    def mean(values: np.ndarray) -> list[float] | None:  # [Q, K]
        known = values[:, (values > -1).all(axis=0)]
        return known.mean(axis=1).round(5).tolist() if known.size else None

    result: dict[str, Any] = {"recall": RECALL_POINTS.round(2).tolist()}
    for kind, e in report.evaluations.items():
        precision = e.precision[..., 0, -1]  # [T, Q, K]: all sizes, at the highest limit
        ious = {f"{iou:.2f}": precision[t] for t, iou in enumerate(e.iou_thresholds)}
        result[kind] = {
            "all classes": {iou: mean(p) for iou, p in ious.items()},
            "classes": {
                report.class_names[c]: {iou: mean(ious[iou][:, [k]]) for iou in ("0.50", "0.75")}
                for k, c in enumerate(e.category_ids)
            },
        }
    return result


def save_report(folder: Path, report: Report) -> None:
    """Write the numbers, the classes, the mistakes and the curves into a folder, and a picture."""
    write_json(folder / METRICS_FILE, report.metrics())
    write_json(folder / CLASSES_FILE, class_metrics(report))
    errors = {
        kind: {"AP50": e.ap, "count": e.count, "cost": e.cost} for kind, e in report.errors.items()
    }
    write_json(folder / ERRORS_FILE, errors)
    content = curves(report)
    write_atomically(folder / CURVES_FILE, (json.dumps(content) + "\n").encode())
    save_curves_picture(folder / CURVES_PICTURE, report, content)


def save_curves_picture(path: Path, report: Report, content: dict[str, Any]) -> None:
    """Draw for each kind the precision curves by IoU, and what each mistake costs.

    Args:
        path: the picture to write.
        report: the measures, with their mistakes.
        content: the curves, as they are written beside the picture.
    """
    import matplotlib.pyplot as plt
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure

    with plt.style.context(STYLE):
        shades = LinearSegmentedColormap.from_list("iou", [BLUE, "#c6dcec"])
        rows = len(report.evaluations)
        figure = Figure(figsize=(8.6, 3.1 * rows), layout="constrained")
        axes = figure.subplots(rows, 2, squeeze=False)
        for (left, right), (kind, e) in zip(axes, report.evaluations.items(), strict=True):
            for t, iou in enumerate(e.iou_thresholds):
                curve = content[kind]["all classes"][f"{iou:.2f}"]
                ap = e.ap(iou)
                if curve is not None and ap is not None:
                    shade = shades(t / max(1, len(e.iou_thresholds) - 1))
                    left.plot(RECALL_POINTS, curve, color=shade, label=f"{iou:.2f}: AP {ap:.1f}")
            left.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
            left.set_title(f"{kind}: precision at each recall, by IoU", loc="left")
            left.grid(True)
            if left.get_lines():
                left.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), handlelength=1.2)
            else:
                left.text(0.5, 0.5, "no ground truth", ha="center", transform=left.transAxes)
            errors = report.errors[kind]
            values = [errors.cost[k] or 0.0 for k in KINDS]
            bars = right.barh(list(KINDS), values, color=RED, height=0.65)
            texts = [f"{v:.1f}  ({errors.count[k]:,})" for v, k in zip(values, KINDS, strict=True)]
            right.bar_label(bars, texts, padding=3, fontsize=8)
            right.set(xlabel="AP50 gained without them  (how many there are)")
            right.set_xlim(0, 1.3 * max(1.0, *values))
            right.set_title(f"{kind}: what the mistakes cost", loc="left")
            right.invert_yaxis()
        figure.savefig(path)


def save_pictures(
    path: Path,
    dataset: Dataset,
    results: Sequence[dict[str, Any]],
    indices: Sequence[int],
    min_score: float = 0.5,
) -> None:
    """Draw ground truth and results of some images side by side.

    Args:
        path: the picture to write.
        dataset: images and targets.
        results: in COCO's format.
        indices: which images.
        min_score: detections below are left out.
    """
    wanted: dict[int, list[dict[str, Any]]] = {dataset.image_ids[i]: [] for i in indices}
    for r in results:
        if r["image_id"] in wanted:
            wanted[r["image_id"]].append(r)
    pairs = []
    for i in indices:
        image, target = dataset[i]
        scale = max(1, round(_SIDE / max(image.shape[1:])))
        found = wanted[dataset.image_ids[i]]
        shown = draw_results(image, found, dataset.categories, min_score, scale)
        pairs.append((draw_target(image, target, dataset.class_names, scale), shown))
    save_comparison(path, pairs)


def draw_results(
    image: Tensor,
    results: Sequence[dict[str, Any]],
    categories: Categories,
    min_score: float = 0.5,
    scale: int = 1,
) -> Image.Image:
    """Paint COCO results over their image, whose masks are pasted already.

    Args:
        image: uint8 [3, H, W].
        results: of this image.
        categories: which the category ids are.
        min_score: results below are left out.
        scale: see `mrcnn_edu.pictures.overlay.overlay`.
    """
    shown = [r for r in results if r["score"] >= min_score]
    place = {category: k for k, category in enumerate(categories.ids)}
    of = [place[r["category_id"]] for r in shown]
    single = len(categories.ids) == 1  # each object has its own colour, and needs no name
    texts = [
        "" if single else f"{categories.names[k]} {r['score']:.2f}"
        for k, r in zip(of, shown, strict=True)
    ]
    nothing = torch.zeros(image.shape[1:], dtype=torch.uint8)  # [H, W]
    boxes = torch.tensor([_box(r, nothing) for r in shown]).reshape(-1, 4)  # [D, 4]
    masks = (_mask(r, nothing) for r in shown)  # one image-sized mask at a time
    return overlay(image, boxes, texts, masks, list(range(len(shown))) if single else of, scale)


def _mask(result: dict[str, Any], nothing: Tensor) -> Tensor:
    """A result's mask [H, W], in any of COCO's three forms; `nothing` where it has none."""
    if "segmentation" not in result:
        return nothing
    size = (nothing.shape[0], nothing.shape[1])
    rle = run_lengths.to_rle(result["segmentation"], *size)
    return torch.from_numpy(run_lengths.decode([rle], size))[0]


def _box(result: dict[str, Any], nothing: Tensor) -> list[float]:
    """A result's box as xyxy; where it has none, its mask's."""
    if "bbox" in result:
        x, y, w, h = result["bbox"]
        return [x, y, x + w, y + h]
    if "segmentation" in result:
        return mask_ops.to_boxes(_mask(result, nothing)[None])[0].tolist()
    points = np.array(result["keypoints"]).reshape(-1, 3)[:, :2]
    return [*points.min(axis=0).tolist(), *points.max(axis=0).tolist()]
