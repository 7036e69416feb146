"""Every kernel of chapters 07a and 07b, and of their solutions, compiles for float32 and float64.

The simulator runs Python, where a kernel cannot have a wrong type. A GPU has none other.
"""

import ast
import json
import os
import subprocess
import sys

import pytest

from tests.checks.exercises import FENCE, ROOT, cells_of, notebooks

pytest.importorskip("numba.cuda")

# Types of a kernel's arguments; {f} is float32, then float64.
FLAT, TABLE = "{f}[:]", "{f}[:,:]"
ONE_ROI = (TABLE, "int64", FLAT, "int64", "int64", TABLE)
SIGNATURES = {
    "double": (FLAT, FLAT),
    "double_guarded": (FLAT, FLAT),
    "add_row": (TABLE, FLAT, TABLE),
    "add_up": ("int64[:]", FLAT, FLAT),
    "by_channel": (TABLE, TABLE),
    "by_pixel": (TABLE, TABLE),
    "transpose_plainly": (TABLE, TABLE),
    "transpose_by_tiles": (TABLE, TABLE),
    "through_a_tile(33)": (TABLE, TABLE),
    "highest": (FLAT, FLAT),
    "forward": ONE_ROI,
    "forward_for_one": ONE_ROI,
    "backward": ONE_ROI,
    "scatter": (FLAT, FLAT, FLAT),
    "scatter_atomic": (FLAT, FLAT, FLAT),
    "pool_scatter": (TABLE, "int32[:,:]", TABLE),
    "gather_by_matrix": (FLAT, TABLE, FLAT),
}


def kernels() -> dict[str, str]:
    """{expression: source} of all functions that ask for their thread; solutions replace stubs."""
    found = {}
    for path in notebooks():
        if not path.name.startswith("07"):
            continue
        for kind, text in cells_of(path):
            for source in [text] if kind == "code" else FENCE.findall(text):
                for node in ast.parse(source).body:
                    part = ast.get_source_segment(source, node) or ""
                    asks = "cuda.grid(" in part or "cuda.threadIdx" in part
                    if isinstance(node, ast.FunctionDef) and asks:
                        inner = any(isinstance(n, ast.FunctionDef) for n in node.body)
                        found[f"{node.name}(33)" if inner else node.name] = part
    return found


def test_every_kernel_of_the_chapters_compiles():
    sources = kernels()
    assert sources.keys() == SIGNATURES.keys(), "say above what types a new kernel takes"
    tasks = [
        [source, name, f"void({', '.join(SIGNATURES[name])})".replace("{f}", real)]
        for name, source in sources.items()
        for real in ("float32", "float64")
    ]
    environment = {k: v for k, v in os.environ.items() if k != "NUMBA_ENABLE_CUDASIM"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.checks.kernels_check"],
        input=json.dumps(tasks),
        env=environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr[-1500:]
    assert len(done.stdout.splitlines()) == len(tasks)
