"""A JSON file is read as `json.loads` reads its bytes, and the garbage collector goes on after."""

import gc
import json

import pytest

from mrcnn_edu.files import read_json, write_json


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_any_encoding_that_json_allows(tmp_path, encoding):
    content = [{"id": 1, "name": "Zürich – 東京", "box": [0.5, 1e-7, -3]}, None, []]
    path = tmp_path / "a.json"
    path.write_bytes(json.dumps(content, ensure_ascii=False).encode(encoding))
    assert read_json(path) == json.loads(path.read_bytes()) == content


def test_what_was_written_comes_back(tmp_path):
    write_json(tmp_path / "a.json", {"a": [1, 2.5]})
    assert read_json(tmp_path / "a.json") == {"a": [1, 2.5]}


@pytest.mark.parametrize("collecting", [True, False])
def test_the_collector_is_left_as_it_was(tmp_path, collecting):
    path = tmp_path / "a.json"
    path.write_text("[1, 2")
    was = gc.isenabled()
    (gc.enable if collecting else gc.disable)()
    try:
        with pytest.raises(ValueError, match="is not JSON"):
            read_json(path)
        assert gc.isenabled() == collecting
    finally:
        (gc.enable if was else gc.disable)()
