"""Wrong verdicts by how far two objects of one class are apart: predicted and measured."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np

from mrcnn_edu.pictures.show import BLUE, GREEN, ORANGE, RED
from mrcnn_edu.related.overlap import colliding_share

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RESULT = Path(__file__).resolve().parent.parent / "results" / "overlap.json"
MODELS = {
    "fcis k=1": (RED, "FCIS, k = 1", 1),
    "fcis k=3": (ORANGE, "FCIS, k = 3", 3),
    "fcis k=7": (BLUE, "FCIS, k = 7", 7),
    "mask r-cnn": (GREEN, "Mask R-CNN", 0),
}


def draw() -> "Figure":
    """Left one class, with the bound of each k dashed; right the control, two classes."""
    runs = json.loads(RESULT.read_text())["runs"]
    figure, axes = plt.subplots(1, 2, figsize=(7.2, 2.9), sharey=True, width_ratios=[3, 2])
    fine = np.linspace(0, 0.9, 200)
    for name, (colour, label, cells) in MODELS.items():
        if cells:
            bound = [50 * colliding_share(shift, 0, cells) for shift in fine]
            axes[0].plot(fine, bound, "--", color=colour, lw=1)
        seeds = list(runs[name].values())
        for axis, values in (
            (axes[0], [{s: m["wrong"] for s, m in run["masks"].items()} for run in seeds]),
            (axes[1], [run["control"] for run in seeds]),
        ):
            shifts = [s for s in values[0] if all(v[s] is not None for v in values)]
            points = 100 * np.array([[v[s] for s in shifts] for v in values])  # [seeds, shifts]
            x = [float(s) for s in shifts]
            axis.plot(x, points.mean(axis=0), "o-", color=colour, ms=3, label=label)
            axis.fill_between(x, points.min(axis=0), points.max(axis=0), color=colour, alpha=0.15)
    axes[0].set(title="two objects of one class", ylabel="wrong verdicts, %", ylim=(0, 55))
    axes[1].set(title="of two classes")
    for axis in axes:
        axis.set_xlabel("shift, in widths")
    axes[1].legend(loc="lower left")
    return figure
