"""What the commands print: text as it is, never markup, never a control character.

Class names and file names come from strangers. rich would read `[/cap]` as markup, a terminal would
obey an escape sequence, and a stream that is not UTF-8 would end in a traceback. All that a command
says goes through here. Chapter 13.
"""

import sys
import unicodedata
from typing import TextIO

from rich.console import Console
from rich.table import Table

_DIRECTIONS = frozenset(map(chr, (0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))))


def say(text: str, *, error: bool = False) -> None:
    """Print a text that may hold anything, as it is; to the standard error if it is an error."""
    stream = sys.stderr if error else sys.stdout
    print(visible(text), file=stream, flush=True)


def show(table: Table) -> None:
    """Print a table of the library's own words and numbers."""
    Console().print(table)


def visible(text: str) -> str:
    """The text with its control characters written out, except new lines and tabs: ESC as \\x1b.

    So are the marks that turn the direction of writing round, and halves of surrogate pairs, which
    file names have that are not UTF-8.
    """
    if text.isprintable():
        return text
    return "".join(
        c if c in "\n\t" or not _obeyed(c) else c.encode("unicode_escape").decode("ascii")
        for c in text
    )


def _obeyed(character: str) -> bool:
    """Whether a terminal would act on a character instead of showing it."""
    return unicodedata.category(character) in ("Cc", "Cs") or character in _DIRECTIONS


def print_anything() -> None:
    """Let both streams write a `?` for what their encoding lacks, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        _forgive(stream)


def _forgive(stream: TextIO) -> None:
    reconfigure = getattr(stream, "reconfigure", None)  # not of a stream that a test put there
    if reconfigure is not None:
        reconfigure(errors="replace")
