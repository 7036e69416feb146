"""Chapter 17: multiply-adds by stage, and the seconds that two programs take for them."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt

from mrcnn_edu.pictures.show import BLUE, GREEN, ORANGE, PINK, RED, SKY, YELLOW

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RESULTS = Path(__file__).resolve().parent.parent / "results"
# What is drawn as one piece, and which measured stages it holds.
PIECES: dict[str, tuple[str, tuple[str, ...]]] = {
    "backbone": (BLUE, ("batch", "backbone")),
    "pyramid": (SKY, ("pyramid",)),
    "RPN head": (GREEN, ("RPN head",)),
    "box head": (YELLOW, ("box head",)),
    "mask head": (PINK, ("mask head",)),
    "RoIAlign": (ORANGE, ("box RoIAlign", "mask RoIAlign")),
    "select": ("0.65", ("proposals", "detections")),
    "paste": (RED, ("paste and encode",)),
}


def seconds_of(measured: dict[str, Any], whose: str) -> dict[str, float]:
    """Seconds of each piece, of "torchvision" or "ours"."""
    stages = {row["stage"]: row[f"{whose} ms"] / 1e3 for row in measured["stages"]}
    return {name: sum(stages[s] for s in parts) for name, (_, parts) in PIECES.items()}


def work_of(counts: dict[str, Any]) -> dict[str, float]:
    """Billions of multiply-adds of each piece; what is no convolution or product has none."""
    gmac = counts["models"]["r50_fpn"]["gmac"]
    names = {"RPN": "RPN head", "trunk": "backbone"}
    found = {names.get(name, name): value for name, value in gmac.items()}
    return {name: found.get(name, 0.0) for name in PIECES}


def bar(axis: "Axes", row: float, values: dict[str, float], unit: str) -> None:
    """One stacked bar; a piece that is wide enough says what it is."""
    left, whole = 0.0, axis.get_xlim()[1]
    for name, value in values.items():
        axis.barh(row, value, 0.62, left, color=PIECES[name][0], edgecolor="white", linewidth=0.6)
        dark = PIECES[name][0] in (BLUE, RED)
        if value > 0.07 * whole:
            style = {"ha": "center", "va": "center", "fontsize": 7.5, "linespacing": 0.95}
            ink = "white" if dark else "black"
            axis.text(left + value / 2, row, name.replace(" ", "\n"), color=ink, **style)
        left += value
    axis.text(left + 0.008 * whole, row, f"{left:.3g} {unit}", va="center", fontsize=8)


def draw() -> "Figure":
    """Work above, time below."""
    measured = json.loads((RESULTS / "time_bars_cpu.json").read_text())
    counts = json.loads((RESULTS / "counts.json").read_text())
    whose = {"torchvision": "torchvision", "this course": "ours"}
    times = {name: seconds_of(measured, who) for name, who in whose.items()}
    figure, (above, below) = plt.subplots(
        2, 1, figsize=(7.2, 3.1), gridspec_kw={"height_ratios": (1, 2)}
    )
    work = work_of(counts)
    above.set(xlim=(0, 1.12 * sum(work.values())), yticks=[0], yticklabels=["work"])
    bar(above, 0, work, "G")
    above.set_xlabel("billion multiply-adds")
    longest = max(sum(t.values()) for t in times.values())
    below.set(xlim=(0, 1.12 * longest), yticks=[0, 1], yticklabels=list(times))
    for row, values in enumerate(times.values()):
        bar(below, row, values, "s")
    below.invert_yaxis()
    below.set_xlabel("seconds for one image on two cores, same weights, same detections")
    for axis in (above, below):
        axis.spines[["left"]].set_visible(False)
        axis.tick_params(axis="y", length=0)
    small = [n for n, v in times["torchvision"].items() if v <= 0.07 * 1.12 * longest]
    handles = [plt.Rectangle((0, 0), 1, 1, color=PIECES[n][0]) for n in small]
    figure.legend(handles, small, loc="outside lower center", ncols=len(small))
    return figure
