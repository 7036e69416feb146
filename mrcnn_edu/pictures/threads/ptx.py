"""What Numba makes of a kernel for a GPU, with no GPU at hand: its PTX.

In: a kernel's function, or the dotted name of one of the library's, and the types of its arguments.
Out: PTX, NVIDIA's assembly language for an idealised machine, as text. Compiling needs a process
without Numba's simulator, so it happens in one. Chapter 07b.
"""

import importlib
import inspect
import json
import os
import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace
from unittest import mock

CAPABILITY = (9, 0)  # of an H100 or H200
# What a kernel of a chapter may use.
PRELUDE = """
import math
import numba
import numpy as np
from numba import cuda
from mrcnn_edu.roi.cuda.device import sample, sample_position
"""


def ptx_of(kernel: Callable | str, signature: str) -> str:
    """The PTX of a kernel for `CAPABILITY`.

    Args:
        kernel: a plain function, or the name of a compiled kernel such as
            "mrcnn_edu.roi.cuda.mean.backward".
        signature: its types in Numba's words, "void(float32[:], float32[:])".

    Raises:
        ValueError: it does not compile for these types; the message is Numba's.
    """
    if isinstance(kernel, str):
        task = {"name": kernel, "source": "", "signature": signature}
    else:
        source = inspect.getsource(kernel)
        task = {"name": kernel.__name__, "source": source, "signature": signature}
    environment = {k: v for k, v in os.environ.items() if k != "NUMBA_ENABLE_CUDASIM"}
    environment["PYTHONPATH"] = os.pathsep.join(p for p in sys.path if p)
    done = subprocess.run(
        [sys.executable, "-m", __name__],
        input=json.dumps(task),
        env=environment,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise ValueError(f"{task['name']} for {signature} does not compile:\n{done.stderr[-2000:]}")
    return done.stdout


def compiled(name: str, source: str, signature: str) -> str:
    """The PTX, in this process, whose Numba must not simulate.

    Args:
        name: of the function, or the dotted name of a compiled kernel.
        source: of the function; empty for a kernel of the library.
        signature: its types in Numba's words.
    """
    from numba import cuda
    from numba.core import sigutils

    if source:
        scope: dict = {}
        exec(compile(PRELUDE, "<prelude>", "exec"), scope)
        exec(compile(source, f"<{name}>", "exec"), scope)
        function = scope[name]
    else:
        module, attribute = name.rsplit(".", 1)
        function = getattr(importlib.import_module(module), attribute).py_func
    arguments, _ = sigutils.normalize_signature(signature)
    # Device functions ask the current device for its capability; where there is none, we say it.
    device = SimpleNamespace(compute_capability=CAPABILITY)
    with mock.patch("numba.cuda.dispatcher.get_current_device", return_value=device):
        ptx, _ = cuda.compile_ptx(function, arguments, cc=CAPABILITY)
    return ptx


if __name__ == "__main__":
    print(compiled(**json.load(sys.stdin)))
