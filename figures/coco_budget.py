"""Chapter 14, the take-away: how fast others train, what that makes of 1x, what AP on the way."""

import json
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mrcnn_edu.pictures.show import BLUE, GREEN, ORANGE, RED
from mrcnn_edu.training.budget import AP_BY_EPOCH, AP_RUN, PUBLISHED

RESULTS = Path(__file__).resolve().parent.parent / "results"
IMAGES = 90_000 * 16  # of 1x


def draw() -> Figure:
    """Published and measured speeds, the hours that follow, AP by epoch."""
    import matplotlib.pyplot as plt

    race = json.loads((RESULTS / "train_cpu_float32_800.json").read_text())
    loader = json.loads((RESULTS / "loader_cpu.json").read_text())
    speeds = {
        "torchvision, 2 CPU cores": (race["torchvision"]["images_s"], ORANGE),
        "this course, 2 CPU cores": (race["ours"]["images_s"], ORANGE),
    }
    for entry in sorted(PUBLISHED, key=lambda e: e.images_s):
        speeds[f"{entry.code}, {entry.gpus} {entry.card}"] = (entry.images_s, BLUE)
    figure, axes = plt.subplots(1, 3, figsize=(7.6, 3.0), width_ratios=(1, 0.8, 1))
    _draw_speeds(axes[0], speeds, loader["paths"]["for a GPU"]["images_s_of_a_worker"])
    _draw_hours(axes[1], speeds)
    _draw_ap(axes[2])
    return figure


def _draw_speeds(axis: Axes, speeds: dict[str, tuple[float, str]], worker: float) -> None:
    values = [speed for speed, _ in speeds.values()]
    axis.barh(list(speeds), values, color=[colour for _, colour in speeds.values()], height=0.7)
    for row, value in enumerate(values):
        text = f"{value:.2f}" if value < 1 else f"{value:.0f}"
        label = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
        axis.text(value * 1.2, row, text, va="center", fontsize=7, bbox=label)
    axis.axvline(worker, color=GREEN, linestyle="--", linewidth=1)
    axis.text(worker * 0.85, 0.0, "one loading\nprocess", color=GREEN, fontsize=7, ha="right")
    axis.set(xscale="log", xlim=(0.08, 1000), xlabel="images/s")
    axis.tick_params(axis="y", labelsize=7, length=0)
    axis.minorticks_off()
    axis.set_title("who trains how fast", loc="left")


def _draw_hours(axis: Axes, speeds: dict[str, tuple[float, str]]) -> None:
    line = np.geomspace(0.1, 300, 50)
    axis.loglog(line, IMAGES / line / 3600, color="0.75", linewidth=1.2)
    for speed, colour in speeds.values():
        axis.plot(speed, IMAGES / speed / 3600, "o", color=colour)
    for hours, text in ((1, "an hour"), (24, "a day"), (24 * 30, "a month")):
        axis.axhline(hours, color="0.85", linewidth=0.7, zorder=0)
        axis.text(300, hours * 1.12, text, fontsize=7, color="0.4", ha="right")
    axis.set(xlabel="images/s", ylabel="hours of 1x (projected)", xlim=(0.08, 400))
    axis.minorticks_off()
    axis.set_title("what that makes of 1x", loc="left")


def _draw_ap(axis: Axes) -> None:
    epochs = range(1, 1 + len(AP_BY_EPOCH))
    for kind, colour, name in ((0, BLUE, "box"), (1, RED, "mask")):
        values = [ap[kind] for ap in AP_BY_EPOCH]
        axis.plot(epochs, values, "o-", color=colour, markersize=3, linewidth=1.4, label=name)
    for step in AP_RUN["drops"]:
        axis.axvline(step * AP_RUN["batch"] / AP_RUN["images"], color="0.5", linestyle=":", lw=1)
    axis.text(11.9, 36, "rate ÷10", fontsize=7, color="0.3", ha="right")
    axis.axvspan(0, AP_RUN["warm-up"] * AP_RUN["batch"] / AP_RUN["images"], color="0.93")
    axis.text(0.2, 2, "warm-up", fontsize=7, color="0.3")
    axis.set(xlabel="epoch", ylabel="AP (published)", xlim=(0, 17.6), ylim=(0, 41))
    axis.legend(loc="lower right", frameon=True, framealpha=1, edgecolor="none")
    axis.set_title("what AP on the way", loc="left")
