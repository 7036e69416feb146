"""Says when kernels are being compiled, and how long it took.

A kernel that is not in the cache is compiled when it is first called, which takes seconds; whoever
waits should know for what. Numba announces the beginning and the end of each compilation.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from numba.core import event

KIND = "numba:compile"


class _Told(event.Listener):
    """The time during which at least one kernel was being compiled."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say, self.lock = say, threading.Lock()
        self.running, self.since, self.seconds = 0, 0.0, 0.0

    def on_start(self, event: Any) -> None:
        with self.lock:
            first = not self.running and not self.seconds
            self.running += 1
            if self.running == 1:  # a kernel's own functions are compiled within it
                self.since = time.perf_counter()
        if first:
            self.say("Compiling kernels, once on this machine …")

    def on_end(self, event: Any) -> None:
        with self.lock:
            self.running -= 1
            if not self.running:
                self.seconds += time.perf_counter() - self.since


@contextmanager
def told(say: Callable[[str], None]) -> Iterator[None]:
    """Within this context: one sentence when a kernel is first compiled, one when all is done.

    Nothing is said where all kernels come from the cache.

    Args:
        say: shows a sentence.
    """
    listener = _Told(say)
    event.register(KIND, listener)
    try:
        yield
    finally:
        event.unregister(KIND, listener)
    if listener.seconds:
        say(f"Kernels compiled in {listener.seconds:.1f} s.")
