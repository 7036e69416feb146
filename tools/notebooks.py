"""Run the notebooks and keep them small, stable and comparable.

`python -m tools.notebooks [FILE ...]` normalises the notebooks named (all, if none is named);
`--check` changes nothing and fails if that would change something; `--execute` runs them first
(`make notebooks`). What is committed holds text outputs, which tests compare, small pictures of
figures and widgets for who reads without running (`tools.stored_pictures`), and nothing else
that a run makes: no HTML, no widget, no machine's metadata. A cell that answers a prediction (tag
`predict`) is committed without its output, so that the question comes first, and JupyterLab folds
the output when the reader runs it. Normalising twice is normalising once.
"""

import argparse
import hashlib
import os
import re
import sys
import time
from collections import Counter
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from mrcnn_edu.files import write_atomically
from tools.stored_pictures import keep_what_looks_the_same, small

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "notebooks"
THREADS = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
PREDICT = "predict"  # tag of the cell that shows what the reader was asked to predict
ADDRESS = re.compile(r"\b0x[0-9a-f]{6,}\b")


def chapters() -> list[Path]:
    """The notebooks of the course, in order."""
    return sorted(NOTEBOOKS.glob("*.ipynb"))


def normalise(notebook: NotebookNode) -> NotebookNode:
    """Return a notebook with what readers and tests need, and nothing that changes by itself.

    Text outputs stay, with addresses in memory replaced; of other outputs their text form and their
    picture, made small; of a cell with the tag `predict` nothing, and its output is folded. Code
    cells count from 1. Of the metadata, tags, a folded output and a slide's type stay, of Markdown
    cells the attachments too; the tag `hide-input` of the book folds the cell in JupyterLab as
    well. A cell's id follows from its source, so that it changes only with it.
    """
    cells, seen = [], Counter[str]()
    for old in notebook.cells:
        source = "\n".join(line.rstrip() for line in old.source.strip("\n").split("\n"))
        if not source.strip():
            continue
        cell = NotebookNode(
            cell_type=old.cell_type,
            id=_identity(old.cell_type, source, seen),
            metadata=_metadata(old),
            source=source,
        )
        if old.cell_type == "code":
            cell.execution_count = 1 + sum(c.cell_type == "code" for c in cells)
            kept = [] if PREDICT in cell.metadata.get("tags", []) else old.outputs
            cell.outputs = _outputs(kept, cell.execution_count)
        elif old.get("attachments"):
            cell.attachments = old.attachments
        cells.append(cell)
    metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return nbformat.from_dict(
        {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    )


def write_notebook(path: Path, notebook: NotebookNode) -> None:
    """Store a notebook, normalised."""
    write_atomically(path, _text(normalise(notebook)).encode())


def _text(notebook: NotebookNode) -> str:
    return nbformat.writes(notebook).rstrip("\n") + "\n"


def execute(notebook: NotebookNode, folder: Path, widgets: bool = False) -> float:
    """Run a notebook in place, on one thread, and return the seconds it took.

    Chapters do not see the test data, whose pictures may not be stored or published.

    Args:
        notebook: receives the outputs.
        folder: where its code runs.
        widgets: keep the state of its widgets, for a page that revives them.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell fails.
    """
    from nbclient import NotebookClient

    start = time.perf_counter()
    path = os.pathsep.join(p for p in (str(ROOT), os.environ.get("PYTHONPATH")) if p)
    environment = {name: value for name, value in os.environ.items() if name != "MRCNN_DATA"}
    NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        store_widget_state=widgets,
    ).execute(env={**environment, **THREADS, "PYTHONPATH": path})
    return time.perf_counter() - start


def _metadata(cell: NotebookNode) -> NotebookNode:
    tags = list(cell.metadata.get("tags", []))
    slide = cell.metadata.get("slideshow", {}).get("slide_type")
    folded = PREDICT in tags or cell.metadata.get("jupyter", {}).get("outputs_hidden")
    kept: dict = {"tags": tags} if tags else {}
    if cell.cell_type == "code":
        hidden = {"outputs_hidden": folded, "source_hidden": "hide-input" in tags}
        if any(hidden.values()):
            kept["jupyter"] = {name: True for name, yes in hidden.items() if yes}
    if slide:
        kept["slideshow"] = {"slide_type": slide}
    return nbformat.from_dict(kept)


def _identity(kind: str, source: str, seen: Counter[str]) -> str:
    name = hashlib.sha256(f"{kind}\n{source}".encode()).hexdigest()[:8]
    seen[name] += 1
    return name if seen[name] == 1 else f"{name}-{seen[name]}"


def _outputs(outputs: list[NotebookNode], count: int) -> list[NotebookNode]:
    kept: list[NotebookNode] = []
    for output in outputs:
        kind = output.output_type
        if kind == "stream":
            if kept and kept[-1].output_type == "stream" and kept[-1].name == output.name:
                kept[-1].text += output.text
                continue
            new = {"name": output.name, "text": output.text}
        elif kind == "error":
            new = {"ename": output.ename, "evalue": output.evalue, "traceback": []}
        elif "text/plain" in output.data:
            data = {"text/plain": _stable(output.data["text/plain"])}
            data |= small(output.data)
            new = {"data": data, "metadata": {}}
            if kind == "execute_result":
                new["execution_count"] = count
        else:
            continue
        kept.append(nbformat.from_dict({"output_type": kind, **new}))
    for output in kept:
        if output.output_type == "stream":
            output.text = _stable(output.text)
    return kept


def _stable(text: str) -> str:
    return ADDRESS.sub("0x…", text)


def main() -> None:
    """The command line."""
    from nbclient.exceptions import CellExecutionError

    parser = argparse.ArgumentParser(prog="python -m tools.notebooks", description=__doc__)
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE")
    parser.add_argument("--execute", action="store_true", help="run each notebook first")
    parser.add_argument("--check", action="store_true", help="change nothing, fail if it would")
    options = parser.parse_args()
    stale = []
    for path in options.files or chapters():
        text = path.read_text()
        notebook = nbformat.reads(text, as_version=4)
        before = normalise(notebook)
        if options.execute:
            try:
                seconds = execute(notebook, path.resolve().parent)
            except CellExecutionError as error:
                sys.exit(f"{path.name}: a cell fails; the file is unchanged.\n{error}")
            print(f"{path.name}: {seconds:.0f} s")
        after = normalise(notebook)
        keep_what_looks_the_same(after, before)
        normal = _text(after)
        if normal == text:
            continue
        stale.append(path.name)
        if not options.check:
            write_atomically(path, normal.encode())
            print(f"{path.name}: written")
    if options.check and stale:
        sys.exit(f"not normalised: {', '.join(stale)}. Run python -m tools.notebooks")


if __name__ == "__main__":
    main()
