"""The exercises of the notebooks, as a reader meets them: stub, check, folded solution.

An exercise is a code cell that ends in `check_something(answer)`. Its solution is the Python
fence, in a later markdown cell under a `<summary>` that begins with `Solution`, that defines
`answer`. It runs where a reader would paste it: after the imports and definitions of the cells
before it and the solutions of the exercises before it, with nothing else at hand.
"""

import ast
import functools
import importlib
import json
import linecache
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mrcnn_edu.checks.common import Check

ROOT = Path(__file__).resolve().parents[2]
CHAPTER = re.compile(r"(\d\d[a-z]?|[AB])_\w+\.ipynb")
FENCE = re.compile(
    r"<summary>(?:<[^>]+>)?Solution.*?</summary>.*?```python\n(.*?)```.*?</details>", re.DOTALL
)
CALL = re.compile(r"^(check_\w+)\((\w+)\)\s*$", re.MULTILINE)
IMPORT = re.compile(r"^from (mrcnn_edu\.checks\.ch\w+) import", re.MULTILINE)


@dataclass(frozen=True)
class Exercise:
    """One exercise of one notebook."""

    notebook: Path
    number: str  # "5.2", as titled
    cell: int  # of the stub
    module: str  # where its check is: "mrcnn_edu.checks.ch05"
    check_name: str
    answer_name: str
    stub: str  # the cell's source
    solution: str  # the fence's source, empty if there is none

    @property
    def check(self) -> Check:
        """The check itself."""
        return getattr(importlib.import_module(self.module), self.check_name)

    def solve(self, source: str | None = None) -> Callable:
        """The answer that the folded solution, or another source, defines."""
        name = f"<solution {self.number}>"
        source = self.solution if source is None else source
        linecache.cache[name] = (len(source), None, source.splitlines(True), name)
        names = dict(_names_before(self.notebook, self.cell))
        exec(compile(source, name, "exec"), names)
        return names[self.answer_name]


@functools.cache
def exercises() -> list[Exercise]:
    """All exercises, in order."""
    found = []
    for path in notebooks():
        cells = cells_of(path)
        fences = [f for kind, text in cells if kind == "markdown" for f in FENCE.findall(text)]
        number = ""
        for i, (kind, text) in enumerate(cells):
            if kind == "markdown":
                titles = re.findall(r"Exercise ((?:\d+[a-z]?|[AB])\.\d+)", text)
                number = titles[-1] if titles else number
                continue
            call, module = CALL.search(text), IMPORT.search(text)
            if call is None or module is None:
                continue
            check, answer = call.groups()
            solution = next(
                (f for f in fences if re.search(rf"^(def|class) {answer}\b", f, re.M)), ""
            )
            found.append(Exercise(path, number, i, module[1], check, answer, text, solution))
    return found


def notebooks() -> list[Path]:
    """The chapters, in order."""
    paths = sorted((ROOT / "notebooks").glob("*.ipynb"))
    return [path for path in paths if CHAPTER.fullmatch(path.name)]


@functools.cache
def cells_of(notebook: Path) -> list[tuple[str, str]]:
    """Kind and source of each cell."""
    cells = json.loads(notebook.read_text("utf-8"))["cells"]
    return [(cell["cell_type"], "".join(cell["source"])) for cell in cells]


@functools.cache
def _names_before(notebook: Path, cell: int) -> dict:
    """What the cells before one import and define, and earlier exercises' solutions."""
    solutions = {e.cell: e.solution for e in exercises() if e.notebook == notebook}
    names: dict = {"__name__": "chapter"}
    for i, (kind, text) in enumerate(cells_of(notebook)[:cell]):
        if kind == "code":
            source = _definitions(solutions.get(i, text))
            exec(compile(source, f"<{notebook.name}, cell {i}>", "exec"), names)
    return names


def _definitions(text: str) -> ast.Module:
    """The imports, functions, classes and plain constants of a cell: what costs no time."""
    kept = [node for node in ast.parse(text).body if _is_definition(node)]
    return ast.Module(body=kept, type_ignores=[])


def _is_definition(node: ast.stmt) -> bool:
    if not isinstance(node, ast.Assign):
        return isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef)
    value = [n for n in ast.walk(node.value) if not isinstance(n, ast.expr_context)]
    plain = ast.Constant | ast.Tuple | ast.List | ast.Dict | ast.UnaryOp | ast.unaryop
    return isinstance(node.targets[0], ast.Name) and all(isinstance(n, plain) for n in value)
