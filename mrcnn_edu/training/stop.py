"""Ctrl-C and SIGTERM as requests: the step that runs is finished, and everything is saved.

Chapter 13.
"""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from mrcnn_edu.errors import UserError


class TrainingInterruptedError(UserError):
    """Ctrl-C or SIGTERM. Everything was saved; the same command goes on."""


@dataclass
class StopRequest:
    """Set by Ctrl-C or SIGTERM; the loop looks at it after every step."""

    requested: bool = False


@contextmanager
def stop_signals(
    saying: str = "Stopping after this step, and saving …",
) -> Iterator[StopRequest]:
    """Turn the first Ctrl-C or SIGTERM into a request; a second Ctrl-C ends the program at once.

    `saying` is printed to the standard error when the request comes.
    """
    stop = StopRequest()

    def request(number: int, frame: object) -> None:
        stop.requested = True
        print(f"\n{saying}", file=sys.stderr)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    try:
        previous = {s: signal.signal(s, request) for s in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not in the main thread, where signals cannot be handled
        yield stop
        return
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
