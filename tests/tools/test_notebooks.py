"""What is committed of a notebook: text and small pictures, the same after every run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import (
    new_code_cell,
    new_markdown_cell,
    new_notebook,
    new_output,
)

from tests.tools.test_stored_pictures import chart, png
from tools.notebooks import ROOT, chapters, execute, normalise
from tools.reading_time import is_drawn
from tools.stored_pictures import LIMIT, picture, small


def messy() -> nbformat.NotebookNode:
    """A notebook as JupyterLab saves it."""
    widget = {
        "text/plain": "Slider(value=3)",
        "application/vnd.jupyter.widget-view+json": {"model_id": "ab12"},
    }
    picture = {"image/png": png(chart()), "text/plain": "<Figure size 640x480 with 1 Axes>"}
    cells = [
        new_markdown_cell("# Title  \n\ntext\n\n", metadata={"jp-MarkdownHeadingCollapsed": True}),
        new_code_cell("   \n"),
        new_code_cell(
            "a = 1  \na",
            execution_count=41,
            metadata={"tags": ["exercise"], "scrolled": True},
            outputs=[
                new_output("stream", name="stdout", text="one\n"),
                new_output("stream", name="stdout", text="<object at 0x7f00aa12bc90>\n"),
                new_output("display_data", data=picture, metadata={"image/png": {"width": 3}}),
                new_output("display_data", data={"text/html": "<b>only HTML</b>"}),
                new_output("execute_result", data=widget, execution_count=41),
            ],
        ),
        new_code_cell("a = 1\na", execution_count=None),
    ]
    notebook = new_notebook(
        cells=cells, metadata={"language_info": {"name": "python", "version": "3"}}
    )
    notebook.metadata["widgets"] = {"application/vnd.jupyter.widget-state+json": {"state": {}}}
    return notebook


def test_text_stays_and_what_a_machine_adds_goes():
    title, first, second = normalise(messy()).cells
    assert title.source == "# Title\n\ntext"
    assert title.metadata == {}
    assert first.metadata == {"tags": ["exercise"]}
    assert [c.execution_count for c in (first, second)] == [1, 2]
    assert [o.output_type for o in first.outputs] == ["stream", "display_data", "execute_result"]
    assert first.outputs[0].text == "one\n<object at 0x…>\n"
    drawn = {"text/plain": "<Figure size 640x480 with 1 Axes>"}
    assert first.outputs[1].data == drawn | small({"image/png": png(chart())})
    assert first.outputs[1].metadata == {}
    assert first.outputs[2].data == {"text/plain": "Slider(value=3)"}
    assert first.outputs[2].execution_count == 1


def test_normalising_twice_is_normalising_once_and_the_result_is_valid():
    once = normalise(messy())
    nbformat.validate(once)
    assert nbformat.writes(normalise(once)) == nbformat.writes(once)
    assert normalise(messy()) == once  # ids included, although new_code_cell draws them by chance


def test_a_prediction_is_committed_without_its_answer_and_folded():
    answer = new_code_cell(
        "print(7)",
        outputs=[new_output("stream", name="stdout", text="7\n")],
        metadata={"tags": ["predict", "hide-output"], "slideshow": {"slide_type": "fragment"}},
    )
    folded = new_code_cell(
        "b = 1", metadata={"jupyter": {"outputs_hidden": True}, "scrolled": True}
    )
    hidden = new_code_cell("assert True", metadata={"tags": ["hide-input"]})
    text = new_markdown_cell("why", metadata={"slideshow": {"slide_type": "notes"}})
    cells = normalise(new_notebook(cells=[answer, folded, hidden, text])).cells
    assert cells[0].outputs == []
    assert cells[0].metadata == {
        "tags": ["predict", "hide-output"],
        "jupyter": {"outputs_hidden": True},
        "slideshow": {"slide_type": "fragment"},
    }
    assert cells[1].metadata == {"jupyter": {"outputs_hidden": True}}
    assert cells[2].metadata == {"tags": ["hide-input"], "jupyter": {"source_hidden": True}}
    assert cells[3].metadata == {"slideshow": {"slide_type": "notes"}}


def test_an_id_changes_only_with_its_cell():
    before = normalise(messy())
    notebook = messy()
    notebook.cells.insert(1, new_code_cell("b = 2"))
    after = normalise(notebook)
    assert {c.id for c in before.cells} < {c.id for c in after.cells}
    assert len({c.id for c in after.cells}) == 4  # two cells with one source have two ids


def test_metadata_names_no_version_and_no_widget():
    metadata = normalise(messy()).metadata
    assert metadata.keys() == {"kernelspec", "language_info"}
    assert metadata.language_info == {"name": "python"}


def test_a_run_is_on_one_thread_in_the_notebooks_folder(tmp_path, monkeypatch):
    (tmp_path / "number.txt").write_text("7")
    monkeypatch.setenv("MRCNN_DATA", str(tmp_path))  # chapters do not see the test data
    code = (
        "import os, mrcnn_edu\nprint(open('number.txt').read(), os.environ['OMP_NUM_THREADS'], "
        "os.environ.get('MRCNN_DATA'))"
    )
    notebook = new_notebook(cells=[new_code_cell(code)])
    assert execute(notebook, tmp_path) > 0
    assert normalise(notebook).cells[0].outputs[0].text == "7 1 None\n"


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "tools.notebooks", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )


def test_check_fails_and_changes_nothing_where_normalising_would(tmp_path):
    path = tmp_path / "a.ipynb"
    nbformat.write(messy(), path)
    before = path.read_text()
    checked = run("--check", str(path))
    assert checked.returncode == 1
    assert "not normalised: a.ipynb" in checked.stderr
    assert path.read_text() == before
    assert run(str(path)).returncode == 0
    assert run("--check", str(path)).returncode == 0


def test_a_failing_cell_leaves_the_file_alone(tmp_path):
    path = tmp_path / "a.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell("1 / 0")]), path)
    before = path.read_text()
    done = run("--execute", str(path))
    assert done.returncode == 1
    assert "a.ipynb: a cell fails" in done.stderr
    assert "ZeroDivisionError" in done.stderr
    assert path.read_text() == before


@pytest.mark.parametrize("path", chapters(), ids=lambda p: p.name)
def test_a_prediction_comes_before_its_answer(path: Path):
    cells = nbformat.read(path, as_version=4).cells
    for i, cell in enumerate(cells):
        if cell.cell_type != "markdown" or not re.search(r"Predict,\s+then\s+run", cell.source):
            continue
        asked = cell.source[-200:]
        assert "**Predict, then run.**" in cell.source, f"write **Predict, then run.** in: {asked}"
        answer, after = [c for c in cells[i + 1 :] if c.cell_type == "code"][:2]
        assert {"predict", "hide-output"} <= set(answer.metadata.get("tags", [])), asked
        assert answer.outputs == [], asked
        assert re.search(r"^\s*assert ", after.source, re.MULTILINE), (
            f"nothing is asserted: {asked}"
        )
    prompts = sum(c.source.count("**Predict, then run.**") for c in cells)
    answers = sum("predict" in c.metadata.get("tags", []) for c in cells)
    assert prompts == answers, "each prediction has one answer"


@pytest.mark.parametrize("path", chapters(), ids=lambda p: p.name)
def test_who_reads_a_chapter_without_running_it_sees_its_pictures(path: Path):
    for cell in nbformat.read(path, as_version=4).cells:
        for output in cell.get("outputs", []):
            found = picture(output.get("data", {}))
            if is_drawn(output):
                assert found, f"run python -m tools.notebooks --execute {path.name}"
            assert len(found or b"") <= LIMIT, cell.source


def test_the_checkout_is_small():
    files = subprocess.run(["git", "ls-files", "-z"], capture_output=True, check=False, cwd=ROOT)
    if files.returncode:
        pytest.skip("not a checkout of git")
    paths = [ROOT / name for name in files.stdout.decode().split("\0") if name]
    assert sum(path.stat().st_size for path in paths if path.is_file()) < 25e6


def test_a_picture_is_written_again_only_where_it_looks_different(tmp_path):
    path = tmp_path / "a.ipynb"
    code = (
        "import os\nimport matplotlib.pyplot as plt\n"
        "plt.plot([0, float(os.environ['END'])])\nplt.show()"
    )
    nbformat.write(new_notebook(cells=[new_code_cell(code)]), path)

    def stored_after_a_run(end: str) -> bytes:
        done = run("--execute", str(path), END=end)
        assert done.returncode == 0, done.stderr
        return picture(nbformat.read(path, as_version=4).cells[0].outputs[0].data)

    first = stored_after_a_run("1")
    assert stored_after_a_run("1.00001") == first
    assert stored_after_a_run("2") != first


@pytest.mark.parametrize("path", chapters(), ids=lambda p: p.name)
def test_chapters_are_normalised(path: Path):
    text = path.read_text()
    normal = nbformat.writes(normalise(nbformat.reads(text, as_version=4))).rstrip("\n") + "\n"
    assert text == normal, "run `python -m tools.notebooks`"


def nbval(path: Path) -> subprocess.CompletedProcess:
    command = (
        f"{sys.executable} -m pytest -q --nbval --nbval-current-env -p tools.nbval_chapters "
        f"--nbval-sanitize-with tools/nbval_sanitise.cfg -p no:cacheprovider {path}"
    )
    return subprocess.run(command.split(), capture_output=True, text=True, check=False, cwd=ROOT)


def test_nbval_passes_what_was_just_run_and_fails_a_changed_output(tmp_path):
    code = [
        "print(object())",
        "from IPython.display import HTML, Markdown, display\ndisplay(Markdown('*a*'))\nHTML('b')",
        "1 + 1",
        "print('the answer')",
    ]
    notebook = new_notebook(cells=[new_code_cell(c) for c in code])
    notebook.cells[3].metadata["tags"] = ["predict"]  # stored without output: runs, uncompared
    execute(notebook, tmp_path)
    path = tmp_path / "a.ipynb"
    nbformat.write(normalise(notebook), path)
    right = nbval(path)
    assert right.returncode == 0, right.stdout
    assert "seconds a chapter" in right.stdout
    path.write_text(path.read_text().replace('"2"', '"3"'))
    wrong = nbval(path)
    assert wrong.returncode == 1
    assert "1 failed, 3 passed" in wrong.stdout
