"""A convolution under the two roofs of a machine: which does it meet, and how near do layers come?

In: what `benchmarks.roofline` measured. The arithmetic is in `roofline.js` too and is tested
against `mrcnn_edu.evaluation.roofline`. Chapter 17.
"""

from typing import Any

import traitlets
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mrcnn_edu.evaluation.roofline import Layer, Machine
from mrcnn_edu.pictures.show import BLUE, GREEN, ORANGE, RED
from mrcnn_edu.widgets.common import Widget, bundle

LAYOUTS = ("channels last", "channels first")


class Roofline(Widget):
    """A convolution to change, the roofs, and the measured layers of a Mask R-CNN.

    Args:
        measured: the content of `results/roofline_cpu.json`.
        state: first values of `channels` (in and out), `side` (of the map), `kernel`, `groups`,
            `batch`, `roof` (an index) and `memory`.
    """

    _esm = bundle("roofline")

    roofs: traitlets.List = traitlets.List().tag(
        sync=True
    )  # [label, multiply-adds/s, bytes/s, bytes a number]
    dots: traitlets.List = traitlets.List().tag(
        sync=True
    )  # [name, multiply-adds, numbers, ms by way]
    roof = traitlets.Int(0).tag(sync=True)
    memory = traitlets.Unicode(LAYOUTS[0]).tag(sync=True)
    channels = traitlets.Int(64).tag(sync=True)
    side = traitlets.Int(64).tag(sync=True)
    kernel = traitlets.Int(1).tag(sync=True)
    groups = traitlets.Int(1).tag(sync=True)
    batch = traitlets.Int(1).tag(sync=True)

    def __init__(self, measured: dict[str, Any], **state: Any) -> None:
        threads = max(measured["roofs"], key=int)
        found = measured["roofs"][threads]
        roofs = [["float32", found["float32_macs_s"], found["bytes_s"], 4]]
        if "bf16_macs_s" in found:
            roofs.append(["bfloat16", found["bf16_macs_s"], found["bytes_s"], 2])
        dots = [
            [
                f"{row['stage']}, {row['kind']}",
                row["multiply_adds"],
                row["moved"] // 4,
                [row.get(f"{way} ms") for way in (*LAYOUTS, "bf16")],
            ]
            for row in measured["layers"]
        ]
        super().__init__(roofs=roofs, dots=dots, **state)

    def layer(self) -> Layer:
        """The convolution as it is set."""
        shape = (self.batch, self.channels, self.side, self.side)
        weight = (self.channels, self.channels // self.groups, self.kernel, self.kernel)
        pad = (self.kernel // 2,) * 2
        return Layer("", shape, weight, shape, ((1, 1), pad, (1, 1), False, (0, 0), self.groups))

    def machine(self) -> Machine:
        """The roofs as they are set."""
        _, peak, bandwidth, _ = self.roofs[self.roof]
        return Machine(peak, bandwidth)

    def bound(self) -> dict[str, Any]:
        """What the convolution computes, moves and takes at least, and which roof says so."""
        work = self.layer().multiply_adds
        moved = self.layer().moved // 4 * self.roofs[self.roof][3]
        seconds = self.machine().least_seconds(work, moved)
        return {
            "work": work,
            "moved": moved,
            "intensity": work / moved,
            "seconds": seconds,
            "rate": work / seconds,
            "roof": self.machine().roof(work, moved),
        }

    def figure(self) -> Figure:
        """The roofs, the layers under them, and the convolution."""
        figure = Figure(figsize=(6, 3.4), layout="constrained")
        axis = figure.subplots()
        size = self.roofs[self.roof][3]
        way = 2 if size == 2 else LAYOUTS.index(self.memory)
        rows = [
            (work / (size * numbers), work / (ms[way] / 1e3))
            for _, work, numbers, ms in self.dots
            if ms[way]
        ]
        draw_roofs(axis, self.machine())
        axis.plot(*zip(*rows, strict=True), "o", color=BLUE, markersize=4, alpha=0.7)
        bound = self.bound()
        axis.plot(bound["intensity"], bound["rate"], "D", color=ORANGE, markersize=8)
        axis.set_title(
            f"{self.kernel}×{self.kernel}, {self.channels} channels, {self.side} × {self.side}: "
            f"{bound['roof']} roof, {1e3 * bound['seconds']:.3g} ms at least"
        )
        return figure


def draw_roofs(axis: Axes, machine: Machine) -> None:
    """Both roofs of a machine in a plot of multiply-adds per second against intensity."""
    ends = (0.2, machine.ridge, 1000.0)
    rates = [min(machine.peak, x * machine.bandwidth) for x in ends]
    axis.plot(ends[:2], rates[:2], color=RED, linewidth=2)
    axis.plot(ends[1:], rates[1:], color=GREEN, linewidth=2)
    axis.set(xscale="log", yscale="log", xlim=(ends[0], ends[2]), ylim=(1e9, 4e11))
    axis.set(xlabel="intensity: multiply-adds per byte", ylabel="multiply-adds per second")
