"""The library's pages of the book: each module's source in pieces, linked with the chapters.

A module becomes one Markdown page. Each public function or class has a heading, so that the page's
contents list them, an entry in the index, and links to the chapters its docstring names.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tools.notebooks import ROOT

PACKAGE = ROOT / "mrcnn_edu"
NUMBER = r"(?:\d\d[a-z]?|[AB])"  # of a chapter: 05, a part of one: 06b, an appendix: A
CHAPTERS = re.compile(rf"\bChapters? ({NUMBER}\b(?:(?:, | and | to ){NUMBER}\b)*)")
SUFFIXES = (".py", ".js", ".css", ".mplstyle")


@dataclass(frozen=True)
class Chapter:
    """A notebook that is in the book."""

    number: str  # "05"
    title: str  # "How do you crop features without moving them?"
    path: Path

    @property
    def link(self) -> str:
        """A Markdown link from the book's root."""
        return f"[{self.number} · {self.title}](/notebooks/{self.path.name})"


@dataclass(frozen=True)
class Piece:
    """A stretch of source under one heading."""

    name: str  # of the public function or class it begins with; "" for the module's head
    first_line: int
    text: str
    docstring: str


def files() -> list[Path]:
    """What gets a page: modules, and the scripts and styles beside them."""
    return sorted(p for s in SUFFIXES for p in PACKAGE.rglob(f"*{s}") if p.stat().st_size)


def page_of(path: Path) -> str:
    """The page of a library file, from the book's root: `library/roi/reference.py.md`."""
    return f"library/{path.relative_to(PACKAGE).as_posix()}.md"


def numbers(text: str) -> list[str]:
    """The chapters a docstring names: "Chapters 05 to 07" gives 05, 06, 07."""
    found: list[str] = []
    for match in CHAPTERS.finditer(" ".join(text.split())):
        parts = re.split(r"(, | and | to )", match.group(1))
        found.append(parts[0])
        for joint, number in zip(parts[1::2], parts[2::2], strict=True):
            if joint == " to ":
                found += [f"{n:02}" for n in range(int(found[-1][:2]) + 1, int(number[:2]))]
            found.append(number)
    return sorted(set(found))


def pieces(source: str) -> Iterator[Piece]:
    """Cut a module before each public function and class, comments and decorators included."""
    tree = ast.parse(source)
    lines = source.splitlines()
    starts: list[tuple[int, str, str]] = [(1, "", ast.get_docstring(tree) or "")]
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            start = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            while lines[start - 2].startswith("#"):
                start -= 1
            starts.append((start, node.name, ast.get_docstring(node) or ""))
    ends = [start for start, _, _ in starts[1:]] + [len(lines) + 1]
    for (start, name, docstring), end in zip(starts, ends, strict=True):
        text = "\n".join(lines[start - 1 : end - 1]).rstrip()
        yield Piece(name, start, text, docstring)


def page(path: Path, chapters: list[Chapter]) -> str:
    """The Markdown of a library file's page."""
    relative = path.relative_to(PACKAGE).as_posix()
    source = path.read_text("utf-8")
    escaped = relative.replace("_", "\\_")
    out = [f"# {escaped}", ""]
    if path.suffix != ".py":
        language = {".js": "javascript", ".css": "css"}.get(path.suffix, "text")
        return "\n".join([*out, *_code(source.rstrip(), 1, language)])
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    used = [c for c in chapters if _imports(c.path, module)]
    if used:
        out += ["Chapters that import it: " + ", ".join(c.link for c in used) + ".", ""]
    for piece in pieces(source):
        if piece.name:
            # Sphinx does not tell Processes from processes.
            kind = "class." if piece.text.find(f"class {piece.name}") >= 0 else ""
            out += [f"({kind}{module}.{piece.name})=", f"## `{piece.name}`", ""]
            out += ["```{index} " + f"{piece.name} ({module})", "```", ""]
        out += _explained(numbers(piece.docstring), chapters)
        out += _code(piece.text, piece.first_line, "python")
    return "\n".join(out)


def index_page(paths: list[Path], chapters: list[Chapter]) -> str:
    """The page that lists the library's files with the first line of each."""
    out = [
        "# The library",
        "",
        "The whole source of `mrcnn_edu`, a page a file. Modules import downwards only, and each "
        "public docstring names the chapter that explains it.",
        "",
        "| file | what it is for | chapters |",
        "|---|---|---|",
    ]
    for path in paths:
        relative = path.relative_to(PACKAGE).as_posix()
        first, named = "", []
        if path.suffix == ".py":
            docstring = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
            first = docstring.split("\n")[0].replace("|", "\\|")
            named = numbers(docstring)
        links = [
            f"[{part.number}](/notebooks/{part.path.name})" if isinstance(part, Chapter) else part
            for n in named
            for part in _parts(n, chapters)
        ]
        out.append(f"| [`{relative}`](/{page_of(path)}) | {first} | {', '.join(links)} |")
    return "\n".join(out) + "\n"


def _parts(number: str, chapters: list[Chapter]) -> list[Chapter | str]:
    """The chapter with a number, or its parts 01a and 01b; the number where it is not written."""
    found = [c for c in chapters if c.number == number]
    return [*(found or (c for c in chapters if c.number[:-1] == number))] or [number]


def _explained(named: list[str], chapters: list[Chapter]) -> list[str]:
    links = [
        part.link if isinstance(part, Chapter) else f"chapter {part}"
        for n in named
        for part in _parts(n, chapters)
    ]
    return [f"> Explained in {', '.join(links)}.", ""] if links else []


def _code(text: str, first_line: int, language: str) -> list[str]:
    fence = "`" * max(3, 1 + max((len(m) for m in re.findall("`+", text)), default=0))
    head = [f"{fence}{{code-block}} {language}", f":lineno-start: {first_line}", ""]
    return [*head, text, fence, ""] if text.strip() else []


def _imports(notebook: Path, module: str) -> bool:
    """Whether a notebook imports a module, or something of it."""
    parent, _, name = module.rpartition(".")
    text = notebook.read_text("utf-8")
    patterns = [rf"from {re.escape(module)} import", rf"import {re.escape(module)}\b"]
    if parent:
        patterns.append(rf"from {re.escape(parent)} import [^\"\\]*\b{re.escape(name)}\b")
    return any(re.search(p, text) for p in patterns)
