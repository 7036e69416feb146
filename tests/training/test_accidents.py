"""What else happens to runs: going back, other people's files, no memory, damage, Ctrl-C."""

import dataclasses
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from mrcnn_edu.errors import OutOfMemoryError, TrainingDivergedError, UserError
from mrcnn_edu.evaluation.detection_log import DetectionLog
from mrcnn_edu.files import advice
from mrcnn_edu.training.config import TrainConfig
from mrcnn_edu.training.run_folder import CHECKPOINTS, STATE
from mrcnn_edu.training.run_log import STEP_LOG, drop_lines_after
from mrcnn_edu.training.train import train
from mrcnn_edu.weights.checkpoint import MODEL, load_model
from mrcnn_edu.weights.pickles import read_pickle
from tests.fake_data import Wrapped, small_config, small_shapes

ROOT = Path(__file__).resolve().parents[2]
SMALL = TrainConfig(
    steps=4, batch_size=1, warmup_steps=1, seed=4, checkpoint_seconds=0, keep_last=2
)


def run(folder: Path, config: TrainConfig = SMALL, dataset=None) -> torch.nn.Module:
    data = small_shapes() if dataset is None else dataset
    return train(small_config(), config, data, folder, progress=False)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "finished"
    run(folder)
    return folder


@pytest.fixture
def done(finished, tmp_path) -> Path:
    """A copy of a finished run of four steps that keeps the last two."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in (folder / CHECKPOINTS).iterdir())


def test_going_back_writes_over_no_kept_checkpoint_and_keeps_new_ones(done):
    newest = done / CHECKPOINTS / "0000004" / STATE
    before = newest.read_bytes()
    shutil.copyfile(done / CHECKPOINTS / "0000003" / STATE, done / STATE)  # into the same file
    assert newest.read_bytes() == before
    shutil.copytree(done / CHECKPOINTS / "0000004", done / CHECKPOINTS / "0000009")
    other = dataclasses.replace(SMALL, keep_last=1)  # a branch behind it is not what is newest
    run(done, dataclasses.replace(other, keep_last=2))
    assert names(done) == ["0000003", "0000004", "0000009"]


def test_other_peoples_files_stay_and_stop_nothing(done):
    kept = done / CHECKPOINTS
    (kept / ".DS_Store").write_bytes(b"x")
    for name in ("0000001_good", ".hidden", "notes"):
        (kept / name).mkdir()
    (kept / "0000002").write_bytes(b"a file")
    (kept / ".0000003").mkdir()  # ours, half a checkpoint
    shutil.copyfile(kept / "0000003" / STATE, done / STATE)
    run(done)
    assert names(done) == [
        ".DS_Store", ".hidden", "0000001_good", "0000002", "0000003", "0000004", "notes",
    ]  # fmt: skip


def test_weights_that_a_step_made_infinite_are_not_saved(tmp_path):
    config = dataclasses.replace(
        SMALL, steps=1, warmup_steps=0, learning_rate=1e39, average_decay=0.0, optimizer="sgd"
    )
    with pytest.raises(TrainingDivergedError, match=r"Step 1 has made the weights .* not saved"):
        run(tmp_path, config)
    assert load_model(tmp_path).step == 0  # those from before the first step
    assert not (tmp_path / STATE).exists()
    run(tmp_path, dataclasses.replace(config, learning_rate=1e-3))  # the folder is free


def test_memory_that_runs_out_between_steps_loses_nothing(tmp_path):
    calls = []

    def greedy(index, image, target):
        calls.append(index)
        if len(calls) == 3:
            raise MemoryError("Unable to allocate 8.00 GiB")
        return image, target

    config = dataclasses.replace(SMALL, checkpoint_seconds=600)
    with pytest.raises(OutOfMemoryError, match=r"in step 3 \(Unable.*up to step 2 is in.*--accum"):
        run(tmp_path, config, Wrapped(small_shapes(), greedy))
    assert torch.load(tmp_path / STATE, weights_only=True)["step"] == 2


def test_memory_that_runs_out_while_weights_move_saves_no_half(tmp_path, monkeypatch):
    step = torch.optim.AdamW.step
    calls = []

    def greedy(self, *arguments, **options):
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried …")
        return step(self, *arguments, **options)

    monkeypatch.setattr(torch.optim.AdamW, "step", greedy)
    with pytest.raises(OutOfMemoryError, match="up to the last checkpoint"):
        run(tmp_path)
    assert torch.load(tmp_path / STATE, weights_only=True)["step"] == 2


def test_other_errors_are_not_called_memory(tmp_path):
    def broken(index, image, target):
        raise RuntimeError("my own mistake")

    for workers in (0, 1):
        config = dataclasses.replace(SMALL, workers=workers, steps=1)
        with pytest.raises(RuntimeError, match="my own mistake") as error:
            run(tmp_path / str(workers), config, Broken(small_shapes(), broken))
        assert not isinstance(error.value, UserError)


class Broken(Wrapped):
    """Its mistakes are not those of a file."""

    def __init__(self, dataset, change) -> None:
        super().__init__(dataset, None)

    def __getitem__(self, index):
        raise RuntimeError("my own mistake")


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.pop("step"),
        lambda s: s.update(step="x"),
        lambda s: s.update(step=-3),
        lambda s: s.update(model=None),
        lambda s: s.update(model={}),
        lambda s: s.update(optimizer={}),
        lambda s: s.update(average=[]),
        lambda s: s.update(model_config="{"),
        lambda s: s.update(train_config="null"),
        lambda s: s.update(train_config='{"steps": "x"}'),
        lambda s: s["model"].update({k: v * float("nan") for k, v in s["model"].items()}),
    ],
)
def test_a_poisoned_state_is_a_sentence(done, change):
    state = torch.load(done / STATE, weights_only=True)
    change(state)
    torch.save(state, done / STATE)
    with pytest.raises(UserError, match=r"state\.pt"):
        run(done)


@pytest.mark.parametrize(
    "change",
    [
        lambda h: h.pop("model_config"),
        lambda h: h.pop("step"),
        lambda h: h.update(model_config=""),
        lambda h: h.update(model_config="null"),
        lambda h: h.update(categories="{}"),
        lambda h: h.update(categories='{"ids": [1], "names": ["a"]}'),
        lambda h: h.update(step="x"),
    ],
)
def test_a_poisoned_header_is_a_sentence(done, change):
    path = done / MODEL
    with safe_open(path, "pt") as file:
        header = dict(file.metadata())
    change(header)
    save_file(load_file(path), path, header)
    with pytest.raises(UserError, match=r"header of .* is damaged"):
        load_model(path)


def test_weights_that_are_not_numbers_are_not_loaded(done):
    path = done / MODEL
    with safe_open(path, "pt") as file:
        header = dict(file.metadata())
    save_file({k: v * float("nan") for k, v in load_file(path).items()}, path, header)
    with pytest.raises(UserError, match="are NaN or infinite"):
        load_model(path)


def test_a_finished_run_says_how_to_train_for_longer(done):
    with pytest.raises(UserError, match=r"steps: 4 there, 8 now.*begin from its weights"):
        run(done, dataclasses.replace(SMALL, steps=8))


def test_damaged_lines_of_a_log_are_dropped(tmp_path):
    path = tmp_path / STEP_LOG
    lines = ['{"step": 1}', "[1]", "{", '{"step": "2"}', "\x00", "5", '{"step": 3}', '{"step": 9}']
    path.write_text("\n".join(lines) + '\n{"ste')
    drop_lines_after(path, 4)
    assert path.read_text() == '{"step": 1}\n{"step": 3}\n'


@pytest.mark.parametrize(
    "line", ["{", "[]", "5", '{"index": 1}', '{"index": "1", "detections": []}', '"\x00"']
)
def test_a_damaged_detection_log_is_a_sentence(tmp_path, line):
    path = tmp_path / "detections.part0.jsonl"
    path.write_text(json.dumps({"run": "mine"}) + f"\n{line}\n")
    with pytest.raises(UserError, match=r"is damaged.*Delete it"):
        DetectionLog(tmp_path, "mine")


def test_lists_of_references_to_one_list_take_no_more_than_the_file(tmp_path):
    value: list = []
    for _ in range(18):
        value = [value] * 8
    path = tmp_path / "w.pkl"
    path.write_bytes(pickle.dumps({"model": value}, 2))
    start = time.monotonic()
    found = read_pickle(path)["model"]
    assert time.monotonic() - start < 5
    assert found[0] is found[7]
    loop: list = []
    loop.append(loop)
    path.write_bytes(pickle.dumps(loop, 2))
    with pytest.raises(UserError, match="nested more than"):
        read_pickle(path)


def test_what_to_do_depends_on_what_went_wrong():
    assert "Free some space" in advice(OSError(28, "No space left on device"))
    assert "folder is gone" in advice(FileNotFoundError(2, "No such file"))
    assert "may write to" in advice(PermissionError(13, "Permission denied"))


CTRL_C = """
import sys
from pathlib import Path
if __name__ == "__main__":
    from tests.training.test_accidents import SMALL, run
    import dataclasses
    from mrcnn_edu.training.stop import TrainingInterruptedError
    try:
        run(Path(sys.argv[1]), dataclasses.replace(SMALL, steps=10_000, workers=1))
    except TrainingInterruptedError as stopped:
        print(stopped)
        sys.exit(130)
"""


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for the fork server in /proc")
def test_ctrl_c_while_workers_start_is_no_traceback(tmp_path):
    child = subprocess.Popen(
        [sys.executable, "-c", CTRL_C, tmp_path], cwd=ROOT, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    server = Path(f"/proc/{child.pid}/task/{child.pid}/children")
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and child.poll() is None:
        ids = server.read_text().split()
        if any(b"forkserver" in Path(f"/proc/{i}/cmdline").read_bytes() for i in ids):
            break
        time.sleep(0.02)
    time.sleep(0.3)  # it imports for seconds
    os.killpg(child.pid, signal.SIGINT)
    out, err = child.communicate(timeout=120)
    assert "Traceback" not in err
    assert "Stopped after step" in out
    assert child.returncode == 130
