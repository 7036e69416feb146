"""Compile every GPU kernel to PTX with no GPU; run as a script by test_cuda.py.

Prints one line a kernel, type and architecture. `NUMBA_ENABLE_CUDASIM` must not be set.
"""

import sys
from types import SimpleNamespace
from typing import Any
from unittest import mock

from numba import cuda, types

from mrcnn_edu.roi.cuda import mean, pool

f2, f4, f8 = types.float16, types.float32, types.float64
i4, i8, u2, flag = types.int32, types.int64, types.uint16, types.boolean


def array(kind: Any, dims: int) -> Any:
    """A strided array: what a view of either layout is."""
    return types.Array(kind, dims, "A")


def signatures() -> list[tuple[str, Any, tuple[Any, ...]]]:
    """(name, kernel, argument types) of all kernels for all types they are launched with."""
    cases: list[tuple[str, Any, tuple[Any, ...]]] = []
    for feature, real in ((f2, f4), (f4, f4), (f8, f8), (u2, f4)):
        bf16 = feature is u2
        maps, rois, levels = array(feature, 3), array(real, 2), array(i8, 1)
        head = (maps, i8, rois, levels, i8, f8)
        how = (flag, flag, i8)
        out, argmax = array(real, 3), array(i4, 3)
        sampled = mean.forward_bfloat16 if bf16 else mean.forward
        pooled = pool.forward_bfloat16 if bf16 else pool.forward
        cases.append((f"mean forward {feature}", sampled, (*head, *how, i8, flag, out)))
        cases.append((f"pool forward {feature}", pooled, (*head, i8, flag, out, argmax)))
    for real in (f4, f8):
        grad, rois, levels = array(real, 3), array(real, 2), array(i8, 1)
        argmax = array(i4, 3)
        tail = (i8, rois, levels, i8, f8, flag, flag, i8, i8, flag, grad)
        for name in ("backward", "backward_by_rows"):
            cases.append((f"mean {name} {real}", getattr(mean, name), (grad, *tail)))
        atomic = (grad, argmax, rois, levels, i8, flag, grad)
        rows = (grad, argmax, i8, rois, levels, i8, grad)
        cases.append((f"pool backward {real}", pool.backward, atomic))
        cases.append((f"pool backward_by_rows {real}", pool.backward_by_rows, rows))
    return cases


def main() -> int:
    for capability in ((8, 0), (9, 0)):
        # Device functions ask the current device for its architecture; there is none here.
        gpu = SimpleNamespace(compute_capability=capability)
        for name, kernel, types_ in signatures():
            with mock.patch("numba.cuda.dispatcher.get_current_device", lambda gpu=gpu: gpu):
                ptx, _ = cuda.compile_ptx(kernel.py_func, types.void(*types_), cc=capability)
            assert f".target sm_{capability[0]}{capability[1]}" in ptx, name
            print(f"sm_{capability[0]}{capability[1]} {name}: {len(ptx.splitlines())} lines")
    return 0


if __name__ == "__main__":
    sys.exit(main())
