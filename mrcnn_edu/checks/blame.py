"""Whose error is it? What a reader's function raised, told in a sentence about the reader's line.

An error that comes out of a check began in the reader's code, in something that the reader's code
called, or in the check itself, when it used what the reader's code returned. The traceback tells.
"""

import functools
import linecache
import traceback
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any


def is_unfinished(error: BaseException, answer: Callable) -> bool:
    """Whether an error is a bare `raise NotImplementedError` on a line of the reader's own.

    PyTorch raises NotImplementedError too, for an operation that a type lacks: with a message, or
    from a file that is not the reader's.
    """
    if not isinstance(error, NotImplementedError) or str(error):
        return False
    own = _own_places(error, answer)
    *_, (last, _) = traceback.walk_tb(error.__traceback__)
    return bool(own) and own[-1][0] is last


def sentence_of(error: BaseException, answer: Callable, case: str) -> str:
    """What an error says, and on which of the reader's lines it happened.

    Args:
        error: what came out of a check, no CheckFailedError.
        answer: the reader's function.
        case: where the check was, "no boxes", or nothing.
    """
    where = f" in the case “{case}”" if case else ""
    said = f"{type(error).__name__}: {error}".strip().removesuffix(":")
    own = _own_places(error, answer)
    name = getattr(answer, "__name__", "")
    if not own and name and str(error).split("()")[0].endswith(name):  # how it was called
        return f"The check calls your function as the text says, and it cannot be: {said}"
    if not own:
        return (
            f"The check cannot use what your function returned{where}. Has it the type and the "
            f"shape that the docstring asks for? ({said})"
        )
    frame, number = own[-1]
    return f"Your function stopped with an error{where}, on {_line(frame, number)}:\n{said}"


def _line(frame: FrameType, number: int) -> str:
    code = linecache.getline(frame.f_code.co_filename, number, frame.f_globals).strip()
    return f"the line `{code}`" if code else f"line {number} of `{frame.f_code.co_name}`"


def _own_places(error: BaseException, answer: Callable) -> list[tuple[FrameType, int]]:
    """Frames and line numbers in the answer and in what it calls of its own file or cell."""
    places = list(traceback.walk_tb(error.__traceback__))
    codes = _codes_of(answer)
    while places and places[0][0].f_code not in codes:
        places.pop(0)
    return [p for p in places if p[0].f_code.co_filename == places[0][0].f_code.co_filename]


def _codes_of(answer: Any) -> set[CodeType]:
    """The code of a function, or of the methods of a class or an object."""
    while isinstance(answer, functools.partial):
        answer = answer.func
    answer = getattr(answer, "py_func", answer)  # what Numba compiled
    while hasattr(answer, "__wrapped__"):
        answer = answer.__wrapped__
    kind = answer if isinstance(answer, type) else type(answer)
    found = [answer, *vars(kind).values()]
    codes = [getattr(value, "__code__", None) for value in found]
    return {code for code in codes if isinstance(code, CodeType)}
