"""What may happen to a run: a kill, a full disk, a dead worker, a loss that is not a number."""

import dataclasses
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import torch

from mrcnn_edu.errors import TrainingDivergedError, UserError
from mrcnn_edu.training.config import TrainConfig
from mrcnn_edu.training.loader import WorkerDiedError
from mrcnn_edu.training.run_folder import BEST, CHECKPOINTS, STATE
from mrcnn_edu.training.run_log import STEP_LOG, read_evaluations, read_metrics
from mrcnn_edu.training.train import train
from mrcnn_edu.weights.checkpoint import load_model
from tests.fake_data import Wrapped, small_config, small_shapes

ROOT = Path(__file__).resolve().parents[2]
# Everything that a state has to hold: float16's scaler, an average, parts, workers, evaluations.
FULL = TrainConfig(
    steps=4,
    batch_size=4,
    accumulate=2,
    warmup_steps=2,
    seed=4,
    precision="fp16",
    workers=1,
    checkpoint_seconds=0,
    evaluate_every=2,
    keep_last=2,
)


def run(folder: Path, config: TrainConfig, dataset=None) -> torch.nn.Module:
    data = small_shapes() if dataset is None else dataset
    validation = small_shapes(3, 9) if config.evaluate_every else None
    return train(small_config(), config, data, folder, progress=False, validation=validation)


def losses_of(folder: Path) -> list[dict]:
    lines = read_metrics(folder / STEP_LOG)
    return [{k: v for k, v in m.items() if k not in ("seconds", "waited")} for m in lines]


def evaluations_of(folder: Path) -> list[dict]:
    return [{k: v for k, v in m.items() if k != "seconds"} for m in read_evaluations(folder)]


def start(code: str, *arguments: object, **options: object) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], cwd=ROOT, env=environment, **options
    )


def test_killed_at_random_and_resumed_equals_unbroken(tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    model = run(whole, FULL)
    code = (
        "import sys; from pathlib import Path\n"
        "if __name__ == '__main__':\n"
        "    from tests.training.test_train_survives import FULL, run\n"
        "    run(Path(sys.argv[1]), FULL)"
    )
    child = start(code, broken)
    path, deadline = broken / STEP_LOG, time.monotonic() + 200
    while child.poll() is None and time.monotonic() < deadline:
        if path.exists() and path.stat().st_size:
            time.sleep(random.uniform(0, 1))
            break
        time.sleep(0.01)
    child.kill()
    assert child.wait() in (-signal.SIGKILL, 0)  # a fast child may have finished
    again = run(broken, FULL)
    assert losses_of(broken) == losses_of(whole)
    assert evaluations_of(broken) == evaluations_of(whole)
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    states = [torch.load(f / STATE, weights_only=True) for f in (whole, broken)]
    assert states[0]["scaler"] == states[1]["scaler"]
    assert states[0]["scaler"]["scale"] > 1
    best = [load_model(f / BEST) for f in (whole, broken)]
    assert best[0].step == best[1].step
    for name, value in best[0].model.state_dict().items():
        assert torch.equal(best[1].model.state_dict()[name], value), name


def test_workers_change_no_number(tmp_path):
    config = dataclasses.replace(FULL, steps=3, precision="float32", evaluate_every=0)
    run(tmp_path / "one", config)
    run(tmp_path / "none", dataclasses.replace(config, workers=0))
    assert losses_of(tmp_path / "one") == losses_of(tmp_path / "none")


class Deadly:
    """Kills its process at the tenth image, which belongs to the third step."""

    calls = 0

    def __call__(self, index: int, image, target):
        self.calls += 1
        if self.calls == 10:
            os.kill(os.getpid(), signal.SIGKILL)
        return image, target


def test_a_dead_worker_loses_nothing(tmp_path):
    config = dataclasses.replace(
        FULL, precision="float32", evaluate_every=0, checkpoint_seconds=600, keep_last=1
    )
    with pytest.raises(WorkerDiedError, match=r"fewer --workers.*up to step \d is saved"):
        run(tmp_path / "broken", config, Wrapped(small_shapes(), Deadly()))
    run(tmp_path / "broken", config)
    run(tmp_path / "whole", config)
    assert losses_of(tmp_path / "broken") == losses_of(tmp_path / "whole")


def test_a_full_disk_loses_no_checkpoint(tmp_path):
    """Files may not pass a size: the third checkpoint cannot be written, the second stays."""
    code = (
        "import resource, sys; from pathlib import Path\n"
        "from mrcnn_edu.errors import UserError\n"
        "import mrcnn_edu.training.run_folder\n"
        "from tests.training.test_train_survives import SMALL, run\n"
        "save = mrcnn_edu.training.run_folder.save_state\n"
        "def fill_the_disk(path, state, *configs):\n"
        "    if state['step'] == 3:\n"
        "        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))\n"
        "    save(path, state, *configs)\n"
        "mrcnn_edu.training.run_folder.save_state = fill_the_disk\n"
        "try:\n"
        "    run(Path(sys.argv[1]), SMALL)\n"
        "except UserError as error:\n"
        "    print(error); sys.exit(7)\n"
    )
    child = start(code, tmp_path / "full", stdout=subprocess.PIPE, text=True)
    printed, _ = child.communicate(timeout=120)
    assert child.returncode == 7
    assert "Cannot write" in printed
    assert "what was saved before is untouched" in printed
    assert torch.load(tmp_path / "full" / STATE, weights_only=True)["step"] == 2
    run(tmp_path / "full", SMALL)
    run(tmp_path / "whole", SMALL)
    assert losses_of(tmp_path / "full") == losses_of(tmp_path / "whole")


SMALL = TrainConfig(steps=4, batch_size=2, warmup_steps=1, seed=4, checkpoint_seconds=0)


def test_the_limit_that_stands_for_a_full_disk_is_not_set_here():
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def poisoned(steps: set[int], batch_size: int = 2) -> Wrapped:
    """Shapes whose pixels are NaN in some steps."""
    calls = Counter()

    def poison(index, image, target):
        step = calls["images"] // batch_size + 1
        calls["images"] += 1
        return image.float() / (float("nan") if step in steps else 255), target

    return Wrapped(small_shapes(), poison)


def test_steps_that_are_not_finite_are_left_out_if_asked(tmp_path):
    config = dataclasses.replace(SMALL, steps=6, skip_nonfinite=2)
    run(tmp_path, config, poisoned({2, 4}))
    lines = read_metrics(tmp_path / STEP_LOG)
    assert [m["loss"] is None for m in lines] == [False, True, False, True, False, False]
    assert all(torch.isfinite(v).all() for v in load_model(tmp_path).model.state_dict().values())
    assert torch.load(tmp_path / STATE, weights_only=True)["skipped"] == 2


def test_no_more_than_so_many(tmp_path):
    config = dataclasses.replace(SMALL, steps=6, skip_nonfinite=1)
    with pytest.raises(TrainingDivergedError, match=r"Step 4.*rpn_objectness is nan"):
        run(tmp_path, config, poisoned({2, 4}))
    # The step that was left out is remembered by a run that goes on.
    with pytest.raises(TrainingDivergedError, match="Step 4"):
        run(tmp_path, config, poisoned({1}))


def test_a_step_that_is_left_out_changes_nothing(tmp_path):
    config = dataclasses.replace(SMALL, steps=2, skip_nonfinite=1)
    run(tmp_path / "one", dataclasses.replace(config, steps=1, schedule="steps"), poisoned(set()))
    run(tmp_path / "two", dataclasses.replace(config, schedule="steps"), poisoned({2}))
    first, second = (
        torch.load(tmp_path / name / STATE, weights_only=True) for name in ("one", "two")
    )
    for part in ("model", "average"):
        for name, value in first[part].items():
            assert torch.equal(value, second[part][name]), name


def test_running_statistics_cannot_be_protected(tmp_path):
    model = small_config(backbone_norm="batch_norm")
    config = dataclasses.replace(SMALL, skip_nonfinite=1)
    with pytest.raises(UserError, match="running statistics"):
        train(model, config, small_shapes(), tmp_path, progress=False)


def test_the_last_checkpoints_and_the_best_are_kept(tmp_path):
    config = dataclasses.replace(SMALL, steps=5, keep_last=3, evaluate_every=2)
    run(tmp_path, config)
    assert sorted(p.name for p in (tmp_path / CHECKPOINTS).iterdir()) == [
        "0000003",
        "0000004",
        "0000005",
    ]
    for step in (3, 4, 5):
        kept = tmp_path / CHECKPOINTS / f"{step:07d}"
        assert load_model(kept).step == step
        assert torch.load(kept / STATE, weights_only=True)["step"] == step
    assert [line["step"] for line in read_evaluations(tmp_path)] == [2, 4, 5]
    best = max(read_evaluations(tmp_path), key=lambda line: line["mask"]["AP"])["step"]
    assert load_model(tmp_path / BEST).step == best
    assert sorted(p.name for p in tmp_path.glob("*.png")) == [
        f"detections_{step:07d}.png" for step in (2, 4, 5)
    ]


def test_going_back_to_an_older_checkpoint(tmp_path):
    config = dataclasses.replace(SMALL, keep_last=3)
    model = run(tmp_path, config)
    before = losses_of(tmp_path)
    (tmp_path / STATE).write_bytes((tmp_path / CHECKPOINTS / "0000002" / STATE).read_bytes())
    again = run(tmp_path, config)
    assert losses_of(tmp_path) == before
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)


def test_an_evaluation_that_a_kill_prevented_is_made_up_for(tmp_path, monkeypatch):
    import mrcnn_edu.training.train

    def killed(*arguments):
        raise RuntimeError("killed")

    config = dataclasses.replace(SMALL, evaluate_every=2)
    with monkeypatch.context() as patch:
        patch.setattr(mrcnn_edu.training.train, "validate", killed)
        with pytest.raises(RuntimeError, match="killed"):
            run(tmp_path, config)
    run(tmp_path, config)
    assert [line["step"] for line in read_evaluations(tmp_path)] == [2, 4]
