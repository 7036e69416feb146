"""Measured numbers know their origin; files are written whole or not at all."""

import json
import os
import socket

import pytest

from mrcnn_edu.files import write_atomically, write_json
from mrcnn_edu.provenance import provenance


def test_a_measurement_says_where_it_comes_from():
    origin = provenance({"steps": 3}, seed=7)
    assert origin["config"] == {"steps": 3}
    assert origin["seed"] == 7
    assert {"commit", "clean", "machine", "versions", "date"} <= origin.keys()
    assert origin["machine"]["cores"] == os.cpu_count()
    assert origin["versions"]["torch"]
    assert socket.gethostname() not in json.dumps(origin)


def test_write_and_replace(tmp_path):
    path = tmp_path / "new" / "a.json"
    write_json(path, {"a": 1})
    write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 2}
    assert [p.name for p in path.parent.iterdir()] == ["a.json"]


def test_a_failed_write_changes_nothing(tmp_path, monkeypatch):
    path = tmp_path / "a"
    write_atomically(path, b"old")

    def fail(source, target):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
