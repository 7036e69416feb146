"""What every check shares: an answer is unfinished, wrong with a reason, or right.

A check is a function `check_something(answer)` with the decorator `check`, which knows the number
of its exercise. It calls the reader's function on a small case that can be followed by eye, then on
edge cases, then on random ones, says with `case` which one it is at, and states with `require`,
`require_not` and `require_equal` what must hold. The first thing that does not hold ends it, with a
message. A misconception is named only where its very result is recognised; elsewhere the message
shows what came and what was expected, without a guess.

`check_something(answer)` prints; `grade` returns a `Verdict`.
"""

import functools
import importlib
import inspect
import re
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mrcnn_edu.checks.blame import is_unfinished, sentence_of
from mrcnn_edu.errors import UserError

_case: ContextVar[str] = ContextVar("case", default="")


@dataclass(frozen=True)
class Verdict:
    """What a check found."""

    passed: bool
    case: str  # the case that failed: "one pixel", "random 3"; empty where none did
    message: str  # why it failed; empty where it did not
    unfinished: bool = False  # the answer still raises NotImplementedError


class CheckFailedError(AssertionError):
    """An answer is wrong. In a notebook only the message is shown, not the traceback."""

    def _render_traceback_(self) -> list[str]:
        """What IPython prints for this error."""
        return [f"✗ {self}"]


class Check:
    """The check of one exercise: called by a reader it prints, `verdict` returns."""

    def __init__(self, exercise: str, body: Callable[[Callable], None]) -> None:
        self.exercise = exercise
        self.body = body
        functools.update_wrapper(self, body)

    def verdict(self, answer: Callable) -> Verdict:
        """Try an answer. Whatever it does, short of ending the process, is told as a verdict."""
        token = _case.set("")
        try:
            self.body(answer)
        except CheckFailedError as failed:
            return Verdict(False, _case.get(), str(failed))
        except (Exception, SystemExit) as error:
            if is_unfinished(error, answer):
                name = getattr(answer, "__name__", "Your function")
                return Verdict(False, "", f"{name} is not written yet.", unfinished=True)
            return Verdict(False, _case.get(), sentence_of(error, answer, _case.get()))
        finally:
            _case.reset(token)
        return Verdict(True, "", "")

    def __call__(self, answer: Callable) -> None:
        """Tell a reader about an answer.

        Raises:
            CheckFailedError: it is wrong.
        """
        found = self.verdict(answer)
        if found.unfinished:
            print(f"… {found.message} Replace the raise, then run this cell again.")
        elif found.passed:
            print(f"✓ {getattr(answer, '__name__', 'your function')}: all checks passed.")
        else:
            raise CheckFailedError(found.message)


def check(exercise: str) -> Callable[[Callable[[Callable], None]], Check]:
    """Make the check of an exercise of a function that raises where an answer is wrong.

    `@check("4.2")` stands above `def check_sample(answer)` in `mrcnn_edu/checks/ch04.py`.
    """
    return functools.partial(Check, exercise)


def grade(exercise: str, answer: Callable) -> Verdict:
    """Try an answer to an exercise, `grade("3.2", my_grid)`, and say what was found.

    Raises:
        UserError: there is no such exercise.
    """
    number = re.fullmatch(r"(\d+)([a-z]?)\.\d+|([AB])\.\d+", exercise)
    if number is None:
        raise UserError(f"an exercise has a number such as 3.2, not {exercise!r}")
    digits, part, appendix = number.groups()
    name = f"ch{appendix or f'{int(digits):02}{part}'}"
    try:
        module = importlib.import_module(f"mrcnn_edu.checks.{name}")
    except ModuleNotFoundError as error:
        raise UserError(f"exercise {exercise}: there are no checks of that chapter") from error
    found = [c for c in vars(module).values() if isinstance(c, Check) and c.exercise == exercise]
    if not found:
        raise UserError(f"mrcnn_edu/checks/{name}.py has no check of exercise {exercise}")
    return found[0].verdict(answer)


def case(name: str) -> None:
    """Say which case a check is at, until the next one: a verdict names the one that failed."""
    _case.set(name)


def inputs_kept(answer: Callable) -> Callable:
    """The reader's function, held to leave what it is given as it was.

    The function returned calls `answer` and compares tensors, arrays, and lists and dictionaries of
    them, before and after. A check whose exercise must not write into its input begins with `answer
    = inputs_kept(answer)`.
    """
    try:
        names = list(inspect.signature(answer).parameters)
    except (TypeError, ValueError):
        names = []

    @functools.wraps(answer)
    def kept(*inputs: Any, **options: Any) -> Any:
        before = [_copy(i) for i in inputs]
        result = answer(*inputs, **options)
        for i, (was, now) in enumerate(zip(before, inputs, strict=True)):
            name = f" `{names[i]}`" if i < len(names) else ""
            require(
                _same(was, now),
                f"Your function writes into its input{name}: leave it as it was, return new "
                "values. (`x -= 1` and `x[…] = 1` change the caller's x; `x = x - 1` does not.)",
            )
        return result

    return kept


def _copy(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, list | tuple):
        return [_copy(v) for v in value]
    if isinstance(value, dict):
        return {k: _copy(v) for k, v in value.items()}
    return value


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and bool(a.isclose(b, 0, 0, True).all())
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
    if isinstance(a, list):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(_same(v, b[k]) for k, v in a.items())
    return a is b or (not isinstance(b, Tensor | np.ndarray) and bool(a == b))


def require(condition: object, message: str) -> None:
    """Fail with `message` unless `condition` holds.

    Raises:
        CheckFailedError: it does not.
    """
    if not condition:
        raise CheckFailedError(message)


def numbers(got: Any) -> Tensor:
    """What a reader's function returned, as a tensor.

    Raises:
        CheckFailedError: it is None, or neither a tensor nor numbers.
    """
    require(got is not None, "Your function returned None. Does it end with a return?")
    try:
        return torch.as_tensor(got).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        kind = type(got).__name__
        raise CheckFailedError(
            f"Your function returned a {kind}; a tensor or numbers were expected."
        ) from error


def tensor(got: Any, dtype: torch.dtype | None = None) -> Tensor:
    """What a reader's function returned, where nothing but a tensor is right.

    Args:
        got: what came.
        dtype: its type, where that matters.

    Raises:
        CheckFailedError: it is something else.
    """
    require(got is not None, "Your function returned None. Does it end with a return?")
    kind = type(got).__name__
    require(isinstance(got, Tensor), f"Your function returned a {kind}; a tensor was expected.")
    if dtype is not None:
        require(got.dtype == dtype, f"Your result is {got.dtype}, expected {dtype}.")
    return got


def parts(got: Any, *names: str) -> tuple:
    """What a reader's function returned, where it should be several values in a tuple.

    Raises:
        CheckFailedError: it is something else.
    """
    wanted = f"{len(names)} values, {' and '.join(names)}"
    require(got is not None, f"Your function returned None; expected {wanted}.")
    kind = type(got).__name__
    require(isinstance(got, tuple | list), f"Your function returned a {kind}; expected {wanted}.")
    require(len(got) == len(names), f"Your function returned {len(got)} values; expected {wanted}.")
    return tuple(got)


def require_not(got: Any, wrong: Any, message: str, tolerance: float = 1e-4) -> None:
    """Fail with `message` if `got` is what a misconception gives.

    Args:
        got: the reader's result.
        wrong: what the misconception gives.
        message: names it.
        tolerance: absolute and relative.

    Raises:
        CheckFailedError: the two are equal.
    """
    found, known = numbers(got).to(torch.float64), torch.as_tensor(wrong).to(torch.float64)
    if found.shape == known.shape and torch.allclose(
        found, known, rtol=tolerance, atol=tolerance, equal_nan=True
    ):
        raise CheckFailedError(message)


def require_equal(got: Any, want: Any, message: str, tolerance: float = 1e-4) -> None:
    """Fail unless `got` is a tensor (or number, or list of numbers) equal to `want`.

    Shapes are compared first, then values; the message ends with both sides where they are small,
    and with the first place where they differ.

    Args:
        got: the reader's result.
        want: what is right.
        message: says what differs.
        tolerance: absolute and relative.

    Raises:
        CheckFailedError: something differs.
    """
    found = numbers(got).to(torch.float64)
    wanted = torch.as_tensor(want).detach().to(torch.float64)
    require(
        found.shape == wanted.shape,
        f"{message}\nYour result has shape {list(found.shape)}, expected {list(wanted.shape)}.",
    )
    close = torch.isclose(found, wanted, rtol=tolerance, atol=tolerance, equal_nan=True)
    if not close.all():
        raise CheckFailedError(f"{message}\n{_two_sides(found, wanted, close)}")


def _two_sides(found: Tensor, wanted: Tensor, close: Tensor) -> str:
    if found.numel() <= 16:
        sides = f"Yours:    {_rounded(found)}\nExpected: {_rounded(wanted)}"
        if torch.allclose(found, wanted, rtol=1e-4, atol=1e-4, equal_nan=True):
            gap = (found - wanted).nan_to_num().abs().max()
            sides += f"\nThey differ by {gap:.0e} at most: is something float32 that need not be?"
        return sides
    index = (~close).nonzero()[0].tolist()
    place = tuple(index)
    return (
        f"{int((~close).sum())} of {close.numel()} values differ. At {index} yours is "
        f"{found[place]:.4g}, expected {wanted[place]:.4g}."
    )


def _rounded(values: Tensor) -> Any:
    return torch.round(values, decimals=4).tolist()
