"""One-operator mutants of a solution: the slips that its check must catch.

Each differs from the solution in one place: a comparison (`<` to `≤` or `≥`), `+ − * /`,
`and`/`or`, a sign, a number by one, `max`/`min` and their like, True/False, a `clamp` or
`abs` that is left out, two returned values exchanged, `+=` made `=`.
"""

import ast
import contextlib
import copy
import signal
from collections.abc import Iterator

COMPARE: dict[type, tuple[type, ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
ARITHMETIC: dict[type, type] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Div,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
TWINS = [
    ("max", "min"),
    ("amax", "amin"),
    ("argmax", "argmin"),
    ("maximum", "minimum"),
    ("floor", "ceil"),
    ("any", "all"),
    ("sum", "mean"),
    ("zeros", "ones"),
    ("zeros_like", "ones_like"),
]
NAMES = {a: b for pair in TWINS for a, b in (pair, pair[::-1])}
LEFT_OUT = {"clamp", "clamp_", "abs", "abs_", "sqrt", "clone", "copy", "flip", "round", "floor"}


def mutants(source: str) -> dict[str, str]:
    """The mutants of a source: {the first line that is new: the whole source}."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and _is_text(body[0]):
            body[0] = ast.Pass()  # a docstring
    before = ast.unparse(tree).splitlines()
    found = {}
    for number, node in enumerate(ast.walk(tree)):
        for variant in _variants(node):
            changed = copy.deepcopy(tree)
            _replace(changed, number, variant)
            text = ast.unparse(ast.fix_missing_locations(changed))
            after = text.splitlines()
            new = next((b for a, b in zip(before, after, strict=False) if a != b), None)
            if new is not None:
                found.setdefault(new.strip(), text)
    return found


def _is_text(node: ast.stmt) -> bool:
    constant = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return constant and isinstance(node.value.value, str)


def _replace(tree: ast.Module, number: int, variant: ast.AST) -> None:
    """Put a variant in the place of the node that is met `number`-th."""
    old = next(node for i, node in enumerate(ast.walk(tree)) if i == number)
    for parent in ast.walk(tree):
        for field, value in ast.iter_fields(parent):
            if value is old:
                setattr(parent, field, variant)
            elif isinstance(value, list):
                setattr(parent, field, [variant if v is old else v for v in value])


def _variants(node: ast.AST) -> Iterator[ast.AST]:
    """What may stand in the place of a node."""
    match node:
        case ast.Compare(left, [op], [right]):
            for other in COMPARE[type(op)]:
                yield ast.Compare(left, [other()], [right])
        case ast.BoolOp(op, values):
            yield ast.BoolOp(ast.Or() if isinstance(op, ast.And) else ast.And(), values)
        case ast.BinOp(left, op, right) if type(op) in ARITHMETIC:
            yield ast.BinOp(left, ARITHMETIC[type(op)](), right)
        case ast.AugAssign(target, op, value) if type(op) in ARITHMETIC:
            yield ast.AugAssign(target, ARITHMETIC[type(op)](), value)
            yield ast.Assign([target], value)
        case ast.UnaryOp(_, operand):
            yield operand
        case ast.Constant(bool() as value):
            yield ast.Constant(not value)
        case ast.Constant(int() | float() as value):
            yield ast.Constant(value + 1)
            yield ast.Constant(value - 1)
        case ast.Name(name) if name in NAMES:
            yield ast.Name(NAMES[name], ast.Load())
        case ast.Attribute(value, name) if name in NAMES:
            yield ast.Attribute(value, NAMES[name], ast.Load())
        case ast.Attribute(value, "T"):
            yield value
        case ast.Return(ast.Tuple([first, second, *rest])):
            yield ast.Return(ast.Tuple([second, first, *rest], ast.Load()))
    match node:  # what is left out
        case ast.Call(ast.Attribute(ast.Name("torch" | "math" | "np"), name), [first, *_]):
            if name in LEFT_OUT:
                yield first
        case ast.Call(ast.Attribute(value, name)) if name in LEFT_OUT:
            yield value
        case ast.Call(ast.Name("abs" | "max" | "min" | "round"), [first, *_]):
            yield first


class TimeUpError(BaseException):
    """A mutant did not come to an end; no `except Exception` of a check may catch it."""


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise `TimeUpError` in the block when it takes longer."""

    def stop(_signal, _frame):
        raise TimeUpError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
