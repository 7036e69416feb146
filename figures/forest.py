"""Chapter 15, the take-away: a seed is a pair, pairs make an interval, a rule judges it."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mrcnn_edu.ablations.intervals import (
    Difference,
    Verdict,
    paired_difference,
    unpaired_difference,
    verdict,
)
from mrcnn_edu.ablations.judge import collect, values
from mrcnn_edu.ablations.profiles import PROFILES
from mrcnn_edu.ablations.tables import table
from mrcnn_edu.pictures.show import BLUE, GREEN, RED, SKY

RESULTS = Path(__file__).resolve().parent.parent / "results" / "ablations"
NEW, OLD, METRIC = "FCN", "MLP, 2 layers", "mask AP"  # table 2e, on nuclei
COLOURS: dict[Verdict, str] = {"reproduced": GREEN, "not reproduced": RED, "undecided": "0.55"}


def draw() -> Figure:
    """Two arms by seed; their differences with two intervals; intervals and their verdicts."""
    import matplotlib.pyplot as plt

    found = collect(table("2e"), PROFILES["cpu"], "nuclei", RESULTS)
    new, old = (values(found[name], METRIC) for name in (NEW, OLD))
    figure, axes = plt.subplots(1, 3, figsize=(7.2, 2.7), width_ratios=(1, 1.05, 1.5))
    _draw_runs(axes[0], old, new)
    _draw_intervals(axes[1], old, new)
    _draw_verdicts(axes[2])
    return figure


def _draw_runs(axis: Axes, old: dict[int, float], new: dict[int, float]) -> None:
    for seed in sorted(new):
        axis.plot([0, 1], [old[seed], new[seed]], "o-", color="0.35", linewidth=1, markersize=4)
        axis.annotate(str(seed), (1, new[seed]), (6, -3), textcoords="offset points", fontsize=7)
    axis.set(xlim=(-0.3, 1.4), ylabel=METRIC)
    axis.set_xticks([0, 1], ["fully\nconnected", "convolu-\ntional"])
    axis.set_title("1. a seed is a pair", loc="left")


def _draw_intervals(axis: Axes, old: dict[int, float], new: dict[int, float]) -> None:
    axis.plot(
        [new[s] - old[s] for s in sorted(new)], [2] * len(new), "o", color="0.35", markersize=4
    )
    for y, found, name, paint in (
        (1, paired_difference(new, old), "paired", GREEN),
        (0, unpaired_difference(new, old), "unpaired", "0.55"),
    ):
        axis.plot([found.low, found.high], [y, y], color=paint, linewidth=2.2)
        axis.plot(found.mean, y, "o", color=paint)
        axis.text(found.high + 0.2, y, name, color=paint, va="center", fontsize=8)
    axis.text(0.02, 0.93, "differences by seed", transform=axis.transAxes, fontsize=8)
    axis.axvline(0, color="black", linewidth=0.8)
    axis.set(ylim=(-0.6, 2.75), yticks=[], xlim=(-1.4, 6.9), xlabel="mask AP")
    axis.set_title("2. pairs make an interval", loc="left")


def _draw_verdicts(axis: Axes) -> None:
    rows = [
        (0.4, 2.2, False), (-0.8, 1.6, False), (-1.4, 0.3, False),
        (-0.5, 0.7, True), (0.2, 1.6, True), (1.2, 2.4, True),
    ]  # fmt: skip
    axis.fill_between([0.5, 3], -0.5, 2.5, color=SKY, alpha=0.25, linewidth=0)
    axis.fill_between([-1, 1], 2.5, 5.5, color=SKY, alpha=0.25, linewidth=0)
    for y, (low, high, alike) in enumerate(rows):
        ruling = verdict(Difference(5, (low + high) / 2, low, high), 1.0, alike)
        axis.plot([low, high], [y, y], color=COLOURS[ruling], linewidth=2.2)
        axis.plot((low + high) / 2, y, "o", color=COLOURS[ruling])
        axis.text(3.15, y, ruling, color=COLOURS[ruling], va="center", fontsize=8)
    axis.axvline(0, color="black", linewidth=0.8)
    axis.axhline(2.5, color="0.8", linewidth=0.8)
    axis.text(-2.05, 1, "over", rotation=90, va="center", color=BLUE, fontsize=8)
    axis.text(-2.05, 4, "alike", rotation=90, va="center", color=BLUE, fontsize=8)
    axis.set(ylim=(5.6, -0.6), yticks=[], xlim=(-2.2, 3), xticks=[-1, 0, 0.5, 1])
    axis.set_xticklabels(["−e", "0", "e/2", "e"])
    axis.set_xlabel("e: least effect that matters")
    axis.set_title("3. a rule, written before", loc="left")
