"""Times callables side by side: one run, one machine state, medians and ratios.

In: named callables. Out: seconds per call. Machines are shared and their speed drifts by
almost a factor of two, so absolute times of different runs cannot be compared. Calls are
therefore interleaved, A B A B ..., and only ratios of medians of the same run are reported.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping


def interleave(
    callables: Mapping[str, Callable[[], object]], repeats: int = 15, warmup: int = 2
) -> dict[str, list[float]]:
    """Time each callable `repeats` times in turn; return the seconds of every call by name.

    `warmup` calls of each come first and are not counted: they compile Numba kernels and
    fill caches. The order is reversed every second round, so that no callable always runs
    behind the same neighbour. On a GPU the callable itself must synchronise.
    """
    names = list(callables)
    for _ in range(warmup):
        for name in names:
            callables[name]()
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for r in range(repeats):
        for name in names if r % 2 == 0 else reversed(names):
            start = time.perf_counter()
            callables[name]()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def medians(seconds: Mapping[str, list[float]]) -> dict[str, float]:
    """Median seconds per call of each name."""
    return {name: statistics.median(values) for name, values in seconds.items()}


def ratio(seconds: Mapping[str, list[float]], reference: str, ours: str) -> float:
    """How many times faster `ours` is than `reference`: the quotient of their medians."""
    return statistics.median(seconds[reference]) / statistics.median(seconds[ours])


def table(title: str, rows: list[dict[str, object]]) -> str:
    """Rows of equal keys as an aligned text table; floats with three significant digits."""
    if not rows:
        return title
    cells = [list(rows[0])]
    cells += [[f"{v:.3g}" if isinstance(v, float) else str(v) for v in r.values()] for r in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    lines = ["  ".join(c.rjust(w) for c, w in zip(row, widths, strict=True)) for row in cells]
    return "\n".join([title, *lines])
