"""Reading a pickle of arrays from a stranger without running it.

detectron2 publishes its models as pickles of NumPy arrays, and a pickle is a program: loading one
with `pickle.load` calls whatever functions it names. Here it may name a few things, each replaced
by a stand-in of ours that only writes down what it was given; not even NumPy's own constructors are
called with a stranger's arguments. The arrays are made afterwards, from bytes whose number has been
checked. Everything else is refused by name. Chapter 13.
"""

import collections
import math
import os
import pickle
import pickletools
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from mrcnn_edu.errors import UserError

# Plain numbers only: no objects, no strings, no records.
_DTYPES = frozenset(["b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"])
_DEEPEST = 20  # a checkpoint is three levels deep


class _Refused(Exception):
    """The sentence about what the pickle asked for."""


def read_pickle(path: str | os.PathLike[str]) -> Any:
    """Read a pickle made of dictionaries, lists, tuples, text, numbers and NumPy arrays.

    Args:
        path: written by Python 2 or 3, any protocol and any version of NumPy.

    Returns:
        what was pickled, its arrays as NumPy arrays (read-only: they share the file's bytes).

    Raises:
        UserError: the file asks for anything else, is damaged, or cannot be read; the message
            names what it asked for.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            _check_memo(file)
            file.seek(0)
            return _finished(_Unpickler(file).load(), 0, {})
    except _Refused as error:
        raise UserError(
            f"{path} was not loaded: {error}. A file of weights holds arrays and nothing else; "
            "get it from where its authors published it."
        ) from error
    except OSError as error:
        raise UserError(f"Cannot read {path} ({error}).") from error
    # What a broken program can raise, from the unpickler itself and from misuse of the stand-ins.
    except (
        pickle.UnpicklingError,
        EOFError,
        MemoryError,
        TypeError,
        ValueError,
        KeyError,
        IndexError,
        AttributeError,
        OverflowError,
    ) as error:
        raise UserError(
            f"{path} is not a pickle of arrays, or it was cut short ({error}). Fetch it again."
        ) from error


def _check_memo(file: BinaryIO) -> None:
    """Refuse numbers for repeated objects that no pickler gives: they count from 0 or 1.

    Python's unpickler makes room for all numbers up to the one it reads, so a file of ten bytes
    could ask for 60 GB.
    """
    given = 0
    for opcode, number, _ in pickletools.genops(file):
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            if number is not None and number > given + 1:
                raise _Refused(f"it gives the number {number} to its object {given}")
            given += 1


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: Any) -> None:
        super().__init__(file, encoding="latin1")  # Python 2's byte strings are text or raw data
        self.allowed = _stand_ins()

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.allowed:
            raise _Refused(f"it asks for the Python object {module}.{name}")
        return self.allowed[module, name]


class _ToBuild:
    """What a stand-in leaves behind: an array that is made once the pickle has been read."""

    dtype: Any = None
    shape: Any = ()
    fortran: Any = False
    content: Any = b""


def _stand_ins() -> dict[tuple[str, str], Any]:
    """What a pickle may name. Made anew for each file: a pickle can write into what it gets."""

    class Dtype:
        def __init__(self, name: Any, *_: Any) -> None:
            self.name, self.order = name, "|"

        def __setstate__(self, state: Any) -> None:  # (version, byte order, …)
            self.order = state[1]

    class Array(_ToBuild):
        def __setstate__(self, state: Any) -> None:
            _, self.shape, self.dtype, self.fortran, self.content = state

    def reconstruct(*_: Any) -> Array:  # (type, shape, typecode); __setstate__ brings the rest
        return Array()

    def scalar(dtype: Any, content: Any) -> Array:
        array = Array()
        array.dtype, array.content = dtype, content
        return array

    def from_buffer(content: Any, dtype: Any, shape: Any, order: Any) -> Array:
        array = Array()
        array.dtype, array.shape, array.content = dtype, shape, content
        array.fortran = order == "F"
        return array

    def encode(text: Any, encoding: Any) -> bytes:  # how Python 3 writes bytes for Python 2
        if encoding != "latin1" or not isinstance(text, str):
            raise _Refused(f"it asks for the text encoding {encoding!r}")
        return text.encode("latin1")

    def no_bytes() -> bytes:  # the empty ones are written as a call without arguments
        return b""

    class OrderedDict(collections.OrderedDict):
        """Nothing that is written into this class outlives the file."""

    allowed: dict[tuple[str, str], Any] = {
        ("collections", "OrderedDict"): OrderedDict,
        ("numpy", "ndarray"): Array,
        ("numpy", "dtype"): Dtype,
        ("_codecs", "encode"): encode,
        ("__builtin__", "bytes"): no_bytes,
    }
    for core in ("numpy.core", "numpy._core"):  # renamed in NumPy 2
        allowed[f"{core}.multiarray", "_reconstruct"] = reconstruct
        allowed[f"{core}.multiarray", "scalar"] = scalar
        allowed[f"{core}.numeric", "_frombuffer"] = from_buffer
    return allowed


def _finished(value: Any, depth: int, done: dict[int, Any]) -> Any:
    """The value with its arrays made, of plain types only.

    What is referred to twice is made once, as `done` says by identity: lists of lists of references
    to one list would otherwise grow to any size out of a few hundred bytes.
    """
    if depth > _DEEPEST:
        raise _Refused(f"it is nested more than {_DEEPEST} levels deep")
    if id(value) in done:
        return done[id(value)]
    made: Any
    if isinstance(value, _ToBuild):
        made = _array(value)
    elif isinstance(value, dict):
        made = {
            _finished(k, depth + 1, done): _finished(v, depth + 1, done) for k, v in value.items()
        }
    elif isinstance(value, list | tuple):
        made = type(value)(_finished(v, depth + 1, done) for v in value)
    elif value is None or isinstance(value, str | bytes | bytearray | bool | int | float):
        return value
    else:
        raise _Refused(f"it holds a {type(value).__name__}")
    done[id(value)] = made
    return made


def _array(described: _ToBuild) -> NDArray[Any]:
    dtype, shape, content = described.dtype, described.shape, described.content
    name = getattr(dtype, "name", None)
    if name not in _DTYPES:
        raise _Refused(f"it holds an array of type {name!r}, which is not a plain number")
    if isinstance(content, str):  # Python 2
        content = content.encode("latin1")
    if not isinstance(content, bytes | bytearray):
        raise _Refused("it holds an array without data")
    if not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape):
        raise _Refused(f"it holds an array of the impossible shape {shape!r}")
    kind = np.dtype(("<" if dtype.order in "|<=" else ">") + name)
    if len(content) != math.prod(shape) * kind.itemsize:
        raise _Refused(f"it holds {len(content)} bytes for an array of shape {shape}, {kind}")
    array = np.frombuffer(content, dtype=kind).reshape(
        shape, order="F" if described.fortran else "C"
    )
    return array.astype(kind.newbyteorder("="), copy=False)
