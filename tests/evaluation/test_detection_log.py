"""An evaluation that was killed goes on; several processes share one; the results are the same."""

import functools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from mrcnn_edu.errors import UserError
from mrcnn_edu.evaluation import detect as evaluation_module
from mrcnn_edu.evaluation.detect import coco_results
from mrcnn_edu.evaluation.detection_log import DetectionLog
from mrcnn_edu.model import MaskRCNN
from tests.fake_data import Wrapped, small_config, small_shapes

ROOT = Path(__file__).resolve().parents[2]


def busy_model() -> MaskRCNN:
    torch.manual_seed(0)
    model = MaskRCNN(small_config())
    with torch.no_grad():
        model.box_head.classes.weight.mul_(5)
    return model


def evaluate(folder: Path | None, images: int = 7, batch_size: int = 2, seen: list | None = None):
    def change(index, image, target):
        if seen is not None:
            seen.append(index)
        return image, target

    dataset = Wrapped(small_shapes(images), change)
    return coco_results(busy_model(), dataset, batch_size, progress=False, folder=folder)


@functools.cache
def unbroken() -> list[dict]:
    """What one process finds that nobody stops."""
    return evaluate(None)


def names(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()}


def test_results_are_written_whole(tmp_path):
    assert evaluate(tmp_path) == unbroken()
    assert names(tmp_path) == {"detections.json"}
    assert json.loads((tmp_path / "detections.json").read_text()) == unbroken()


@pytest.mark.parametrize("cut", [0, 1, 30, 200])
def test_goes_on_behind_the_last_whole_batch(tmp_path, cut, monkeypatch):
    """Stopped after two of four batches, its file cut somewhere: only what is missing is done."""

    class Killed(Exception):
        pass

    append = DetectionLog.append

    def append_twice(self, indices, found):
        append(self, indices, found)
        if len(self.done) == 4:
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(DetectionLog, "append", append_twice)
        with pytest.raises(Killed):
            evaluate(tmp_path)
    part = tmp_path / "detections.part0.jsonl"
    part.write_bytes(part.read_bytes()[: -cut or None])
    seen: list[int] = []
    assert evaluate(tmp_path, seen=seen) == unbroken()
    assert set(seen) == ({4, 5, 6} if cut == 0 else {2, 3, 4, 5, 6})
    assert names(tmp_path) == {"detections.json"}


def test_a_real_kill(tmp_path):
    code = (
        "import sys, pathlib; from tests.evaluation.test_detection_log import evaluate; "
        "evaluate(pathlib.Path(sys.argv[1]), images=20, batch_size=1)"
    )
    part = tmp_path / "detections.part0.jsonl"
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT)
    until = time.monotonic() + 120
    while child.poll() is None and time.monotonic() < until:
        if part.exists() and part.read_bytes().count(b"\n") > 3:
            child.send_signal(signal.SIGKILL)
            break
        time.sleep(0.005)
    child.wait()
    assert child.returncode == -signal.SIGKILL
    seen: list[int] = []
    assert evaluate(tmp_path, 20, 1, seen) == evaluate(None, 20, 1)
    assert 0 < len(seen) < 18


def test_what_another_run_left_is_refused(tmp_path):
    DetectionLog(tmp_path, "another").append([0], [[]])
    with pytest.raises(UserError, match=r"part0\.jsonl was left by an evaluation of another model"):
        evaluate(tmp_path)


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def work(rank: int, processes: int, folder: str, port: int) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=processes)
    seen: list[int] = []
    found = evaluate(Path(folder), seen=seen)
    dist.destroy_process_group()
    Path(folder, f"rank{rank}.json").write_text(json.dumps({"found": found, "seen": seen}))


@pytest.mark.parametrize("left", [False, True])
def test_two_processes_share_the_work(tmp_path, left):
    """Together they find what one finds, also when they go on with what three had begun."""
    expected = unbroken()
    if left:
        by_image = {i: [] for i in small_shapes(7).image_ids}
        for r in expected:
            by_image[r["image_id"]].append(r)
        run = evaluation_module._fingerprint(busy_model(), small_shapes(7), 2)
        log = DetectionLog(tmp_path, run, rank=2)
        log.append([2, 3], list(by_image.values())[2:4])
        log.close()
    mp.spawn(work, (2, str(tmp_path), free_port()), nprocs=2)
    seen = []
    for rank in (0, 1):
        part = json.loads((tmp_path / f"rank{rank}.json").read_text())
        assert part["found"] == expected
        assert part["seen"]
        seen += part["seen"]
    assert sorted(seen) == ([0, 1, 4, 5, 6] if left else [*range(7)])
    assert json.loads((tmp_path / "detections.json").read_text()) == expected
    assert not list(tmp_path.glob("*.jsonl"))
