"""Compile the kernels that stdin describes, for a GPU, with no GPU; run by test_kernels.py.

Reads a list of [source, expression, signature]; prints one line per kernel that compiles.
`NUMBA_ENABLE_CUDASIM` must not be set.
"""

import json
import sys
from types import SimpleNamespace
from unittest import mock

from numba import cuda
from numba.core import sigutils

from mrcnn_edu.pictures.threads.ptx import CAPABILITY, PRELUDE


def main() -> None:
    device = SimpleNamespace(compute_capability=CAPABILITY)
    for source, expression, signature in json.load(sys.stdin):
        scope: dict = {}
        exec(PRELUDE, scope)
        exec(source, scope)
        arguments, _ = sigutils.normalize_signature(signature)
        with mock.patch("numba.cuda.dispatcher.get_current_device", return_value=device):
            cuda.compile_ptx(eval(expression, scope), arguments, cc=CAPABILITY)
        print(expression, signature)


if __name__ == "__main__":
    main()
