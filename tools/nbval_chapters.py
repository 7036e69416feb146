"""A pytest plugin for `pytest --nbval notebooks`: one thread, text compared, seconds a chapter.

nbval compares every output; here only text and small pictures are stored (`tools.notebooks`),
and all but text is left out of the comparison. A cell with the tag `predict`, stored without its
output, runs uncompared: the cell after it asserts its values. The report at the end holds the
chapters' budget: 60 s each.
"""

import os
from collections import Counter
from pathlib import Path

from tools.notebooks import PREDICT, THREADS

BUDGET = 60  # seconds of a chapter on one thread with the kernel cache warm
NOT_STORED = (
    "text/html",
    "text/markdown",
    "text/latex",
    "image/svg+xml",
    "application/javascript",
    "application/json",
    "application/pdf",
)


def pytest_configure(config):
    """Kernels inherit the environment: one thread each, this checkout's library, no test data."""
    os.environ.pop("MRCNN_DATA", None)
    root = str(Path(__file__).resolve().parent.parent)
    paths = [root, *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    os.environ.update(THREADS, PYTHONPATH=os.pathsep.join(dict.fromkeys(p for p in paths if p)))


def pytest_collectstart(collector):
    """Leave out of the comparison what is not stored."""
    if getattr(collector, "skip_compare", None):
        collector.skip_compare += NOT_STORED


def pytest_collection_modifyitems(items):
    """Run the cells that answer predictions without comparing what they print."""
    for item in items:
        cell = getattr(item, "cell", None)
        if cell is not None and PREDICT in cell.metadata.get("tags", []):
            item.options["check"] = False


def pytest_terminal_summary(terminalreporter):
    """Print the seconds of each chapter."""
    seconds = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            name = Path(getattr(report, "location", ("",))[0]).name
            if name.endswith(".ipynb"):
                seconds[name] += report.duration
    if not seconds:
        return
    terminalreporter.section("seconds a chapter")
    for name, total in sorted(seconds.items()):
        over = f"  more than the budget of {BUDGET}" if total > BUDGET else ""
        terminalreporter.line(f"{total:6.1f}  {name}{over}")
    terminalreporter.line(f"{sum(seconds.values()):6.1f}  all")
