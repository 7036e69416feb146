"""The curves of a run: its losses and its learning rate, step by step. Chapter 13."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mrcnn_edu.pictures.colours import COLOURS

LOSSES = ("rpn_objectness", "rpn_box", "box_class", "box", "mask", "keypoint")


def save_curves(path: Path, metrics: Sequence[dict[str, Any]], smooth: int = 50) -> None:
    """Draw the losses of a run, averaged over `smooth` steps, and the learning rate.

    Args:
        path: the picture to write.
        metrics: as `mrcnn_edu.training.run_log.read_metrics` returns them.
        smooth: steps of the moving average; shorter runs take what they have.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.2), layout="constrained", dpi=150)
    axis = figure.subplots()
    steps = np.array([m["step"] for m in metrics])
    window = max(1, min(smooth, len(steps) // 4))
    kernel = np.ones(window) / window
    for name, colour in zip(LOSSES, COLOURS, strict=False):
        if name not in metrics[0]:  # the model has no such head
            continue
        values = np.array([m[name] for m in metrics], dtype=float)  # NaN where it was left out
        axis.plot(
            steps[window - 1 :],
            np.convolve(values, kernel, mode="valid"),
            color=np.array(colour) / 255,
            label=name.replace("_", " "),
        )
    axis.set(xlabel="step", ylabel=f"loss (mean of {window} steps)", yscale="log")
    axis.grid(alpha=0.3)
    rates = axis.twinx()
    rates.plot(steps, [m["lr"] for m in metrics], color="0.6", linestyle=":", label="learning rate")
    rates.set_ylabel("learning rate", color="0.4")
    lines = axis.get_lines() + rates.get_lines()
    labels = [str(line.get_label()) for line in lines]
    figure.legend(lines, labels, loc="outside upper center", ncols=6, fontsize=8, frameon=False)
    figure.savefig(path)
