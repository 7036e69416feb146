"""The house: imports point one way, modules stay small, docstrings have one form."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools import house
from tools.house import FLOOR

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "mrcnn_edu"
MODULES = sorted(PACKAGE.rglob("*.py"))
SCRIPTS = [p for part in ("benchmarks", "figures", "tools") for p in (ROOT / part).rglob("*.py")]
SOURCES = [*MODULES, *sorted(SCRIPTS)]
# Of kernels, and of what the checks of one chapter are made of, a sentence is enough.
COMPILERS = {"kernel", "fused", "scalar", "njit", "cuda.jit", "device"}
EXPLAINED = [p for p in MODULES if not re.match(r"ch\d\d", p.name)]


def floor_of(path: Path) -> tuple[str, int]:
    part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return part, FLOOR[part]


def imports_of(path: Path) -> set[str]:
    """The parts of the package that a module imports, at the top or inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = [node.module, *(f"{node.module}.{a.name}" for a in node.names)]
        elif isinstance(node, ast.ImportFrom):
            base = path.relative_to(PACKAGE).parts[: -node.level]
            prefix = ".".join(["mrcnn_edu", *base])
            module = f"{prefix}.{node.module}" if node.module else prefix
            names = [module, *(f"{module}.{a.name}" for a in node.names)]
        elif isinstance(node, ast.Import):
            names = [a.name for a in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "mrcnn_edu" and len(parts) > 1 and parts[1] in FLOOR:
                found.add(parts[1])
    return found


def test_every_module_has_a_floor():
    unknown = {p.relative_to(PACKAGE).parts[0].removesuffix(".py") for p in MODULES} - FLOOR.keys()
    assert not unknown, f"add {unknown} to tools/house.py, on the floor where it belongs"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_downwards(path):
    part, floor = floor_of(path)
    for other in imports_of(path) - {part}:
        assert FLOOR[other] <= floor, f"{part} imports {other}, which is above it"


def test_no_modules_import_each_other_in_a_circle():
    graph = {part: set() for part in FLOOR}
    for path in MODULES:
        part, _ = floor_of(path)
        graph[part] |= imports_of(path) - {part}
    while graph:
        leaves = {part for part, needs in graph.items() if not needs & graph.keys()}
        assert leaves, f"these import each other: {sorted(graph)}"
        graph = {part: needs for part, needs in graph.items() if part not in leaves}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_module_is_one_idea(path):
    assert len(path.read_text().splitlines()) <= 350
    assert ast.get_docstring(ast.parse(path.read_text())), "a module says what it is for"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_public_things_have_docstrings_and_chapters_exist(path):
    tree = ast.parse(path.read_text())
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{node.name} has no docstring"
    for chapter in re.findall(r"Chapters? (\d\d|[A-Z]\b)[a-z]?\b", path.read_text()):
        assert chapter in {f"{i:02}" for i in range(21)} | {"A", "B"}


def docstrings_of(tree: ast.AST) -> list[str]:
    """The strings that stand alone: docstrings, and the lines below a dataclass's fields."""
    return [
        node.value.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    ]


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_docstrings_name_things_in_single_backticks_and_sections_as_they_are_cited(path):
    for text in docstrings_of(ast.parse(path.read_text())):
        found = re.search(r"``|:\w+:`|\b[Ss]ections?\s\d", text)
        assert not found, f"`name`, without a role, and §3.1: {text[found.start() :][:60]!r}"


def public_functions(tree: ast.Module | ast.ClassDef) -> Iterator[ast.FunctionDef]:
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from public_functions(node)
        elif isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield node


def parameters(node: ast.FunctionDef) -> list[str]:
    named = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    return [a.arg for a in named if a.arg not in ("self", "cls")]


@pytest.mark.parametrize("path", EXPLAINED, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_functions_of_three_parameters_say_what_each_is(path):
    for node in public_functions(ast.parse(path.read_text())):
        decorators = {ast.unparse(d).split("(")[0] for d in node.decorator_list}
        if len(parameters(node)) < 3 or decorators & COMPILERS:
            continue
        section = re.search(r"^Args:\n((?:[ ]{4}.*\n?)+)", ast.get_docstring(node) or "", re.M)
        assert section, f"{node.name} has three parameters or more and no Args:"
        said = re.findall(r"^[ ]{4}(\*{0,2}\w+(?:, \w+)*):", section[1], re.M)
        said = {name for names in said for name in names.split(", ")}
        assert set(parameters(node)) <= said, f"{node.name}: {set(parameters(node)) - said}"


def test_importing_needs_only_what_a_bare_gpu_image_has():
    code = (
        "import sys, mrcnn_edu.model, mrcnn_edu.training.train, mrcnn_edu.evaluation.detect; "
        "loaded = {m.split('.')[0] for m in sys.modules}; "
        "print(sorted(loaded & {'jupyter_core', 'ipykernel', 'ipywidgets', 'notebook', "
        "'matplotlib', 'rich', 'tyro', 'skimage', 'pycocotools'}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("path", sorted((ROOT / "results").glob("*.json")), ids=lambda p: p.name)
def test_measured_numbers_say_where_they_come_from(path):
    result = json.loads(path.read_text())
    for key in ("config", "seed", "commit", "machine", "versions", "date"):
        assert key in result, f"{path.name} does not record its {key}"
    assert result["clean"] is True, f"{path.name} was measured on uncommitted code"
    assert re.fullmatch("[0-9a-f]{40}", result["commit"])
    assert {"cpu", "cores", "memory_gib"} <= result["machine"].keys()


def test_tables_of_measured_numbers_are_made_from_results():
    command = [sys.executable, "-m", "benchmarks.tables", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_the_table_of_modules_in_the_readme_is_made_from_the_house():
    text = house.README.read_text("utf-8")
    assert text == house.with_table(text), "run python -m tools.house"
