"""The loop: schedule, order of images, exact resume, and what happens when something goes wrong."""

import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from numba import njit

import mrcnn_edu.training.run_folder
import mrcnn_edu.training.train
from mrcnn_edu.errors import TrainingDivergedError, UserError
from mrcnn_edu.model import MaskRCNN
from mrcnn_edu.training.batches import load_sample, make_batch
from mrcnn_edu.training.config import TrainConfig, recipe
from mrcnn_edu.training.order import make_order
from mrcnn_edu.training.run_folder import STATE
from mrcnn_edu.training.run_log import STEP_LOG, read_metrics
from mrcnn_edu.training.stop import TrainingInterruptedError
from mrcnn_edu.training.train import compile_parts, train
from mrcnn_edu.weights.checkpoint import MODEL, load_model
from tests.fake_data import Wrapped, small_config, small_shapes

CONFIG = TrainConfig(steps=6, batch_size=2, warmup_steps=2, seed=4)


def losses_of(folder: Path) -> list[dict]:
    timings = {"seconds", "waited"}
    return [
        {k: v for k, v in m.items() if k not in timings} for m in read_metrics(folder / STEP_LOG)
    ]


def run(folder: Path, config: TrainConfig = CONFIG, dataset=None) -> torch.nn.Module:
    data = small_shapes() if dataset is None else dataset
    return train(small_config(), config, data, folder, progress=False)


@contextmanager
def a_run_until_killed(folder: Path, changes: str, file: str) -> Iterator[subprocess.Popen]:
    """A process that trains in ``folder``, from when it has written ``file``; then SIGKILL."""
    code = (
        "import dataclasses, sys; from pathlib import Path; "
        "from tests.training.test_train import CONFIG, run; "
        f"run(Path(sys.argv[1]), dataclasses.replace(CONFIG, {changes}))"
    )
    root = Path(__file__).resolve().parents[2]
    child = subprocess.Popen([sys.executable, "-c", code, str(folder)], cwd=root)
    try:
        deadline = time.monotonic() + 120
        while not (folder / file).exists() and child.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield child
    finally:
        child.kill()
        child.wait()


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """An undisturbed run of six steps: (folder, model)."""
    folder = tmp_path_factory.mktemp("unbroken")
    return folder, run(folder)


def test_a_run_leaves_a_usable_folder(unbroken):
    folder, model = unbroken
    metrics = read_metrics(folder / STEP_LOG)
    assert [m["step"] for m in metrics] == [1, 2, 3, 4, 5, 6]
    assert all(m["loss"] > 0 for m in metrics)
    loaded = load_model(folder)
    assert loaded.step == 6
    assert loaded.categories.names[0] == "disc"
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], value), name


def test_same_seed_same_losses_to_the_bit(unbroken, tmp_path):
    model = run(tmp_path)
    assert losses_of(tmp_path) == losses_of(unbroken[0])
    for name, value in unbroken[1].state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    other = tmp_path / "other"
    run(other, TrainConfig(steps=6, batch_size=2, warmup_steps=2, seed=5))
    assert losses_of(other) != losses_of(unbroken[0])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_and_resumed_equals_unbroken(unbroken, tmp_path, number):
    calls = Counter()

    def interrupt(index, image, target):
        calls["samples"] += 1
        if calls["samples"] == 5:  # in the third step
            os.kill(os.getpid(), number)
        return image, target

    before = signal.getsignal(number)
    with pytest.raises(TrainingInterruptedError, match=r"after step 3 of 6.*Run the same command"):
        run(tmp_path, dataset=Wrapped(small_shapes(), interrupt))
    assert signal.getsignal(number) is before
    assert load_model(tmp_path / MODEL).step == 3
    model = run(tmp_path)
    assert losses_of(tmp_path) == losses_of(unbroken[0])
    for name, value in unbroken[1].state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


def test_killed_and_resumed_equals_unbroken(unbroken, tmp_path):
    """SIGKILL at a random moment of a run that saves at every step."""
    with a_run_until_killed(tmp_path, "checkpoint_seconds=0.0", STATE) as child:
        time.sleep(random.uniform(0, 0.3))
    # A slow child was killed; a fast one may have finished, and then there is nothing to resume.
    assert child.returncode in (-signal.SIGKILL, 0)
    (tmp_path / f".{STATE}.half").write_bytes(b"as a kill in the middle of a save leaves it")
    model = run(tmp_path, dataclasses.replace(CONFIG, checkpoint_seconds=0.0))
    assert losses_of(tmp_path) == losses_of(unbroken[0])
    for name, value in unbroken[1].state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]  # no half files


def test_a_finished_run_is_not_trained_again(unbroken):
    folder, model = unbroken
    before = (folder / STEP_LOG).read_bytes()
    again = run(folder)
    assert (folder / STEP_LOG).read_bytes() == before
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)


def test_divergence_stops_with_the_facts_and_keeps_the_checkpoint(tmp_path):
    start = TrainConfig(steps=6, batch_size=2, warmup_steps=0, checkpoint_seconds=0, seed=4)
    calls = Counter()

    def poison(index, image, target):
        calls["samples"] += 1
        return (image * float("nan") if calls["samples"] > 6 else image.float() / 255), target

    with pytest.raises(TrainingDivergedError) as caught:
        run(tmp_path, start, Wrapped(small_shapes(), poison))
    message = str(caught.value)
    assert "Step 4" in message
    assert "rpn_objectness is nan" in message
    assert "learning rate" in message
    ids = [i + 1 for _, i in make_order(small_shapes(), start).step(3, 2)]
    assert f"images {ids}" in message
    loaded = load_model(tmp_path)
    assert loaded.step == 3
    assert all(torch.isfinite(v).all() for v in loaded.model.state_dict().values())


def test_an_infinite_gradient_does_not_reach_the_weights(tmp_path, monkeypatch):
    """All losses are finite, the gradient is not: the last good weights must stay good."""
    steps, step = Counter(), mrcnn_edu.training.train.train_step

    def overflow(state, *arguments):
        steps["taken"] += 1
        if steps["taken"] == 4:
            weight = state.model.box_head.classes.weight
            weight.register_hook(lambda gradient: gradient * float("inf"))
        return step(state, *arguments)

    monkeypatch.setattr(mrcnn_edu.training.train, "train_step", overflow)
    often = dataclasses.replace(CONFIG, checkpoint_seconds=0)
    with pytest.raises(TrainingDivergedError, match=r"Step 4.*the norm of the gradient is"):
        run(tmp_path, often)
    loaded = load_model(tmp_path)
    assert loaded.step == 3
    assert all(torch.isfinite(v).all() for v in loaded.model.state_dict().values())


def test_a_run_killed_between_its_last_two_files_still_gets_its_model(tmp_path, monkeypatch):
    def killed(*arguments):
        raise RuntimeError("killed")

    monkeypatch.setattr(mrcnn_edu.training.run_folder, "save_state", killed)
    with pytest.raises(RuntimeError, match="killed"):
        run(tmp_path)
    monkeypatch.undo()
    run(tmp_path)
    assert load_model(tmp_path).step == 6


def test_a_run_does_not_go_on_with_another_data_set(unbroken, tmp_path):
    (tmp_path / STATE).write_bytes((unbroken[0] / STATE).read_bytes())
    with pytest.raises(UserError, match="trained on another data set"):
        run(tmp_path, dataset=small_shapes(7))


def test_saving_more_often_is_no_other_configuration(unbroken, tmp_path):
    (tmp_path / STATE).write_bytes((unbroken[0] / STATE).read_bytes())
    run(tmp_path, dataclasses.replace(CONFIG, checkpoint_seconds=7))


def test_frozen_layers_without_pretrained_weights_are_refused(tmp_path):
    frozen = small_config(backbone_norm="frozen_bn")
    with pytest.raises(UserError, match="pretrained weights"):
        train(frozen, CONFIG, small_shapes(), tmp_path, progress=False)


def test_targets_need_only_boxes_labels_and_masks(tmp_path):
    def bare(index, image, target):
        return image, {k: target[k] for k in ("boxes", "labels", "masks")}

    config = small_config(short_side=80, long_side=80)
    train(config, CONFIG, Wrapped(small_shapes(), bare), tmp_path, progress=False)
    assert load_model(tmp_path).step == 6


def test_a_state_of_another_configuration_is_refused(unbroken, tmp_path):
    (tmp_path / STATE).write_bytes((unbroken[0] / STATE).read_bytes())
    with pytest.raises(UserError, match=r"another TrainConfig \(learning_rate: 0.002 there, 0.1"):
        run(tmp_path, TrainConfig(steps=6, batch_size=2, warmup_steps=2, seed=4, learning_rate=0.1))


@pytest.mark.parametrize("content", [b"", b"not a zip", None])
def test_a_damaged_state_is_refused(unbroken, tmp_path, content):
    whole = (unbroken[0] / STATE).read_bytes()
    (tmp_path / STATE).write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(UserError, match="cut short"):
        run(tmp_path)


def test_a_pickle_that_runs_code_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "evil"),))

    torch.save({"format": Evil()}, tmp_path / STATE)
    with pytest.raises(UserError, match="not a state that mrcnn_edu wrote"):
        run(tmp_path)
    assert not (tmp_path / "evil").exists()


def test_two_runs_do_not_write_into_one_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(mrcnn_edu.training.run_folder, "PATIENCE", 0.1)
    half = tmp_path / f".{STATE}.half"
    with a_run_until_killed(tmp_path, "steps=10_000", STEP_LOG):
        half.write_bytes(b"which the other is just writing")
        with pytest.raises(UserError, match="Another run is at work in"):
            run(tmp_path)
        assert half.exists()
    run(tmp_path)  # whoever was killed holds nothing
    assert not half.exists()


def test_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="Choose another with --out"):
        run(tmp_path / "file" / "run")


def test_broken_samples_and_sets_are_refused(tmp_path):
    def xywh(index, image, target):
        boxes = target["boxes"].clone()
        boxes[:, 2:] -= boxes[:, :2]
        return image, {**target, "boxes": boxes}

    with pytest.raises(UserError, match="xywh"):
        run(tmp_path / "a", dataset=Wrapped(small_shapes(), xywh))
    with pytest.raises(UserError, match="no images"):
        run(tmp_path / "b", dataset=small_shapes(0))
    with pytest.raises(UserError, match="model has 4 classes and the training set 10"):
        train(small_config(num_classes=4), CONFIG, small_shapes(), tmp_path / "c", progress=False)


def test_metrics_are_json_lines(unbroken):
    names = {"step", "lr", "loss", "rpn_objectness", "rpn_box", "box_class", "box", "mask"}
    for line in (unbroken[0] / STEP_LOG).read_text().splitlines():
        assert names <= set(json.loads(line))


def test_compiled_parts_have_the_same_names_losses_and_gradients():
    """Captured as graphs and run as they are: generating code for them takes minutes."""
    # The normalisation of the COCO models. aot_eager takes the output of a GroupNorm for contiguous
    # where it is channels last, and a view of it fails.
    config = small_config(backbone_norm="frozen_bn", head_norm="none")
    torch.manual_seed(0)
    plain, compiled = MaskRCNN(config).train(), MaskRCNN(config).train()
    compiled.load_state_dict(plain.state_dict())
    compile_parts(compiled, backend="aot_eager")
    assert list(compiled.state_dict()) == list(plain.state_dict())
    data = small_shapes()
    for places in ([(0, 0), (0, 1)], [(0, 2)]):  # other numbers of images and RoIs
        batch = make_batch([load_sample(data, p, CONFIG, small_config()) for p in places])
        found = []
        for model in (plain, compiled):
            model.zero_grad()
            generators = batch.generators(0, "cpu")
            losses = model.losses(model(batch.images), batch.targets, generators)
            torch.stack(list(losses.values())).sum().backward()
            found.append({**losses, **{n: p.grad for n, p in model.named_parameters()}})
        for name, value in found[0].items():
            torch.testing.assert_close(found[1][name], value, rtol=1e-4, atol=1e-5)


def test_weights_to_begin_with(tmp_path):
    torch.manual_seed(7)
    initial = MaskRCNN(small_config()).state_dict()
    kept = dataclasses.replace(CONFIG, steps=1, learning_rate=0.0, average_decay=0.0)
    model = train(small_config(), kept, small_shapes(), tmp_path, progress=False, initial=initial)
    for name, value in model.state_dict().items():
        assert torch.equal(value, initial[name]), name
    # Frozen layers are welcome when somebody has trained them.
    frozen = small_config(backbone_norm="frozen_bn")
    weights = MaskRCNN(frozen).state_dict()
    train(frozen, kept, small_shapes(), tmp_path / "f", progress=False, initial=weights)
    train(frozen, kept, small_shapes(), tmp_path / "f", progress=False)  # goes on by itself
    weights.popitem()
    with pytest.raises(UserError, match=r"do not fit this model: .* is missing"):
        train(frozen, kept, small_shapes(), tmp_path / "g", progress=False, initial=weights)


def test_the_recipe_of_the_quickstart_goes_on_to_the_bit(tmp_path):
    """Muon's averages and the turns of sizes come back; the workers do not change a bit."""
    whole = dataclasses.replace(
        recipe("tiny"), steps=6, batch_size=2, seed=4, short_sides=(32, 64), grow=True
    )
    expected = run(tmp_path / "whole", whole)
    calls = Counter()

    def interrupt(index, image, target):
        calls["samples"] += 1
        if calls["samples"] == 7:  # in the fourth step, the first of the second size
            os.kill(os.getpid(), signal.SIGINT)
        return image, target

    with pytest.raises(TrainingInterruptedError, match="after step 4 of 6"):
        run(tmp_path / "half", whole, dataset=Wrapped(small_shapes(), interrupt))
    model = run(tmp_path / "half", dataclasses.replace(whole, workers=1))
    assert losses_of(tmp_path / "half") == losses_of(tmp_path / "whole")
    for name, value in expected.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


def test_the_first_step_says_that_it_compiles(tmp_path, monkeypatch, capsys):
    """Once, and only where something is compiled; a function of two numbers stands for a kernel."""
    step = mrcnn_edu.training.train.train_step

    def compiling_step(*given, **options):
        njit(fastmath=False)(lambda a, b: a + b)(1, 2)  # a new function in each step
        return step(*given, **options)

    short = dataclasses.replace(CONFIG, steps=2)
    train(small_config(), short, small_shapes(), tmp_path / "cached")
    assert "compiled" not in capsys.readouterr().out
    monkeypatch.setattr(mrcnn_edu.training.train, "train_step", compiling_step)
    train(small_config(), short, small_shapes(), tmp_path / "fresh")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" in ")[0] for line in lines] == [
        "Compiling kernels, once on this machine …",
        "Kernels compiled",
    ]
