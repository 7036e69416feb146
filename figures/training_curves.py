"""Chapter 13, the take-away: eight trainings that failed, each in the curve that gives it away."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from mrcnn_edu.pictures.show import BLUE, RED

RESULTS = Path(__file__).resolve().parent.parent / "results" / "failures"
SMOOTH = 15  # steps
# Of each failure the curve to look at, and the run that it is held against.
TELLTALE = {
    "rate": ("rpn_objectness", "healthy"),
    "no_warmup": ("loss", "healthy"),
    "xywh": ("unseen", "healthy"),
    "labels": ("unseen", "healthy"),
    "batch_norm": ("loss", "group_norm"),
    "masks": ("mask", "healthy"),
    "anchors": ("rpn_box", "healthy"),
    "zero_grad": ("gradient_norm", "healthy"),
}
WORDS = {
    "loss": "the whole loss",
    "gradient_norm": "length of the gradient",
    "unseen": "validation loss",
}


def result(name: str) -> dict[str, Any]:
    """A stored run."""
    return json.loads((RESULTS / f"{name}_seed0.json").read_text("utf-8"))


def curve(run: dict[str, Any], series: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of a curve: as measured, or a sliding mean over training steps."""
    if series == "unseen":
        return np.array(run["unseen"]["step"]), np.array(run["unseen"]["loss"], float)
    values = np.array(run["train"][series], float)
    means = np.convolve(values, np.ones(SMOOTH) / SMOOTH, "valid")
    return np.arange(len(means)) + SMOOTH // 2, means


def draw() -> Figure:
    """Two rows of four: blue what it should be, red what it was."""
    import matplotlib.pyplot as plt
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    figure, axes = plt.subplots(2, 4, figsize=(7.4, 3.9), sharex=True)
    for axis, (name, (series, other)) in zip(axes.flat, TELLTALE.items(), strict=True):
        runs = [(result(other), BLUE), (result(name), RED)]
        for line, (run, paint) in enumerate(runs):
            axis.plot(*curve(run, series), color=paint, linewidth=1.2)
            reached = " and ".join(f"{run['metrics'][k]['AP']:.0f} {k}" for k in ("box", "mask"))
            ground = {"facecolor": "white", "alpha": 0.7, "pad": 0.6, "lw": 0}
            axis.text(
                0.97, 0.96 - 0.09 * line, f"AP {reached}", color=paint, fontsize=6, ha="right",
                va="top", transform=axis.transAxes, bbox=ground,
            )  # fmt: skip
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_minor_locator(NullLocator())
        low, high = axis.get_ylim()
        axis.set_ylim(low, high * (high / low) ** 0.25)  # room for what was reached
        axis.tick_params(which="both", labelsize=5.5)
        axis.set_title(runs[1][0]["title"], fontsize=7)
        axis.set_ylabel(WORDS.get(series, series.replace("_", " ")), fontsize=6.5)
    for axis in axes[1]:
        axis.set_xlabel("step", fontsize=7)
    return figure
