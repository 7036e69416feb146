"""How long a chapter takes to read: `python -m tools.reading_time [FILE ...]`.

180 words of prose a minute, three quarters of a minute for a code cell, one for a figure or widget,
two for a prediction. Code, folded answers, hints and solutions are no prose, and exercises count
apart, by the minutes that they state. Every chapter states both under **Time:**; `--write`
states them.
"""

import argparse
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import nbformat

from tools.notebooks import chapters, write_notebook

WORDS, CODE, FIGURE, PREDICTION = 180, 0.75, 1.0, 2.0  # words a minute; minutes
LONGEST = 50  # minutes of a chapter
EXERCISE = re.compile(r"^#+ Exercise (?:\d+[a-z]?|[AB])\.\d+\b", re.MULTILINE)
STATED = re.compile(r"\*\*Time:\*\* (\d+) minutes(?:, and (\d+) more for the (\w+) exercises)?\.")
COUNTS = ["no", "one", "two", "three", "four", "five", "six", "seven"]
NO_PROSE = re.compile(
    r"```.*?```|<details>.*?</details>|<!--.*?-->|!\[.*?\]\([^)]*\)|^\s*\|[-| :]+\|\s*$",
    re.DOTALL | re.MULTILINE,
)


@dataclass
class Time:
    """What a chapter asks of its reader."""

    words: int = 0
    cells: int = 0
    figures: int = 0
    predictions: int = 0
    exercises: int = 0
    exercise_minutes: int = 0

    @property
    def minutes(self) -> int:
        """Minutes without the exercises, rounded to five."""
        exact = self.words / WORDS + CODE * self.cells + FIGURE * self.figures
        return 5 * round((exact + PREDICTION * self.predictions) / 5)

    @property
    def stated(self) -> str:
        """The line of a chapter's first cell."""
        if not self.exercises:  # an appendix
            return f"**Time:** {self.minutes} minutes."
        return (
            f"**Time:** {self.minutes} minutes, and {self.exercise_minutes} more for the "
            f"{COUNTS[self.exercises]} exercises."
        )


def time_of(notebook: nbformat.NotebookNode) -> Time:
    """Count what a chapter holds, outside of its exercises and in them."""
    time, in_exercise = Time(), False
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if cell.cell_type == "markdown":
            before, *exercises = EXERCISE.split(cell.source)
            for text in exercises:
                time.exercises += 1
                stated = re.search(r"\b(\d+) min", text)
                time.exercise_minutes += int(stated[1]) if stated else 0
            prose = "" if in_exercise else before
            in_exercise = in_exercise or before != cell.source
            time.words += words(prose)
            time.figures += len(re.findall(r"!\[.*?\]\(", prose, re.DOTALL))
            time.predictions += prose.count("**Predict, then run.**")
        elif in_exercise:
            in_exercise = "exercise" not in tags  # it ends with the cell of the answer
        elif "hide-input" not in tags:
            time.cells += 1
            time.figures += sum(map(is_drawn, cell.outputs))
        else:
            time.figures += sum(map(is_drawn, cell.outputs))
    return time


def words(markdown: str) -> int:
    """Words of prose; a formula and a piece of code in a line count as one each."""
    text = NO_PROSE.sub(" ", markdown)
    text = re.sub(r"\]\([^)]*\)", "] ", text)  # the target of a link
    text = re.sub(r"\$\$.*?\$\$|\$[^$]*\$|`[^`]*`", " x ", text, flags=re.DOTALL)
    text = re.sub(r"<[^>]+>", " ", text)
    return sum(bool(re.search(r"\w", word)) for word in text.split())


def is_drawn(output: nbformat.NotebookNode) -> bool:
    """Whether an output of a cell is a figure or a widget."""
    text = output.get("data", {}).get("text/plain", "")
    return text.startswith("<Figure") or re.fullmatch(r"[A-Z]\w+\(\)", text) is not None


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.reading_time", description=__doc__)
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE")
    parser.add_argument("--write", action="store_true", help="state the times in the chapters")
    options = parser.parse_args()
    print(f"{'chapter':34} words cells figures predictions minutes  exercises")
    for path in options.files or chapters():
        notebook = nbformat.read(path, as_version=4)
        time = time_of(notebook)
        long = f"  more than {LONGEST}" if time.minutes > LONGEST else ""
        print(
            f"{path.stem:34} {time.words:5} {time.cells:5} {time.figures:7} {time.predictions:11} "
            f"{time.minutes:7}  {time.exercises} in {time.exercise_minutes} minutes{long}"
        )
        first = notebook.cells[0]
        if options.write and time.stated not in first.source:
            stated = re.sub(r"\*\*Time:\*\*.*?(?=\n\n|\Z)", time.stated, first.source, flags=re.S)
            if stated == first.source:
                sys.exit(f"{path.name}: the first cell has no line **Time:**")
            first.source = stated
            write_notebook(path, notebook)


if __name__ == "__main__":
    main()
