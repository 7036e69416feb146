"""The exercises of the notebooks, as a reader meets them: stub, check, folded solution.

An exercise is a code cell that ends in ``check_something(answer)``. Its solution is the Python
fence, in a later markdown cell under a ``<summary>`` that begins with ``Solution``, that defines
``answer``. The fence imports what it needs beyond torch, numpy and math: what a reader unfolds is
what is tested.
"""

import importlib
import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
FENCE = re.compile(
    r"<summary>(?:<[^>]+>)?Solution.*?</summary>.*?```python\n(.*?)```.*?</details>", re.DOTALL
)


@dataclass(frozen=True)
class Exercise:
    """One exercise of one notebook."""

    chapter: str  # "05"
    check_name: str
    answer_name: str
    stub: str  # the cell's source
    solution: str  # the fence's source, empty if there is none

    @property
    def check(self) -> Callable:
        """The check itself."""
        return getattr(
            importlib.import_module(f"mrcnn_edu.checks.ch{self.chapter}"), self.check_name
        )

    def solve(self) -> Callable:
        """The function that the folded solution defines."""
        names: dict = {"torch": torch, "np": np, "math": math}
        exec(compile(self.solution, f"solution of {self.check_name}", "exec"), names)
        return names[self.answer_name]


def exercises() -> list[Exercise]:
    """All exercises, in order."""
    found = []
    for path in sorted(NOTEBOOKS.glob("[0-9A-Z][0-9_]*.ipynb")):
        cells = json.loads(path.read_text())["cells"]
        sources = [("".join(cell["source"]), cell["cell_type"]) for cell in cells]
        solutions = [
            fence for text, kind in sources if kind == "markdown" for fence in FENCE.findall(text)
        ]
        for text, kind in sources:
            call = re.search(r"^(check_\w+)\((\w+)\)\s*$", text, re.MULTILINE)
            if kind != "code" or call is None:
                continue
            answer = call.group(2)
            solution = next((s for s in solutions if re.search(rf"^def {answer}\(", s, re.M)), "")
            found.append(Exercise(path.name.split("_")[0], call.group(1), answer, text, solution))
    return found
