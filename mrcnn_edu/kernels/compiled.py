"""Compiles a kernel and keeps it on disk for as long as it is the kernel in the source.

Compiling takes seconds, so Numba caches what it has compiled: beside the source if that place can
be written to, else in the user's cache, or where `NUMBA_CACHE_DIR` says. It discards an entry when
the file of the kernel itself has changed. But a kernel takes in the functions that it imports from
other files, and an edit of those goes unseen: after an upgrade the old arithmetic would live on.
So here an entry also carries one digest of every file of this library that holds compiled code,
and a change in any of them discards it. Chapter 06.

`fastmath` has no default, here or in any `njit` of the library (a test reads them all). Left
open, a function takes the setting of whichever kernel happens to compile it first, and the order
of calls then decides how results are rounded.
"""

import hashlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import config, njit

PACKAGE = Path(__file__).resolve().parent.parent


def sources_digest(package: Path) -> str:
    """A name for the state of all files under `package` that hold compiled code."""
    digest = hashlib.sha256()
    for file in sorted(package.rglob("*.py")):
        text = file.read_bytes()
        if b"njit" in text or b"kernels.compiled" in text:
            digest.update(file.relative_to(package).as_posix().encode() + b"\0" + text + b"\0")
    return digest.hexdigest()


SOURCES = sources_digest(PACKAGE)  # about 3 ms, once


def kernel(*, fastmath: bool | set[str]) -> Callable[[Callable[..., Any]], Any]:
    """Compile a function that is called from Python, without Python's lock, cached on disk.

    `fastmath` names what the compiler may do to floating-point sums: `False`, or `{"contract"}`
    for fused multiply-adds. Divisions by zero give inf or NaN, as in NumPy.
    """

    def compile_(function: Callable[..., Any]) -> Any:
        compile_it = njit(nogil=True, error_model="numpy", fastmath=fastmath, cache=True)
        try:
            compiled = compile_it(function)
        except RuntimeError as error:
            if "no locator available" not in str(error):
                raise
            warnings.warn(
                "no folder for compiled kernels can be written to, so they are compiled again in "
                "every process; set NUMBA_CACHE_DIR to a folder of yours",
                stacklevel=2,
            )
            return njit(nogil=True, error_model="numpy", fastmath=fastmath)(function)
        if not config.DISABLE_JIT:
            index = compiled._cache._cache_file
            index._source_stamp = (index._source_stamp, SOURCES)
        return compiled

    return compile_
