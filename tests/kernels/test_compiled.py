"""What is compiled: the same bits in any order, and never from another source than today's."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGE = ROOT / "mrcnn_edu"
COMPILERS = ("njit", "jit", "kernel", "vectorize", "guvectorize", "stencil")


def compiler_uses(tree: ast.AST) -> list[tuple[int, bool]]:
    """(line, whether fastmath is stated) of everything that compiles a function."""
    called = {id(n.func): n for n in ast.walk(tree) if isinstance(n, ast.Call)}
    uses = []
    for node in ast.walk(tree):
        name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", None)
        if name not in COMPILERS:
            continue
        if name == "kernel" and id(node) not in called:
            continue  # a variable of that name
        call = called.get(id(node))
        stated = call is not None and any(word.arg == "fastmath" for word in call.keywords)
        uses.append((node.lineno, stated))
    return uses


def test_every_compiled_function_states_its_fastmath() -> None:
    """In files that hold compiled code; `kernel(...)` of the others is a call of something else."""
    found = 0
    for file in sorted(PACKAGE.rglob("*.py")):
        text = file.read_text("utf-8")
        if "from numba import" not in text and "kernels.compiled import" not in text:
            continue
        if file.name == "launch.py":  # they call kernels and compile none
            assert "njit" not in text
            assert "cuda.jit" not in text
            continue
        for line, stated in compiler_uses(ast.parse(text)):
            assert stated, f"{file.relative_to(ROOT)}:{line} does not state fastmath"
            found += 1
    assert found > 30


@pytest.mark.parametrize(
    ("code", "stated"),
    [
        ("@njit\ndef f(): ...", False),
        ("@numba.njit(cache=True)\ndef f(): ...", False),
        ("device = cuda.jit(device=True)", False),
        ("@cuda.jit(fastmath=False)\ndef f(): ...", True),
        ("@kernel(fastmath={'contract'})\ndef f(): ...", True),
    ],
)
def test_the_reader_of_sources(code: str, stated: bool) -> None:
    assert [s for _, s in compiler_uses(ast.parse(code))] == [stated]


def test_order_of_compilation_changes_no_bit(tmp_path: Path) -> None:
    """And no sample on the edge of the map falls on the other side than torchvision's."""
    running = []
    for order in ("mean", "max"):
        environment = os.environ | {
            "PYTHONPATH": str(ROOT), "NUMBA_CACHE_DIR": str(tmp_path / order),
        }  # fmt: skip
        script = [sys.executable, str(Path(__file__).parent / "compile_order.py"), order]
        running.append(subprocess.Popen(script, env=environment, stdout=subprocess.PIPE, text=True))
    (mean, _), (largest, _) = (process.communicate() for process in running)
    assert [process.returncode for process in running] == [0, 0]
    assert mean == largest
    assert mean.split()[1] == "0"


PART = """
from numba import njit

@njit(fastmath=False)
def part(x):
    return x + {term}
"""
WHOLE = """
from mrcnn_edu.kernels.compiled import kernel
from mrcnn_edu.kernels.part import part

@kernel(fastmath=False)
def whole(x):
    return part(x)
"""
RUN = """
from mrcnn_edu.kernels.whole import whole
value = whole(1)
print(value, sum(whole.stats.cache_hits.values()))
"""


def make_package(folder: Path) -> Path:
    """A package of two files, one of which takes in a function of the other."""
    kernels = folder / "mrcnn_edu" / "kernels"
    kernels.mkdir(parents=True)
    for name in ("__init__.py", "compiled.py"):
        (kernels / name).write_bytes((PACKAGE / "kernels" / name).read_bytes())
    (kernels / "part.py").write_text(PART.format(term=1))
    (kernels / "whole.py").write_text(WHOLE)
    return kernels


def run(folder: Path, code: str = RUN, **settings: str) -> subprocess.CompletedProcess[str]:
    """Value and cache hits of `whole(1)` in a process of its own, or what other `code` prints."""
    environment = {k: v for k, v in os.environ.items() if k != "NUMBA_CACHE_DIR"} | settings
    environment |= {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, cwd=folder
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.parametrize("place", ["beside the source", "named", "read-only install"])
def test_an_edit_of_an_imported_file_is_seen(tmp_path: Path, place: str) -> None:
    kernels = make_package(tmp_path)
    settings = {}
    if place == "named":
        settings = {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    if place == "read-only install":  # a file where the folder should be: nobody can write there
        (kernels / "__pycache__").write_text("")
        settings = {"HOME": str(tmp_path / "home"), "XDG_CACHE_HOME": str(tmp_path / "home")}
    assert run(tmp_path, **settings).stdout.split() == ["2", "0"]
    assert run(tmp_path, **settings).stdout.split() == ["2", "1"]
    (kernels / "part.py").write_text(PART.format(term=5))
    assert run(tmp_path, **settings).stdout.split() == ["6", "0"]
    assert run(tmp_path, **settings).stdout.split() == ["6", "1"]


def test_without_any_place_to_write(tmp_path: Path) -> None:
    kernels = make_package(tmp_path)
    (kernels / "__pycache__").write_text("")
    nowhere = str(kernels / "__pycache__" / "home")
    done = run(tmp_path, HOME=nowhere, XDG_CACHE_HOME=nowhere)
    assert done.stdout.split() == ["2", "0"]
    assert "set NUMBA_CACHE_DIR" in done.stderr


def test_without_compilation(tmp_path: Path) -> None:
    make_package(tmp_path)
    done = run(tmp_path, code="from mrcnn_edu.kernels.whole import whole; print(whole(1))",
               NUMBA_DISABLE_JIT="1")  # fmt: skip
    assert done.stdout.split() == ["2"]
