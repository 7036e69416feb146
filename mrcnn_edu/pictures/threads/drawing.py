"""Draws a recorded launch: threads between the array that they read and the one that they write.

The idea is that of Sasha Rush's GPU-Puzzles. Chapters 07a and 07b.
"""

from typing import TYPE_CHECKING, Any

from mrcnn_edu.pictures.colours import COLOURS
from mrcnn_edu.pictures.threads.accesses import Trace

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_trace(axis: "Axes", trace: Trace, above: str, below: str) -> None:
    """Draw threads between two arrays: lines from what they read, and to what they write.

    Threads of one block have one colour. Dashed lines are atomic additions; red are accesses
    outside an array, and cells at which threads race.

    Args:
        axis: where.
        trace: the launch, small enough to see: some forty threads.
        above: the array drawn at the top.
        below: the array drawn at the bottom.
    """
    used = [a for a in trace.accesses if a.array in (above, below)]
    rows: dict[str, int] = {name: trace.sizes[name] for name in (above, below)}
    for a in used:
        rows[a.array] = max(rows[a.array], a.cell + 1)
    width = max(*rows.values(), len(trace.threads))
    start = {name: (width - count) / 2 for name, count in rows.items()}
    height = {above: 2.0, below: 0.0}
    blocks = list(dict.fromkeys(block for block, _ in trace.threads))
    paint = [tuple(c / 255 for c in COLOURS[i % len(COLOURS)]) for i in range(len(blocks))]
    left = (width - len(trace.threads)) / 2
    place = {who: (left + i + 0.5, 1.0) for i, who in enumerate(trace.threads)}
    racing = {(a.array, a.cell) for a in used if (a.array, a.index) in trace.races()}
    for name, count in rows.items():
        for cell in range(count):
            wrong = cell >= trace.sizes[name] or (name, cell) in racing
            _square(axis, start[name] + cell + 0.5, height[name], str(cell), "white", wrong)
        axis.text(-0.4, height[name], name, ha="right", va="center", fontweight="bold")
    axis.text(-0.4, 1.0, "threads", ha="right", va="center", fontweight="bold")
    for who, (x, y) in place.items():
        _square(axis, x, y, str(who[1]), paint[blocks.index(who[0])], False)
    for a in used:
        x, y = place[a.who]
        at, side = start[a.array] + a.cell + 0.5, 1 if a.array == above else -1
        colour = paint[blocks.index(a.block)] if a.inside else "#d62728"
        style = "--" if a.kind == "atomic" else "-"
        axis.plot([x, at], [y + 0.2 * side, height[a.array] - 0.2 * side], style,
                  color=colour, linewidth=1.2, zorder=1)  # fmt: skip
    axis.set(xlim=(-0.14 * width - 0.4, width + 0.2), ylim=(-0.35, 2.35), xticks=[], yticks=[])
    axis.spines[:].set_visible(False)


def _square(axis: "Axes", x: float, y: float, text: str, fill: Any, wrong: bool) -> None:
    from matplotlib.patches import Rectangle

    edge = "#d62728" if wrong else "#555555"
    axis.add_patch(
        Rectangle((x - 0.42, y - 0.2), 0.84, 0.4, facecolor=fill, edgecolor=edge,
                  linewidth=2.0 if wrong else 0.8, zorder=2)
    )  # fmt: skip
    axis.text(x, y, text, ha="center", va="center", fontsize=7, zorder=3)
