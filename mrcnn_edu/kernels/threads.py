"""Runs one kernel on several threads: each walks its own share, nobody waits for a lock.

The kernels are ordinary compiled functions that release Python's lock, and their last two
arguments say which share is theirs (`first`, `step`). So Python's own threads can run them, and
no threading layer of Numba is involved: its OpenMP layer kills a forked DataLoader worker, its
workqueue layer dies when two Python threads enter it. Here several Python threads may call at
once, a forked process starts its own pool, and a DataLoader worker, where torch allows one
thread, never starts any. Chapter 06.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

# Waking a second thread costs about 30 µs; below this many multiply-adds one thread is faster.
SMALLEST_SHARE = 200_000

_pool: ThreadPoolExecutor | None = None


def _forget_pool() -> None:
    """A forked child inherits the pool object but none of its threads."""
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):  # where processes can fork
    os.register_at_fork(after_in_child=_forget_pool)


def threads_for(work: int) -> int:
    """Threads worth using for `work` multiply-adds; never more than `torch.get_num_threads()`."""
    return max(1, min(torch.get_num_threads(), work // SMALLEST_SHARE))


def run(kernel: Callable[..., None], threads: int, *args: Any) -> None:
    """Call `kernel(*args, t, threads)` for every t < threads, at the same time."""
    global _pool
    if threads > 1 and _pool is None:
        _pool = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="mrcnn_edu")
    others = [_pool.submit(kernel, *args, t, threads) for t in range(1, threads)] if _pool else []
    kernel(*args, 0, threads)
    for other in others:
        other.result()
