"""Build the book: run the notebooks once, stage everything, call Jupyter Book.

`python -m tools.book` (`make book`) writes `book/_build/html`. Every chapter is executed with the
library as it is now, on one thread, two chapters at a time; figures and widgets come from that run.
`--reuse` keeps the runs of chapters whose notebook and library have not changed since, for work on
the pages. A warning of Sphinx fails the build.
"""

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import yaml
from nbclient.exceptions import CellExecutionError

from mrcnn_edu.errors import UserError
from tools import course_table, library_pages
from tools.library_pages import NUMBER, PACKAGE, Chapter
from tools.notebooks import ROOT, chapters, execute, normalise
from tools.vendor import vendor

BOOK = ROOT / "book"
BUILD = BOOK / "_build"
SOURCE = BUILD / "source"
RUNS = BUILD / "runs"
HTML = BUILD / "html"
COURSE = "<!-- course -->"  # in intro.md: the chapters
LINK = re.compile(r"(\]\()\.\./([^)\s#]+)(#[^)\s]*)?(?=[)\s])")
CHAPTER_LINK = re.compile(rf"\[([^\]\[]+)\]\((({NUMBER})_\w+\.ipynb)(?:#[^)]*)?\)")


def chapter_of(path: Path) -> Chapter:
    """The chapter that a notebook is, by its title `# 05 · How do …`.

    Raises:
        UserError: it has no such title.
    """
    first = nbformat.read(path, as_version=4).cells[0].source
    match = re.match(rf"# ({NUMBER}) · (.+)", first)
    if match is None:
        raise UserError(f"{path.name} must begin with a title '# 05 · A question?'")
    return Chapter(match.group(1), match.group(2).strip(), path)


def run_chapter(path: Path, key: str) -> str:
    """Run a notebook and keep it, pictures and widgets included, in `_build/runs`.

    Returns:
        a line that says how long it took.

    Raises:
        UserError: a cell fails.
    """
    notebook = normalise(nbformat.read(path, as_version=4))
    try:
        seconds = execute(notebook, path.parent, widgets=True)
    except CellExecutionError as error:
        raise UserError(f"{path.name}: a cell fails.\n{error}") from error
    RUNS.mkdir(parents=True, exist_ok=True)
    notebook.metadata["run"] = {"key": key}
    nbformat.write(notebook, RUNS / path.name)
    return f"{path.name}: {seconds:.0f} s"


def run_key(path: Path) -> str:
    """What a run of a notebook depends on: itself, the library, results and figures."""
    digest = hashlib.sha256(path.read_bytes())
    for folder in ("mrcnn_edu", "results", "figures"):
        for file in sorted((ROOT / folder).rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                digest.update(file.relative_to(ROOT).as_posix().encode() + file.read_bytes())
    return digest.hexdigest()


def run_chapters(paths: list[Path], reuse: bool) -> None:
    """Run the notebooks, two at a time.

    Raises:
        UserError: a cell fails.
    """
    keys = {path: run_key(path) for path in paths}
    todo = [p for p in paths if not (reuse and _kept_key(RUNS / p.name) == keys[p])]
    with ThreadPoolExecutor(2) as pool:
        for line in pool.map(lambda path: run_chapter(path, keys[path]), todo):
            print(line, flush=True)


def _kept_key(path: Path) -> str | None:
    if not path.exists():
        return None
    return nbformat.read(path, as_version=4).metadata.get("run", {}).get("key")


def rewrite(text: str, linked: set[Path]) -> str:
    """Turn a notebook's links into the repository into links inside the book.

    Library files become their pages; a folder of the library becomes its list; other files are
    copied (they are added to `linked`) and offered for download.

    Raises:
        UserError: there is no such file.
    """

    def replace(match: re.Match) -> str:
        target = ROOT / match.group(2)
        if not target.exists():
            raise UserError(f"a link leads to {match.group(2)}, which does not exist")
        if target.is_relative_to(BOOK):  # its pages lie at the top of the built book
            return f"{match.group(1)}/{target.relative_to(BOOK).as_posix()}"
        if target.is_relative_to(PACKAGE):
            page = "library/index.md" if target.is_dir() else library_pages.page_of(target)
            return f"{match.group(1)}/{page}"
        if target.is_dir():
            raise UserError(f"a link leads to the folder {match.group(2)}: link a file")
        linked.add(target)
        return match.group(0)

    return LINK.sub(replace, text)


def leave_out_unwritten(text: str, course: list[Chapter]) -> str:
    """Turn links to chapters that are not written yet into their text.

    Raises:
        UserError: the chapter is there, under another name.
    """
    written = {c.number: c.path.name for c in course}

    def replace(match: re.Match) -> str:
        number, name = match.group(3), match.group(2)
        parts = [other for n, other in written.items() if n[:2] == number[:2]]
        if number not in written and parts:
            raise UserError(f"a link leads to {name}; the chapter is now {' and '.join(parts)}")
        if number not in written:
            return match.group(1)
        if written[number] != name:
            raise UserError(f"a link leads to {name}; chapter {number} is {written[number]}")
        return match.group(0)

    return CHAPTER_LINK.sub(replace, text)


def stage(course: list[Chapter]) -> None:
    """Write what Jupyter Book reads into `_build/source`.

    Raises:
        UserError: a link leads nowhere.
    """
    shutil.rmtree(SOURCE, ignore_errors=True)
    shutil.copytree(BOOK, SOURCE, ignore=shutil.ignore_patterns("_build", "package.json"))
    vendor(SOURCE / "_assets" / "vendor")
    linked = {*(ROOT / "figures").glob("*.svg"), ROOT / "figures" / "prediction.png"}
    measured = ("cpu.md", "cpu.svg", "calm.md", "calm.svg")
    linked |= {ROOT / "results" / "ablations" / name for name in measured}
    for chapter in course:
        notebook = nbformat.read(RUNS / chapter.path.name, as_version=4)
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                cell.source = rewrite(leave_out_unwritten(cell.source, course), linked)
        _write(SOURCE / "notebooks" / chapter.path.name, nbformat.writes(notebook))
    for path in linked:
        target = SOURCE / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    intro = (BOOK / "intro.md").read_text("utf-8")
    _write(SOURCE / "intro.md", intro.replace(COURSE, course_table.table()))
    files = library_pages.files()
    for path in files:
        _write(SOURCE / library_pages.page_of(path), library_pages.page(path, course))
    _write(SOURCE / "library" / "index.md", library_pages.index_page(files, course))
    _write(SOURCE / "genindex.md", "# Index\n")
    contents = {
        "format": "jb-book",
        "root": "intro",
        "parts": [
            {
                "caption": "The course",
                "chapters": [{"file": f"notebooks/{c.path.stem}"} for c in course],
            },
            {
                "caption": "Beside it",
                "chapters": [
                    {"file": "from_python"},
                    {"file": "notation"},
                    {"file": "differences"},
                    {"file": "measured"},
                    {"file": "ablations"},
                    {"file": "training_on_coco"},
                    {
                        "file": "library/index",
                        "sections": [
                            {"file": library_pages.page_of(p).removesuffix(".md")} for p in files
                        ],
                    },
                    {"file": "bibliography"},
                    {"file": "genindex"},
                ],
            },
        ],
    }
    if not course:
        del contents["parts"][0]
    _write(SOURCE / "_toc.yml", yaml.safe_dump(contents, sort_keys=False))
    config = yaml.safe_load((BOOK / "_config.yml").read_text())
    _write(SOURCE / "_config.yml", yaml.safe_dump(_with_repository(config), sort_keys=False))


def _with_repository(config: dict) -> dict:
    """Add the buttons "open in Colab" and "source" where the course has a home on GitHub.

    `MRCNN_EDU_REPOSITORY=https://github.com/OWNER/NAME` names it: a fork has its own.
    """
    url = os.environ.get("MRCNN_EDU_REPOSITORY")
    if url:
        config["repository"] = {"url": url, "branch": "main", "path_to_book": ""}
        config["launch_buttons"]["colab_url"] = "https://colab.research.google.com"
        config["html"]["use_repository_button"] = True
    return config


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.book", description=__doc__)
    parser.add_argument("--reuse", action="store_true", help="keep runs whose inputs are the same")
    options = parser.parse_args()
    course = [chapter_of(path) for path in chapters()]
    try:
        run_chapters([c.path for c in course], options.reuse)
        stage(course)
    except UserError as error:
        sys.exit(str(error))
    shutil.rmtree(BUILD / "out", ignore_errors=True)  # pages of chapters that are gone
    jupyter_book = [str(Path(sys.executable).with_name("jupyter-book")), "build", str(SOURCE)]
    flags = ["--all", "-W", "-n", "--keep-going", "--quiet", "--path-output", str(BUILD / "out")]
    done = subprocess.run(jupyter_book + flags, check=False)
    if done.returncode:
        sys.exit(done.returncode)
    shutil.rmtree(HTML, ignore_errors=True)
    (BUILD / "out" / "_build" / "html").rename(HTML)
    for chapter in course:  # what the download button gives: the notebook itself
        shutil.copy(chapter.path, HTML / "_sources" / "notebooks")
    print(f"The book: {HTML / 'index.html'}")


if __name__ == "__main__":
    main()
