"""Two processes train as one: the same losses and gradients, the same run, the same end."""

import dataclasses
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mrcnn_edu.errors import UserError
from mrcnn_edu.model import MaskRCNN
from mrcnn_edu.processes import Processes, processes
from mrcnn_edu.training.config import TrainConfig
from mrcnn_edu.training.distributed import LossModule
from mrcnn_edu.training.refusals import check_division
from mrcnn_edu.training.run_log import STEP_LOG, read_evaluations, read_metrics
from mrcnn_edu.training.train import train
from tests.fake_data import small_config, small_shapes
from tests.training.two_processes import CASES, batch_of, losses_and_gradients

ROOT = Path(__file__).resolve().parents[2]


def torchrun(processes: int, *command: object, timeout: float = 240) -> subprocess.CompletedProcess:
    """Run a script in several processes that find each other on this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={processes}",
         "--master_addr=127.0.0.1", f"--master_port={port}", *map(str, command)],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=timeout, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def of_two_processes(tmp_path_factory):
    path = tmp_path_factory.mktemp("two") / "found.pt"
    done = torchrun(2, ROOT / "tests" / "training" / "two_processes.py", path)
    assert done.returncode == 0, done.stderr[-3000:]
    return torch.load(path, weights_only=True)


@pytest.mark.parametrize("case", CASES)
def test_losses_and_gradients_are_those_of_one_process(of_two_processes, case):
    alone = losses_and_gradients(case, Processes(0, 1, "cpu"))
    together = of_two_processes[case]
    assert alone.keys() == together.keys()
    assert len(alone) > 50
    for name, expected in alone.items():
        scale = float(expected.abs().max())
        error = float((together[name] - expected).abs().max())
        assert error <= 1e-5 * max(scale, 1e-6), f"{name}: {error} of {scale}"


def test_the_cases_are_what_they_say():
    objects = [[len(t["boxes"]) for t in batch_of(range(4), case).targets] for case in CASES]
    first, second = sum(objects[0][:2]), sum(objects[0][2:])
    assert first != second
    assert min(objects[0]) > 0
    assert objects[1][0] == 0 < min(objects[1][1:])
    assert objects[2][:2] == [0, 0]
    assert min(objects[2][2:]) > 0
    assert objects[3] == [0, 0, 0, 0]


def test_the_losses_of_a_batch_ask_the_other_processes_once():
    asked = []

    class Asking(Processes):
        def mean(self, values):
            asked.append(values)
            return values  # as if the others had as many of everything

    torch.manual_seed(0)
    model, batch = MaskRCNN(small_config()).train(), batch_of(range(2), "unequal")
    alone, together = (
        LossModule(model, group)(batch.images, batch.targets, batch.generators(0, "cpu"))
        for group in (Processes(0, 1, "cpu"), Asking(0, 2, "cpu"))
    )
    assert [tuple(values.shape) for values in asked] == [(len(alone),)]
    for name, value in alone.items():
        torch.testing.assert_close(together[name], value, rtol=1e-6, atol=0)


CONFIG = TrainConfig(steps=4, batch_size=4, warmup_steps=2, seed=4, evaluate_every=2)
BREAKS_OFF = """
import dataclasses, sys
from collections import Counter
from pathlib import Path
from mrcnn_edu.training.train import train
from mrcnn_edu.training.refusals import check_division
from tests.fake_data import Wrapped, small_config, small_shapes
from tests.training.test_distributed import CONFIG

def break_off(index, image, target, calls=Counter()):
    calls["images"] += 1
    if calls["images"] > 4:  # two images a step: in the third step
        raise ValueError("broken off")
    return image, target

train(small_config(), CONFIG, Wrapped(small_shapes(), break_off), Path(sys.argv[1]),
      progress=False, validation=small_shapes(4, 9))
"""


def test_a_run_goes_on_with_another_number_of_processes(tmp_path):
    """Two steps on two processes, two on one that takes its images in two parts."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    sets = small_shapes(), small_shapes(4, 9)
    model = train(small_config(), CONFIG, sets[0], whole, progress=False, validation=sets[1])
    script = tmp_path / "breaks_off.py"
    script.write_text(BREAKS_OFF)
    done = torchrun(2, script, broken)
    assert done.returncode != 0
    assert "broken off" in done.stderr
    assert [m["step"] for m in read_metrics(broken / STEP_LOG)] == [1, 2]
    in_parts = dataclasses.replace(CONFIG, accumulate=2)
    again = train(small_config(), in_parts, sets[0], broken, progress=False, validation=sets[1])
    lines = [read_metrics(folder / STEP_LOG) for folder in (whole, broken)]
    assert lines[0][0]["loss"] == pytest.approx(lines[1][0]["loss"], rel=1e-5)
    for ours, theirs in zip(*lines, strict=True):
        # Rounding decides which RoI is sampled now and then; parts are normalised by themselves.
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=0.05)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, rtol=1e-2, atol=5e-3)
    evaluated = [read_evaluations(folder) for folder in (whole, broken)]
    assert [line["step"] for line in evaluated[1]] == [2, 4]
    assert evaluated[0][0]["loss"] == pytest.approx(evaluated[1][0]["loss"], rel=1e-3)


def test_processes_that_cannot_share_the_batch():
    with pytest.raises(UserError, match="4 images a step cannot be divided evenly among 3 proc"):
        check_division(CONFIG, Processes(0, 3, "cpu"))


def test_accumulation_must_divide_too(tmp_path):
    config = dataclasses.replace(CONFIG, accumulate=3)
    with pytest.raises(UserError, match="1 processes in 3 parts"):
        train(small_config(), config, small_shapes(), tmp_path, progress=False)


def test_alone_nothing_is_sent():
    with processes("cpu") as group:
        assert (group.rank, group.world, group.first) == (0, 1, True)
        values = torch.arange(3.0)
        assert group.mean(values) is values
        assert group.share(range(5)) == range(5)
        group.wait()
