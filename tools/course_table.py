"""The chapters in one table: their questions and how long they take, written into README.md.

    python -m tools.course_table

A chapter's title and its line **Time:** are the source. A test holds README.md to them.
"""

import re
from pathlib import Path

import nbformat

from tools.notebooks import ROOT, chapters

README = ROOT / "README.md"
BEGIN, END = "<!-- course: begin -->", "<!-- course: end -->"
TIME = re.compile(r"\*\*Time:\*\* (\d+) minutes(?:, and (\d+) more)?")


def row(path: Path) -> str:
    """A chapter's line: number, question, minutes of reading and of exercises.

    Raises:
        ValueError: its first cell has no title or no time of the form that chapters have.
    """
    first = nbformat.read(path, as_version=4).cells[0].source
    title = re.match(r"# (\d\d[a-z]?|[AB]) · (.+)", first)
    time = TIME.search(first)
    if title is None or time is None:
        raise ValueError(f"{path.name} begins with no title, or with no **Time:** in minutes")
    number, question = title.groups()
    minutes = " + ".join(filter(None, time.groups()))  # an appendix has no exercises
    return f"| [{number}](notebooks/{path.name}) | {question.strip()} | {minutes} |"


def table() -> str:
    """All chapters, in order."""
    lines = ["| | question | minutes: reading + exercises |", "|---|---|--:|"]
    return "\n".join(
        [*lines, *(row(path) for path in chapters() if path.stem[0] in "0123456789AB")]
    )


def with_table(text: str) -> str:
    """README's text with the table of today between its two markers."""
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


if __name__ == "__main__":
    README.write_text(with_table(README.read_text("utf-8")), "utf-8")
