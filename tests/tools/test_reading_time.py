"""How long a chapter takes: counted, stated, and not too long."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tools.notebooks import chapters
from tools.reading_time import LONGEST, STATED, Time, time_of, words

TOO_LONG = {
    "01_pixels_and_boxes.ipynb",  # becomes two
    "05_roi_pooling.ipynb",  # five minutes too long
    "06_gradient_and_speed.ipynb",  # becomes two
}


def test_only_prose_is_counted():
    assert words("Two words") == 2
    assert words("a `b c` and $x + y$ or\n\n$$\nz = 1\n$$\n\nend") == 7
    assert words("see [this page](../a_b/c.md#d) – ![not this](x.svg) **so**.") == 4
    assert words("before\n\n```python\nx = 1\n```\n\n<details>\nfolded away\n</details>\n") == 1
    assert words("| a | b |\n|---|---|\n| c | 4.5 |") == 4


def test_a_chapter_is_counted_outside_of_its_exercises_and_in_them():
    figure = new_output("display_data", data={"text/plain": "<Figure size 1x1 with 1 Axes>"})
    widget = new_output("execute_result", data={"text/plain": "TwoBoxes()"})
    cells = [
        new_markdown_cell("# 01 · What?\n\n" + "word " * 358),
        new_code_cell("a", outputs=[figure, widget]),
        new_markdown_cell("**Predict, then run.** ![a picture](../figures/a.svg)"),
        new_code_cell("b", metadata={"tags": ["predict"]}),
        new_code_cell("assert b", metadata={"tags": ["hide-input"]}),
        new_markdown_cell("Prose.\n\n### Exercise 1.1: write (10 min, ★☆☆)\n\nMuch to read here."),
        new_code_cell("print(1)"),
        new_markdown_cell("More of the exercise."),
        new_code_cell("def f(): …", metadata={"tags": ["exercise"]}),
        new_markdown_cell("<details>\n<summary>Hint</summary>\nNo prose.\n</details>\n\nOn."),
    ]
    found = time_of(new_notebook(cells=cells))
    assert found == Time(360 + 3 + 1 + 1, 2, 3, 1, 1, 10)
    assert found.minutes == 10  # 2.03 + 1.5 + 3 + 2 = 8.53
    assert found.stated == "**Time:** 10 minutes, and 10 more for the one exercises."
    assert Time(360, 4).stated == "**Time:** 5 minutes."  # an appendix


@pytest.mark.parametrize("path", chapters(), ids=lambda p: p.name)
def test_a_chapter_states_its_time(path):
    notebook = nbformat.read(path, as_version=4)
    time = time_of(notebook)
    assert STATED.search(notebook.cells[0].source), time.stated
    assert time.stated in notebook.cells[0].source, f"python -m tools.reading_time --write {path}"
    if path.name in TOO_LONG:
        assert time.minutes > LONGEST, f"{path.name} is short enough: strike it from the list"
    else:
        assert time.minutes <= LONGEST
