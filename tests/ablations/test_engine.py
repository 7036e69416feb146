"""Plans leave out what is done, runs go on after a kill, and arms differ in what they should."""

import dataclasses
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mrcnn_edu.ablations import data as ablation_data
from mrcnn_edu.ablations import run as ablation_run
from mrcnn_edu.ablations.engine import (
    carry_out,
    complete_seeds,
    make_run,
    next_run,
    plan,
    read,
)
from mrcnn_edu.ablations.profiles import PROFILES, profile
from mrcnn_edu.ablations.run import execute
from mrcnn_edu.ablations.table import Arm, Effect, Table
from mrcnn_edu.ablations.tables import TABLES, table
from mrcnn_edu.config import difference
from mrcnn_edu.data.shapes import ShapesConfig
from mrcnn_edu.errors import UserError
from mrcnn_edu.training.train import train

SMOKE = PROFILES["smoke"]


def tiny(**changes):
    """The smoke profile, smaller still."""
    return dataclasses.replace(SMOKE, training_images=4, validation_images=2, **changes)


@pytest.mark.parametrize("which", TABLES, ids=lambda t: t.key)
@pytest.mark.parametrize("size", PROFILES.values(), ids=lambda p: p.name)
def test_arms_differ_in_what_the_table_is_about_and_in_nothing_else(which, size):
    bases = {arm.base for arm in which.arms}
    assert len(bases) == 1 or which.key == "2a", "one base, or arms cannot be compared"
    for data in which.data:
        runs = [make_run(which, arm, size, data, seed=3) for arm in which.arms]
        assert len({run.name for run in runs}) == len(runs)
        for run, arm in zip(runs, which.arms, strict=True):
            assert run.train == runs[0].train
            kept = {name: getattr(run.model, name) for name in arm.changes}
            assert kept == dict(arm.changes), "no profile overwrites what an arm changes"
            if arm.base == which.arms[0].base:
                changed = set(difference(run.model, runs[0].model))
                assert changed <= set(arm.changes) | set(which.arms[0].changes)


@pytest.mark.parametrize("which", TABLES, ids=lambda t: t.key)
def test_published_numbers_have_a_source_and_effects_their_sign(which):
    assert bool(which.source) == any(arm.published for arm in which.arms)
    for effect in which.effects:
        first, second = (which.arm(n).published for n in (effect.first, effect.second))
        if effect.metric in first and effect.metric in second:
            published = first[effect.metric] - second[effect.metric]
            assert abs(published) < effect.smallest if effect.alike else published > 0


def test_a_table_that_contradicts_itself_is_refused():
    arms = (Arm("a", "tiny_fpn"), Arm("b", "tiny_fpn"))
    with pytest.raises(ValueError, match="no arm 'c'"):
        Table("x", "", "", arms, (Effect("a", "c", "box AP", 1.0),), ("box AP",))
    with pytest.raises(ValueError, match="smallest effect above 0"):
        Table("x", "", "", arms, (Effect("a", "b", "box AP", 0.0),), ("box AP",))
    with pytest.raises(ValueError, match="two arms of one name"):
        Table("x", "", "", (arms[0], arms[0]), (), ("box AP",))
    with pytest.raises(UserError, match="did you mean '2c'"):
        table("2cc")
    with pytest.raises(UserError, match="Profiles: smoke, cpu, calm, gpu"):
        profile("laptop")


def test_runs_that_tables_share_are_planned_once_and_seed_by_seed():
    tables = [table("2b"), table("2c")]  # "sigmoid" is "RoIAlign (mean)"
    found = plan(tables, dataclasses.replace(SMOKE, seeds=2), ["shapes"], Path("nowhere"))
    names = [run.name for run in found.left]
    assert len(names) == len(set(names)) == 2 * (3 + 5 - 1)
    assert [run.train.seed for run in found.left] == [0] * 7 + [1] * 7
    assert found.done == ()
    assert plan([table("2b")], SMOKE, ["nuclei"], Path("nowhere")).left == (), "not meant for them"


def test_what_is_done_is_left_out_and_a_changed_file_is_not_trusted(tmp_path):
    which = table("2d")
    run = make_run(which, which.arms[0], SMOKE, "shapes", 0)
    content = {"config": run.config(), "step_seconds": 0.5, "evaluate_seconds": 1.0}
    (tmp_path / f"{run.name}.json").write_text(json.dumps(content))
    found = plan([which], SMOKE, ["shapes"], tmp_path)
    assert found.done == (run,)
    assert [r.name for r in found.left] == [make_run(which, which.arms[1], SMOKE, "shapes", 0).name]
    assert found.seconds == 0.5 * SMOKE.train.steps + 1.0
    del content["config"]["model"]["rpn_nms_iou"], content["config"]["shapes"]["noise"]
    (tmp_path / f"{run.name}.json").write_text(json.dumps(content))
    assert read(run, tmp_path) is not None, "a field that came later had its default then"
    content["config"]["train"]["steps"] += 1
    (tmp_path / f"{run.name}.json").write_text(json.dumps(content))
    assert read(run, tmp_path) is None
    for damage in ('{"config": ', "[]", "{}"):
        (tmp_path / f"{run.name}.json").write_text(damage)
        with pytest.raises(UserError, match=f"{run.name}.json is damaged .* Delete it"):
            read(run, tmp_path)


def test_a_plan_says_what_fits_a_budget_from_what_was_measured_elsewhere(tmp_path):
    which = table("2d")
    size = dataclasses.replace(SMOKE, seeds=3)
    unknown = plan([which], size, ["shapes"], tmp_path / "mine", tmp_path / "theirs")
    assert unknown.seconds is None
    assert unknown.fits(1e9, 2) == ()
    run = make_run(which, which.arms[0], size, "shapes", 0)
    content = {"config": run.config(), "step_seconds": 4.5, "evaluate_seconds": 1.0}
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / f"{run.name}.json").write_text(json.dumps(content))
    found = plan([which], size, ["shapes"], tmp_path / "mine", tmp_path / "theirs")
    assert len(found.left) == 6, "what others measured is not taken for ours"
    assert found.seconds == 10.0
    assert found.fits(25.0, 2) == found.left[:4]
    assert complete_seeds(which, size, "shapes", found.fits(25.0, 2)) == (2, 3)
    assert complete_seeds(which, size, "shapes", found.left[:3]) == (1, 3)


def test_a_run_is_trained_measured_and_written(tmp_path):
    which = table("5")
    run = make_run(which, which.arm("all three"), tiny(), "persons", 0)
    path = execute(run, tmp_path / "results", tmp_path / "work", "cpu", None)
    found = json.loads(path.read_text())
    assert found["config"] == run.config()
    assert set(found["metrics"]) == {"box", "mask", "keypoints"}
    assert found["parameters"] > 1e5
    assert found["step_seconds"] > 0


def test_runs_of_one_first_stage_are_not_made_side_by_side(tmp_path):
    which = table("2c-shared")
    runs = [make_run(which, arm, tiny(), "shapes", 0) for arm in which.arms[:2]]
    other = make_run(which, which.arms[0], tiny(), "shapes", 1)
    plain = make_run(table("2d"), table("2d").arms[0], tiny(), "shapes", 0)
    assert next_run([runs[1]], [runs[0]]) is None
    assert next_run([runs[1], other], [runs[0]]) is other
    assert next_run([runs[1], plain], [runs[0], plain]) is plain
    said = []
    assert carry_out(runs, tmp_path / "r", tmp_path / "w", processes=2, say=said.append) == 2
    assert ["1 left" in said[0], "0 left" in said[1]] == [True, True]


def test_several_processes_make_the_runs_and_a_mistake_comes_back(tmp_path):
    which = table("2d")
    runs = [make_run(which, arm, tiny(), "shapes", 0) for arm in which.arms]
    said = []
    count = carry_out(runs, tmp_path / "r", tmp_path / "w", processes=2, say=said.append)
    assert count == 2
    assert "1 left" in said[0]
    assert "0 left" in said[1]
    assert plan([which], tiny(), ["shapes"], tmp_path / "r").left == ()
    nuclei = make_run(which, which.arms[0], tiny(), "nuclei", 0)
    after = make_run(which, which.arms[0], tiny(), "shapes", 1)
    labels = {nuclei.name: "2d, RoIPool, nuclei, seed 0"}
    with pytest.raises(
        UserError, match=r"1 of 2 runs failed:\n2d, RoIPool, nuclei, seed 0: .*--nuclei"
    ):
        carry_out([nuclei, after], tmp_path / "r", tmp_path / "w", say=said.append, labels=labels)
    assert read(after, tmp_path / "r") is not None, "one that fails does not stop the others"


def test_the_budget_ends_an_experiment_before_a_run_that_would_not_fit(tmp_path):
    which = table("2d")
    runs = [make_run(which, which.arms[0], tiny(), "shapes", seed) for seed in range(3)]
    said = []
    assert carry_out(runs, tmp_path / "r", tmp_path / "w", budget=0.01, say=said.append) == 1
    assert said[0].endswith("2 left"), "what was not begun is left"
    nothing = carry_out(runs, tmp_path / "r2", tmp_path / "w", budget=10.0, expected=11.0)
    assert nothing == 0, "a run that is known not to fit is not begun"


def _execute(run, results, work):
    torch.set_num_threads(1)
    execute(run, results, work, "cpu", None)


def test_a_run_that_was_killed_goes_on_where_it_was(tmp_path):
    steps = dataclasses.replace(SMOKE.train, steps=30, checkpoint_seconds=0.01)
    which = table("2d")
    run = make_run(which, which.arms[1], tiny(train=steps), "shapes", 0)
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_execute, args=(run, tmp_path / "r", tmp_path / "w"))
    process.start()
    state = tmp_path / "w" / run.name / "state.pt"
    until = time.monotonic() + 120
    while not state.exists() and time.monotonic() < until:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert not list((tmp_path / "r").glob("*.json"))
    killed_at = torch.load(state, weights_only=True)["step"]
    execute(run, tmp_path / "r", tmp_path / "w", "cpu", None)
    execute(run, tmp_path / "r2", tmp_path / "unbroken", "cpu", None)
    results = [json.loads(next((tmp_path / f).glob("*.json")).read_text()) for f in ("r", "r2")]
    assert 0 < killed_at <= 30
    assert results[0]["metrics"] == results[1]["metrics"]
    if killed_at < 30:  # processor time is of the steps that this attempt made
        again, unbroken = (result["step_processor_seconds"] for result in results)
        assert unbroken / 5 < again < 5 * unbroken


def test_a_new_folder_of_results_is_measured_anew(tmp_path):
    """What is finished leaves no weights behind, for another folder's run to take as its own."""
    which = table("2d")
    run = make_run(which, which.arms[0], tiny(), "shapes", 0)
    for results in ("r", "r2"):
        execute(run, tmp_path / results, tmp_path / "w", "cpu", None)
        assert not (tmp_path / "w" / run.name).exists()
    found = [read(run, tmp_path / results) for results in ("r", "r2")]
    assert found[0]["metrics"] == found[1]["metrics"]
    assert found[1]["step_processor_seconds"] > 0


def test_a_run_killed_after_its_last_step_is_measured_all_the_same(tmp_path):
    which = table("2d")
    run = make_run(which, which.arms[0], tiny(), "shapes", 0)
    training = ablation_data.load("shapes", "train", run.training_images, run.shapes, None)
    train(run.model, run.train, training, tmp_path / "w" / run.name, "cpu", progress=False)
    path = execute(run, tmp_path / "r", tmp_path / "w", "cpu", None)
    found = json.loads(path.read_text())
    assert found["step_processor_seconds"] is None, "this attempt made no step"
    assert "AP" in found["metrics"]["box"]


ENDLESS = """
import dataclasses
from pathlib import Path
from mrcnn_edu.ablations.engine import carry_out, make_run
from mrcnn_edu.ablations.profiles import PROFILES
from mrcnn_edu.ablations.tables import table
from mrcnn_edu.training.stop import TrainingInterruptedError
if __name__ == "__main__":
    size = PROFILES["smoke"]
    size = dataclasses.replace(size, training_images=4, validation_images=2)
    size = dataclasses.replace(size, train=dataclasses.replace(size.train, steps=100_000))
    runs = [make_run(table("2d"), arm, size, "shapes", 0) for arm in table("2d").arms]
    try:
        carry_out(runs, Path("r"), Path("w"), processes=2)
    except TrainingInterruptedError as stopped:
        print(stopped)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_whoever_stops_the_engine_stops_its_processes_and_they_save(tmp_path, number):
    (tmp_path / "endless.py").write_text(ENDLESS)
    command = [sys.executable, "endless.py"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}
    engine = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, start_new_session=True
    )

    def until(condition, what):
        end = time.monotonic() + 120
        while not condition():
            assert time.monotonic() < end, what
            time.sleep(0.1)

    def gone():
        try:
            os.killpg(engine.pid, 0)
        except ProcessLookupError:
            return True
        return False

    until(lambda: len(list(tmp_path.glob("w/*/metrics.jsonl"))) == 2, "both runs begin")
    engine.send_signal(number)
    said = engine.communicate(timeout=120)[0].decode()
    until(gone, "no process of the engine is left")
    assert len(list(tmp_path.glob("w/*/state.pt"))) == 2
    if number != signal.SIGKILL:
        assert "Stopped after 0 of 2 runs" in said
        assert engine.returncode == 0


def test_shared_proposals_are_shared_to_the_last_bit(tmp_path, monkeypatch):
    """Backbone and RPN end up equal in arms whose heads learn differently."""
    which = table("2c-shared")
    steps = dataclasses.replace(SMOKE.train, steps=4)
    ends = []
    keep = ablation_run.coco_results

    def measured(model, *args, **kwargs):
        ends.append({k: v.clone() for k, v in model.state_dict().items()})
        return keep(model, *args, **kwargs)

    monkeypatch.setattr(ablation_run, "coco_results", measured)
    for arm in (which.arms[0], which.arms[-1]):
        run = make_run(which, arm, tiny(train=steps), "shapes", 0)
        execute(run, tmp_path / "r", tmp_path / "w", "cpu", None)
        first = load_file(tmp_path / "w" / run.first.name / "model.safetensors")
        for name, value in ends[-1].items():
            if name.startswith("backbone."):
                assert torch.equal(value, first[name]), "the backbone stays as it was"
    different = {
        name.split(".")[0] for name in ends[0] if not torch.equal(*(e[name] for e in ends))
    }
    assert "box_head" in different or "res5" in different
    assert not different & {"backbone", "rpn", "neck"}


def test_the_set_of_persons_holds_persons_only():
    persons = ablation_data.load("persons", "val", 12, ShapesConfig())
    shapes = ablation_data.load("shapes", "val", 12, ShapesConfig())
    assert persons.class_names == ["person"]
    assert 0 < len(persons) < 12
    total = sum(int((shapes[i][1]["labels"] == 10).sum()) for i in range(12))
    assert total == sum(len(persons[i][1]["labels"]) for i in range(len(persons)))
    image, target = persons[0]
    assert set(target["labels"].tolist()) == {1}
    assert target["keypoints"].shape[1:] == (17, 3)
    where = [i for i in range(12) if (shapes[i][1]["labels"] == 10).any()]
    assert torch.equal(image, shapes[where[0]][0])
