"""The forest plot: every claimed difference on one axis, with its interval, beside the published.

One row an effect, under the heading of its table and data. A dot is the mean difference over seeds,
its line the 95 % interval, its colour the verdict, a blue tick the published difference. Behind a
claim that two arms are alike lies a pale band, within which no difference matters. The numbers
stand at the right; what passes the edge ends in an arrow. Chapter 15.
"""

import math
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from mrcnn_edu.ablations.intervals import Verdict
from mrcnn_edu.ablations.judge import Judged, interval_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ROW = 0.19  # inches
_LIMIT = 25.0  # AP points: one large effect would squeeze all others


def forest(judged: Sequence[Judged]) -> "Figure":
    """Draw the effects, table by table.

    Args:
        judged: in the order in which they are to stand; at least one.
    """
    import matplotlib.pyplot as plt

    from mrcnn_edu.pictures.show import BLUE, GREEN, RED, use_style

    use_style()
    colours: dict[Verdict, str] = {"reproduced": GREEN, "not reproduced": RED, "undecided": "0.55"}
    groups = [list(g) for _, g in groupby(judged, key=lambda j: (j.table.key, j.data))]
    rows = sum(len(group) + 1 for group in groups)
    figure, axis = plt.subplots(figsize=(8.6, 0.95 + _ROW * rows))
    drawn = [v for j in judged for v in (j.difference.mean, j.difference.low, j.difference.high)]
    drawn += [j.published[0] for j in judged if j.published]
    drawn += [sign * j.effect.smallest for j in judged if j.effect.alike for sign in (-1, 1)]
    finite = [v for v in drawn if math.isfinite(v)]
    left, right = max(-_LIMIT, min([0.0, *finite])) - 0.5, min(_LIMIT, max([0.0, *finite])) + 0.5
    beside = axis.get_yaxis_transform()  # x in widths of the axis, y in rows
    y, ticks, labels = 0, [], []
    for group in groups:
        first = group[0]
        heading = f"{first.table.key} · {first.table.title}"
        if len(first.table.data) > 1:
            heading += f" ({first.data})"
        style = {"ha": "right", "va": "center", "fontsize": 8, "fontweight": "bold"}
        axis.text(-0.025, y, heading, transform=beside, **style)
        if y:
            axis.axhline(y - 0.5, color="0.9", linewidth=0.6, zorder=0)
        for j in group:
            y += 1
            d, colour = j.difference, colours[j.verdict]
            if j.effect.alike:
                ends = [-j.effect.smallest, j.effect.smallest]
                axis.fill_between(ends, y - 0.4, y + 0.4, color=BLUE, alpha=0.15, linewidth=0)
            axis.plot([max(d.low, left), min(d.high, right)], [y, y], color=colour, linewidth=1.6)
            for edge, beyond, marker in ((left, d.low < left, "<"), (right, d.high > right, ">")):
                if beyond:
                    axis.plot(edge, y, marker, color=colour, markersize=5, clip_on=False)
            if left <= d.mean <= right:
                axis.plot(d.mean, y, "o", color=colour, markersize=5)
            if j.published is not None:
                axis.plot(j.published[0], y, "|", color=BLUE, markersize=9, markeredgewidth=1.8)
            axis.text(1.03, y, interval_text(d), transform=beside, va="center", fontsize=7)
            ticks.append(y)
            labels.append(f"{j.effect}: {j.effect.metric}")
        y += 1
    axis.axvline(0, color="0.3", linewidth=0.8, zorder=0)
    axis.grid(axis="x")
    axis.set_yticks(ticks, labels=labels, fontsize=7.5)
    axis.tick_params(axis="y", length=0, pad=9)
    axis.spines["left"].set_visible(False)
    axis.set(xlabel="difference in AP points, mean and 95 % interval", xlim=(left, right))
    axis.set_ylim(y - 0.3, -0.7)
    for name, colour in colours.items():
        axis.plot([], [], "o-", color=colour, label=name)
    axis.plot([], [], "|", color=BLUE, markersize=9, markeredgewidth=1.8, label="published")
    if any(j.effect.alike for j in judged):
        axis.fill_between([], [], color=BLUE, alpha=0.15, linewidth=0, label="counts as alike")
    figure.legend(loc="outside upper center", ncols=5)
    return figure
