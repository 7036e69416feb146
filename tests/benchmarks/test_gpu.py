"""The script for a GPU: what is done is skipped, what does not finish is stopped."""

import json
import time

import pytest

from benchmarks import gpu
from benchmarks.gpu import PIECES, Piece, ablations_left, command, run_piece, state

ENDLESS = Piece("endless", "http.server", "--bind 127.0.0.1 0", "", 1, "endless.json")


@pytest.fixture
def root(tmp_path, monkeypatch):
    (tmp_path / "results").mkdir()
    monkeypatch.setattr(gpu, "ROOT", tmp_path)
    monkeypatch.setattr(gpu, "LOGS", tmp_path / "logs")
    monkeypatch.delenv("MRCNN_DATA", raising=False)
    return tmp_path


def test_a_piece_is_done_when_its_result_was_measured_on_a_gpu(root):
    path = root / "results" / ENDLESS.result
    assert state(ENDLESS) == "to do"
    path.write_text(json.dumps({"machine": {"cpu": "some"}}))
    assert state(ENDLESS) == "to do"
    path.write_text(json.dumps({"machine": {"cpu": "some", "gpu": "some"}}))
    assert state(ENDLESS) == "done"


def test_a_piece_of_many_runs_is_done_when_none_is_left(root, monkeypatch):
    counts = iter([3, 0])
    many = Piece("many", "x", "", "", 1, "many.md", left=lambda: next(counts))
    assert state(many) == "to do: 3 runs"
    assert state(many) == "done"
    assert ablations_left("persons") == 5 * 5, "tables 5 and 6 share an arm"
    monkeypatch.setenv("MRCNN_DATA", "/nuclei here")
    (piece,) = (p for p in PIECES if p.name == "ablations_nuclei")
    assert command(piece, tiny=False)[-2:] == ["--nuclei", "/nuclei here/nuclei"]


def test_a_piece_with_runs_left_goes_on_the_next_time(root, monkeypatch):
    many = Piece("many", "x", "", "", 1, "many.md", resumes=True, left=lambda: 3)
    monkeypatch.setattr(gpu.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(gpu, "PIECES", (many,))
    monkeypatch.setattr(gpu, "run_piece", lambda *_: 0)
    monkeypatch.setattr(gpu, "provenance", lambda *_: {})
    monkeypatch.setattr("sys.argv", ["gpu"])
    with pytest.raises(SystemExit, match="many is saved and goes on when this is run again"):
        gpu.main()


def test_the_plan_lists_all_and_runs_none(root, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["gpu", "--plan"])
    monkeypatch.setattr(gpu, "run_piece", lambda *_: pytest.fail("it ran"))
    gpu.main()
    printed = capsys.readouterr().out
    for piece in PIECES:
        assert f"{piece.name}: " in printed
        assert piece.arguments in printed
    assert "nuclei: left out: MRCNN_DATA is not set" in printed


def test_a_piece_without_end_is_stopped(root):
    start = time.monotonic()
    assert run_piece(ENDLESS, 2, False, root) is None
    assert time.monotonic() - start < 40


def test_the_status_of_a_piece_and_its_log(root):
    helped = Piece("helped", "http.server", "--help", "--no-such-option", 1, "x.json")
    assert run_piece(helped, 60, False, root) == 0
    assert "usage" in (root / "logs/helped.log").read_text()
    assert run_piece(helped, 60, True, root) == 2


def test_a_piece_is_not_begun_without_time_for_it(root, monkeypatch, capsys):
    monkeypatch.setattr(gpu.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(gpu, "PIECES", (ENDLESS, Piece("long", "x", "", "", 9, "long.json")))
    ran = []
    monkeypatch.setattr(gpu, "run_piece", lambda piece, *_: ran.append(piece.name) or 0)
    monkeypatch.setattr("sys.argv", ["gpu", "--minutes", "9"])
    monkeypatch.setattr(gpu, "provenance", lambda *_: {})
    clock = iter([0.0, 1.0, 1.0, 200.0, 200.0])
    monkeypatch.setattr(gpu.time, "monotonic", lambda: next(clock))
    with pytest.raises(SystemExit, match=r"5.7 minutes left, too few for long"):
        gpu.main()
    assert ran == ["endless"]


def test_every_piece_has_a_name_and_a_result_of_its_own():
    assert len({p.name for p in PIECES}) == len({p.result for p in PIECES}) == len(PIECES)
