"""What every check shares: an answer is unfinished, wrong with a reason, or right.

A check is a function ``check_something(answer)`` with the decorator :func:`check`. It calls the
reader's function on a small case that can be followed by eye, then on edge cases, then on random
ones, and states with :func:`require` or :func:`require_equal` what must hold. The first thing that
does not hold ends it, with a message that names the likely misconception.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class CheckFailedError(AssertionError):
    """An answer is wrong. In a notebook only the message is shown, not the traceback."""

    def _render_traceback_(self) -> list[str]:
        """What IPython prints for this error."""
        return [f"✗ {self}"]


def check(body: Callable[[Callable], None]) -> Callable[[Callable], None]:
    """Make a check of a function that raises :class:`CheckFailedError` when an answer is wrong.

    An answer that still raises ``NotImplementedError`` is unfinished, not wrong: the check says so
    and returns. A right one is told so.
    """

    @functools.wraps(body)
    def run(answer: Callable) -> None:
        name = getattr(answer, "__name__", "your function")
        try:
            body(answer)
        except NotImplementedError:
            print(f"… {name} is not written yet. Replace the raise, then run this cell again.")
            return
        print(f"✓ {name}: all checks passed.")

    return run


def require(condition: object, message: str) -> None:
    """Fail with ``message`` unless ``condition`` holds.

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


def require_equal(got: Any, want: Any, message: str, tolerance: float = 1e-4) -> None:
    """Fail unless ``got`` is a tensor (or number, or list of numbers) equal to ``want``.

    Shapes are compared first, then values up to ``tolerance``, absolute and relative; the message
    ends with both sides where they are small, and with the first place where they differ.

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
