"""Pickles of arrays come back; pickles that would do anything else are refused by name."""

import collections
import os
import pickle
import pickletools
import struct
import subprocess

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mrcnn_edu.errors import UserError
from mrcnn_edu.weights.pickles import read_pickle


class Calls:
    """Pickles as a call of ``function(*arguments)``."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def written(tmp_path, content: bytes):
    path = tmp_path / "model.pkl"
    path.write_bytes(content)
    return path


def contents() -> dict:
    rng = np.random.default_rng(0)
    return {
        "model": collections.OrderedDict(
            weight=rng.normal(size=(4, 3, 2)).astype(np.float32),
            fortran=np.asfortranarray(rng.normal(size=(3, 5))),
            big_endian=np.arange(6, dtype=">i4").reshape(2, 3),
            half=np.ones(3, np.float16),
            flags=np.array([True, False]),
            none=np.zeros((0, 4), np.float32),
            number=np.array(7),
        ),
        "scalar": np.float32(2.5),
        "__author__": "somebody é",
        "numbers": [1, 2.5, None, True, (b"bytes", -(2**70))],
    }


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_come_back_from_every_protocol(tmp_path, protocol):
    expected = contents()
    found = read_pickle(written(tmp_path, pickle.dumps(expected, protocol)))
    assert found["__author__"] == expected["__author__"]
    assert found["numbers"] == expected["numbers"]
    assert found["scalar"] == 2.5
    assert list(found["model"]) == list(expected["model"])
    for name, array in expected["model"].items():
        assert np.array_equal(found["model"][name], array), name
        assert found["model"][name].dtype == array.dtype.newbyteorder("="), name
        assert found["model"][name].shape == array.shape


def test_a_pickle_of_python_2_and_an_old_numpy_comes_back(tmp_path):
    """Byte strings for names and data, numpy.core for numpy._core: as in published files."""

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value  # SHORT_BINSTRING

    data = np.array([1.5, -2, 3], "<f4").tobytes()
    program = (
        b"\x80\x02}" + text(b"conv1_w") + b"cnumpy.core.multiarray\n_reconstruct\n"
        b"(cnumpy\nndarray\n(K\x00t" + text(b"b") + b"tR(K\x01(K\x03tcnumpy\ndtype\n("
        + text(b"f4") + b"K\x00K\x01tR(K\x03" + text(b"<")
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89" + text(data) + b"tbs."
    )  # fmt: skip
    pickletools.dis(program, out=open(os.devnull, "w"))  # noqa: SIM115
    found = read_pickle(written(tmp_path, program))
    assert found["conv1_w"].tolist() == [1.5, -2, 3]
    assert found["conv1_w"].dtype == np.float32


ATTACKS = {
    "posix.system|os.system|nt.system": Calls(os.system, "touch owned"),
    "builtins.eval": Calls(eval, "1 + 1"),
    "builtins.getattr": Calls(getattr, "text", "upper"),
    "builtins.object|copy_reg._reconstructor": object(),
    "subprocess.Popen|commands.Popen": Calls(subprocess.Popen, ["touch", "owned"]),
    "numpy.load": Calls(np.load, "other.npy", None, True),
    "torch": {"model": torch.ones(2)},
    "tests.weights.test_pickles|test_pickles": Calls(written, None, b""),
    "builtins.set": {1, 2},
    "builtins.complex": 1j,
}


@pytest.mark.parametrize("named", ATTACKS)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_anything_else_is_refused_by_name(tmp_path, monkeypatch, named, protocol):
    monkeypatch.chdir(tmp_path)
    try:
        content = pickle.dumps({"model": {}, "x": ATTACKS[named]}, protocol)
    except (pickle.PicklingError, AttributeError):  # a test module that cannot be imported by name
        pytest.skip("this Python cannot write that pickle")
    path = written(tmp_path, content)
    pattern = "|".join(rf"(asks for the Python object \S*{n})" for n in named.split("|"))
    if named == "builtins.set" and protocol == 4:
        pattern = "holds a set"
    if protocol < 3:
        pattern = pattern.replace("builtins", "__builtin__")
    with pytest.raises(UserError, match=pattern):
        read_pickle(path)
    assert not (tmp_path / "owned").exists()


def test_dotted_names_do_not_lead_out_of_what_is_allowed(tmp_path):
    """Protocol 4 may name ``OrderedDict.__init__.__globals__``."""
    for name in (b"OrderedDict.__init__.__globals__", b"OrderedDict.__class__"):
        program = b"\x80\x04\x8c\x0bcollections\x8c" + bytes([len(name)]) + name + b"\x93."
        with pytest.raises(UserError, match=r"collections\.OrderedDict\.__"):
            read_pickle(written(tmp_path, program))


def test_a_pickle_cannot_write_into_what_the_next_one_uses(tmp_path):
    """BUILD with slots sets attributes, also of a class."""
    name = b"X\x08\x00\x00\x00__init__"
    program = b"\x80\x02ccollections\nOrderedDict\n(N}" + name + b"K\x01stb0}."  # __init__ = 1
    path = written(tmp_path, program)
    assert read_pickle(path) == {}
    expected = contents()
    found = read_pickle(written(tmp_path, pickle.dumps(expected)))
    assert np.array_equal(found["model"]["weight"], expected["model"]["weight"])


def array_pickle(dtype: bytes, shape: bytes, data: bytes) -> bytes:
    return (
        b"\x80\x03cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tC\x01btR"
        b"(K\x01" + shape + b"cnumpy\ndtype\n(X" + struct.pack("<I", len(dtype)) + dtype
        + b"K\x00K\x01tR(K\x03X\x01\x00\x00\x00<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        + data + b"tb."
    )  # fmt: skip


@pytest.mark.parametrize(
    ("dtype", "shape", "data", "message"),
    [
        (b"O8", b"K\x01\x85", b"]K\x01a", "type 'O8', which is not a plain number"),
        (b"V8", b"K\x01\x85", b"C\x08abcdefgh", "type 'V8'"),
        (b"f4", b"K\x03\x85", b"C\x08abcdefgh", r"8 bytes for an array of shape \(3,\)"),
        (b"f4", b"J\xff\xff\xff\xff\x85", b"C\x08abcdefgh", r"impossible shape \(-1,\)"),
        (b"f4", b"J\xff\xff\xff\x7f\x85", b"C\x08abcdefgh", "8 bytes for an array"),
        (b"f4", b"K\x02\x85", b"K\x07", "without data"),
    ],
)
def test_arrays_that_are_not_what_they_say_are_refused(tmp_path, dtype, shape, data, message):
    with pytest.raises(UserError, match=message):
        read_pickle(written(tmp_path, array_pickle(dtype, shape, data)))
    good = array_pickle(b"f4", b"K\x02\x85", b"C\x08" + np.array([1, 2], "<f4").tobytes())
    assert read_pickle(written(tmp_path, good)).tolist() == [1, 2]


def test_what_contains_itself_is_refused(tmp_path):
    endless: list = []
    endless.append(endless)
    with pytest.raises(UserError, match="nested more than"):
        read_pickle(written(tmp_path, pickle.dumps(endless)))


@pytest.mark.parametrize("number", [b"r\xff\xff\xff\x00", b"q\x02", b"p7\n"])
def test_a_number_that_would_take_the_memory_is_refused(tmp_path, number):
    """Python's unpickler makes room for as many objects as the number says."""
    with pytest.raises(UserError, match="gives the number"):
        read_pickle(written(tmp_path, b"\x80\x02}" + number + b"."))
    for fine in (b"q\x00", b"q\x01", b"r\x01\x00\x00\x00", b"p0\n"):  # Python 2 began at 1
        assert read_pickle(written(tmp_path, b"\x80\x02}" + fine + b".")) == {}


def test_other_encodings_and_missing_files_get_a_sentence(tmp_path):
    import codecs

    with pytest.raises(UserError, match="text encoding 'rot13'"):
        read_pickle(written(tmp_path, pickle.dumps(Calls(codecs.encode, "a", "rot13"), 2)))
    with pytest.raises(UserError, match="Cannot read"):
        read_pickle(tmp_path / "absent.pkl")


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_damaged_files_end_in_one_sentence(tmp_path_factory, data):
    """Cut and altered bytes raise UserError or give plain values; nothing else gets out."""
    content = bytearray(pickle.dumps(contents(), data.draw(st.integers(0, 5))))
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)))]
    path = tmp_path_factory.mktemp("damaged") / "model.pkl"
    path.write_bytes(content)
    try:
        found = read_pickle(path)
    except UserError as error:
        assert str(path) in str(error)  # noqa: PT017
    else:
        pickle.dumps(found)
