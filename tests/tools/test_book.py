"""The book's staging: links of notebooks lead into the book, and dead ones stop the build."""

import re

import nbformat
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from mrcnn_edu.errors import UserError
from tools import book, course_table
from tools.notebooks import ROOT, chapters


def test_links_to_the_library_lead_to_its_pages_and_others_to_a_copy():
    linked = set()
    text = (
        "[a](../mrcnn_edu/boxes.py), [b](../mrcnn_edu/roi/ops.py#L3), [c](../mrcnn_edu/roi), "
        '[d](../CITATION.cff), [e](06_next.ipynb#x), [f](https://a.b/../c), ![g](../LICENSE "t")'
    )
    assert book.rewrite(text, linked) == (
        "[a](/library/boxes.py.md), [b](/library/roi/ops.py.md), [c](/library/index.md), "
        '[d](../CITATION.cff), [e](06_next.ipynb#x), [f](https://a.b/../c), ![g](../LICENSE "t")'
    )
    assert linked == {ROOT / "CITATION.cff", ROOT / "LICENSE"}


@pytest.mark.parametrize("target", ["../mrcnn_edu/no_such.py", "../results", "../figures/no.svg"])
def test_links_that_lead_nowhere_are_refused(target):
    with pytest.raises(UserError, match="a link leads to"):
        book.rewrite(f"[a]({target})", set())


def test_links_to_chapters_that_are_not_written_yet_are_text(tmp_path):
    course = [book.chapter_of(notebook(tmp_path))]
    text = "[five](05_a.ipynb#x), [chapter `06`](06_b.ipynb), **On:** [07 · GPU?](07_c.ipynb#y)"
    want = "[five](05_a.ipynb#x), chapter `06`, **On:** 07 · GPU?"
    assert book.leave_out_unwritten(text, course) == want
    with pytest.raises(UserError, match=r"leads to 05_other.ipynb; chapter 05 is 05_a.ipynb"):
        book.leave_out_unwritten("[five](05_other.ipynb)", course)


def test_a_chapter_may_have_two_parts(tmp_path):
    parts = []
    for number in ("06a", "06b"):
        path = tmp_path / f"{number}_x.ipynb"
        cells = [new_markdown_cell(f"# {number} · A question?")]
        nbformat.write(new_notebook(cells=cells), path)
        parts.append(book.chapter_of(path))
    assert [p.number for p in parts] == ["06a", "06b"]
    text = "[six](06a_x.ipynb) and [`seven`](07_c.ipynb)"
    assert book.leave_out_unwritten(text, parts) == "[six](06a_x.ipynb) and `seven`"
    with pytest.raises(UserError, match=r"06_x.ipynb; the chapter is now 06a_x.ipynb and 06b"):
        book.leave_out_unwritten("[six](06_x.ipynb)", parts)


def notebook(tmp_path, title="# 05 · A question?", code="1"):
    path = tmp_path / "05_a.ipynb"
    cells = [new_markdown_cell(title), new_code_cell(code)]
    nbformat.write(new_notebook(cells=cells), path)
    return path


def test_a_chapter_is_known_by_its_title(tmp_path):
    chapter = book.chapter_of(notebook(tmp_path))
    assert (chapter.number, chapter.title) == ("05", "A question?")
    with pytest.raises(UserError, match="must begin with a title"):
        book.chapter_of(notebook(tmp_path, title="# Chapter five"))


@pytest.mark.parametrize("path", chapters(), ids=lambda p: p.name)
def test_chapters_are_numbered_as_their_files_and_their_links_lead_somewhere(path):
    assert book.chapter_of(path).number == path.name.split("_")[0]
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown":
            book.rewrite(cell.source, set())


def test_the_readme_links_every_chapter_by_its_question():
    readme = (ROOT / "README.md").read_text()
    for path in chapters():
        chapter = book.chapter_of(path)
        assert f"| [{chapter.number}](notebooks/{path.name}) | {chapter.title} |" in readme
    assert readme == course_table.with_table(readme), "run python -m tools.course_table"
    for target in re.findall(r"\]\(((?:notebooks|figures)/[^)]+)\)", readme):
        assert (ROOT / target).exists(), target


def test_a_run_is_kept_until_its_notebook_changes(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(book, "RUNS", tmp_path / "runs")
    path = notebook(tmp_path)
    for reuse, ran in ((True, True), (True, False), (False, True)):
        book.run_chapters([path], reuse)
        assert ("05_a.ipynb" in capsys.readouterr().out) == ran
    path = notebook(tmp_path, code="2")
    book.run_chapters([path], reuse=True)
    kept = nbformat.read(tmp_path / "runs" / path.name, as_version=4)
    assert kept.cells[1].outputs[0].data["text/plain"] == "2"
    with pytest.raises(UserError, match=r"05_a.ipynb: a cell fails"):
        book.run_chapters([notebook(tmp_path, code="1 / 0")], reuse=True)


def test_the_colab_button_needs_a_repository(monkeypatch):
    config = yaml.safe_load((ROOT / "book" / "_config.yml").read_text())
    monkeypatch.delenv("MRCNN_EDU_REPOSITORY", raising=False)
    assert "repository" not in book._with_repository(config)
    monkeypatch.setenv("MRCNN_EDU_REPOSITORY", "https://github.com/someone/fork")
    config = book._with_repository(config)
    assert config["repository"]["url"] == "https://github.com/someone/fork"
    assert config["launch_buttons"]["colab_url"].endswith("colab.research.google.com")
