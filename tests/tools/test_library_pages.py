"""The library's pages: no line of the source is lost; chapters are found where they are named."""

import ast
import re

import pytest

from tools.library_pages import PACKAGE, Chapter, files, index_page, numbers, page, page_of, pieces


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("Chapter 05.", ["05"]),
        ("Chapters 05 to 07 and 10; Chapter A.", ["05", "06", "07", "10", "A"]),
        ("Chapters 01, 04 and 08.", ["01", "04", "08"]),
        ("Chapters 01b to 03, 06a and 06b.", ["01b", "02", "03", "06a", "06b"]),
        ("A chapter, chapter 05, Chapter Five: none.", []),
    ],
)
def test_chapters_that_a_docstring_names(text, want):
    assert numbers(text) == want


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: p.name)
def test_the_pieces_of_a_module_are_the_module(path):
    source = path.read_text()
    cut = list(pieces(source))
    lines = source.splitlines()
    for piece in cut:
        own = piece.text.splitlines()
        assert lines[piece.first_line - 1 : piece.first_line - 1 + len(own)] == own
    assert sum(len(p.text.split()) for p in cut) == len(source.split())
    public = [
        n.name
        for n in ast.parse(source).body
        if isinstance(n, ast.FunctionDef | ast.ClassDef) and not n.name.startswith("_")
    ]
    assert [p.name for p in cut if p.name] == public


def test_decorators_and_comments_belong_to_what_follows():
    source = '"""Doc."""\n\nX = 1\n\n\n# Why.\n@thing\ndef f():\n    """Chapter 03."""\n'
    head, f = pieces(source)
    assert (head.text, head.first_line) == ('"""Doc."""\n\nX = 1', 1)
    assert f.first_line == 6
    assert f.text.startswith("# Why.\n@thing\ndef f")
    assert f.docstring == "Chapter 03."


def test_a_page_links_the_chapters_there_are_and_names_the_others(tmp_path):
    notebook = tmp_path / "01_boxes.ipynb"
    notebook.write_text('"from mrcnn_edu import boxes, masks\\n"')
    chapter = Chapter("01", "What is a box?", notebook)
    text = page(PACKAGE / "boxes.py", [chapter])
    link = "[01 · What is a box?](/notebooks/01_boxes.ipynb)"
    assert f"Chapters that import it: {link}." in text
    assert f"> Explained in {link}" in text
    assert "(mrcnn_edu.boxes.iou)=\n## `iou`" in text
    assert "> Explained in chapter 03" in page(PACKAGE / "anchors.py", [chapter])
    assert "import it" not in page(PACKAGE / "anchors.py", [chapter])


def test_a_chapter_of_two_parts_is_both(tmp_path):
    parts = [Chapter(n, f"Part {n}?", tmp_path / f"{n}_x.ipynb") for n in ("01a", "01b")]
    for part in parts:
        part.path.write_text("{}")
    text = page(PACKAGE / "boxes.py", parts)
    assert f"> Explained in {parts[0].link}, {parts[1].link}" in text
    assert "[01a](/notebooks/01a_x.ipynb), [01b](/notebooks/01b_x.ipynb)" in index_page(
        [PACKAGE / "boxes.py"], parts
    )


def test_the_list_has_every_file():
    text = index_page(files(), [])
    for path in files():
        assert f"(/{page_of(path)})" in text
    assert not re.search(r"\| *\| *\|$", text.split("anchors.py")[1].split("\n")[0])
