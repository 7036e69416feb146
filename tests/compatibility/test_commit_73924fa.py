"""What commit 73924fa wrote is still read: a model, a run to go on with, results of experiments.

``commit_73924fa.json`` was taken from real files of that commit: the names and shapes of all
tensors, in their order, the optimiser's groups, the configurations, two results of `ablate`. The
backbone was called trunk then, and the pyramid stood beside it. The files are made again from it,
with random numbers for the tensors.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from mrcnn_edu.ablations.engine import read
from mrcnn_edu.ablations.run import Run
from mrcnn_edu.config import ModelConfig, from_json
from mrcnn_edu.data.shapes import ShapesConfig
from mrcnn_edu.training.config import TrainConfig
from mrcnn_edu.training.run_folder import STATE, RunFolder
from mrcnn_edu.training.run_log import STEP_LOG, read_metrics
from mrcnn_edu.training.state import steps_done
from mrcnn_edu.training.train import make_state, train
from mrcnn_edu.weights import load_detector
from mrcnn_edu.weights.checkpoint import MODEL, load_model
from mrcnn_edu.weights.files import read_weights
from tests.fake_data import small_config, small_shapes

THEN = json.loads(Path(__file__).with_name("commit_73924fa.json").read_text())
CONFIG = TrainConfig(steps=2, batch_size=2, warmup_steps=1, checkpoint_seconds=0)


def today(name: str) -> str:
    """A tensor's name in the files of today, said without the code that translates it."""
    part, rest = name.split(".", 1)
    return f"{ {'trunk': 'backbone', 'fpn': 'neck.fpn'}.get(part, part) }.{rest}"


def tensors(seed: int) -> dict[str, Tensor]:
    """Each tensor of the model under its old name, in the order of the old file."""
    g = torch.Generator().manual_seed(seed)
    return {n: 0.05 * torch.randn(shape, generator=g) for n, shape in THEN["tensors"].items()}


def weights() -> dict[str, Tensor]:
    return tensors(1)


def averages() -> dict[str, Tensor]:
    return tensors(2)


def moments() -> dict[str, dict[str, Tensor]]:
    """What AdamW remembered of each parameter, by its old name."""
    first, second = tensors(3), tensors(4)
    return {
        name: {
            "step": torch.tensor(float(THEN["step"])),
            "exp_avg": first[name],
            "exp_avg_sq": (0.1 + second[name].abs()) ** 2,
        }
        for name in first
    }


def write_model(path: Path) -> None:
    header = {
        "step": str(THEN["step"]),
        "format": THEN["format"],
        "model_config": json.dumps(THEN["model_config"], indent=1),
        "categories": json.dumps(THEN["categories"]),
    }
    path.write_bytes(safetensors.torch.save(averages(), header))


def write_state(path: Path, **changes: Any) -> None:
    names = [name for group in THEN["param_groups"] for name in group["params"]]
    number = {name: i for i, name in enumerate(names)}
    remembered = moments()
    optimizer = {
        "state": {i: remembered[name] for name, i in number.items()},
        "param_groups": [
            {**group, "params": [number[name] for name in group["params"]]}
            for group in THEN["param_groups"]
        ],
    }
    average = {f"module.{name}": value for name, value in averages().items()}
    content = {
        "format": THEN["format"],
        "model_config": json.dumps(THEN["model_config"], indent=1),
        "train_config": json.dumps(THEN["train_config"], indent=1),
        "data": THEN["data"],
        "step": THEN["step"],
        "skipped": THEN["skipped"],
        "model": weights(),
        "average": {"n_averaged": torch.tensor(THEN["step"]), **average},
        "optimizer": optimizer,
        "scaler": {},
    }
    torch.save(content | changes, path)


def assert_equal(found: dict[str, Tensor], old: dict[str, Tensor]) -> None:
    assert set(found) == {today(name) for name in old}
    for name, value in old.items():
        assert torch.equal(found[today(name)], value), name


@pytest.fixture
def folder(tmp_path) -> Path:
    """A run folder as that commit left it."""
    write_model(tmp_path / MODEL)
    write_state(tmp_path / STATE)
    (tmp_path / "run.lock").touch()
    return tmp_path


def test_the_old_files_have_other_names_than_todays():
    assert sum(name.startswith(("trunk.", "fpn.")) for name in THEN["tensors"]) > 40
    assert {"trunk", "trunk_norm"} <= THEN["model_config"].keys()
    assert not {"backbone", "backbone_norm"} & THEN["model_config"].keys()


@pytest.mark.parametrize("of_folder", [True, False])
def test_a_model(folder, of_folder):
    path = folder if of_folder else folder / MODEL
    loaded = load_model(path)
    assert loaded.model.config == small_config()
    assert loaded.step == 2
    assert loaded.categories == small_shapes(1).categories
    assert_equal(loaded.model.state_dict(), averages())
    known = read_weights(path)
    assert (known.kind, known.path) == ("mrcnn_edu", folder / MODEL)
    assert_equal(known.tensors, averages())
    assert_equal(load_detector(str(path)).model.state_dict(), averages())


def test_a_state_is_read_whole(folder):
    assert steps_done(folder / STATE) == 2
    data = small_shapes(4)
    state = make_state(small_config(), CONFIG, "cpu")
    RunFolder(folder, CONFIG, data.categories, THEN["data"]).load(state)
    assert (state.step, state.skipped) == (2, 0)
    assert_equal(state.model.state_dict(), weights())
    assert state.average is not None
    assert int(state.average.n_averaged) == 2
    assert_equal(state.average.module.state_dict(), averages())
    # The file numbers the parameters: what belongs to which depends on today's order of modules.
    remembered, names = moments(), {p: name for name, p in state.model.named_parameters()}
    assert {names[p] for p in state.optimizer.state} == {today(name) for name in remembered}
    for old, expected in remembered.items():
        found = state.optimizer.state[state.model.get_parameter(today(old))]
        assert found.keys() == expected.keys()
        for kind, value in expected.items():
            assert torch.equal(found[kind], value), (old, kind)
    for group, expected in zip(state.optimizer.param_groups, THEN["param_groups"], strict=True):
        assert [names[p] for p in group["params"]] == [today(name) for name in expected["params"]]
        for option in ("weight_decay", "rate_factor", "lr", "eps"):
            assert group[option] == expected[option]


def test_a_run_that_was_finished_is_not_trained_again(folder):
    model = train(small_config(), CONFIG, small_shapes(4), folder, progress=False)
    assert_equal(model.state_dict(), averages())
    assert not (folder / STEP_LOG).exists()


def test_a_run_goes_on(folder, tmp_path_factory):
    """From step 1 of 2, as one goes on that finds the same numbers under the names of today."""
    write_state(folder / STATE, step=1)
    model = train(small_config(), CONFIG, small_shapes(4), folder, progress=False)
    (line,) = read_metrics(folder / STEP_LOG)
    assert line["step"] == 2
    assert steps_done(folder / STATE) == load_model(folder).step == 2
    again = tmp_path_factory.mktemp("again")
    write_state(again / STATE, step=1)
    content = torch.load(again / STATE, weights_only=True)
    content["model"] = {today(n): v for n, v in weights().items()}
    content["average"] = {
        "n_averaged": torch.tensor(2),
        **{f"module.{today(n)}": v for n, v in averages().items()},
    }
    torch.save(content, again / STATE)
    expected = train(small_config(), CONFIG, small_shapes(4), again, progress=False)
    stepped, averaged = torch.load(folder / STATE, weights_only=True)["model"], model.state_dict()
    for old, before in weights().items():
        name = today(old)
        assert torch.equal(averaged[name], expected.state_dict()[name]), name
        assert 0 < float((stepped[name] - before).abs().max()) < 0.02  # a step, from where it was
        mean = averages()[old].lerp(stepped[name], 0.01)
        torch.testing.assert_close(averaged[name], mean)


def run_of(config: dict[str, Any]) -> Run:
    """A run of today from what an old file says of it."""
    parts = {"model": ModelConfig, "train": TrainConfig, "shapes": ShapesConfig}
    made = {name: from_json(cls, json.dumps(config[name])) for name, cls in parts.items()}
    first = None if config["first"] is None else run_of(config["first"])
    return Run(**{**config, **made, "first": first})


@pytest.mark.parametrize("name", THEN["results"])
def test_a_result(tmp_path, name):
    then = THEN["results"][name]
    run = run_of(then["config"])
    assert run.name != name  # a name is a hash, of the names of fields too
    (tmp_path / f"{name}.json").write_text(json.dumps(then))
    assert run.is_described_by(then["config"])
    found = read(run, tmp_path)
    assert found is not None
    assert found["metrics"] == then["metrics"]
    for other in (
        dataclasses.replace(run, training_images=run.training_images + 1),
        dataclasses.replace(run, model=dataclasses.replace(run.model, backbone_norm="batch_norm")),
    ):
        assert read(other, tmp_path) is None
    (tmp_path / f"{run.name}.json").write_text(json.dumps(then | {"metrics": {}}))
    assert read(run, tmp_path)["metrics"] == {}  # today's file is preferred
