"""Checks of chapter 15 that are about runs: an experiment with bugs, an arm of a trained model."""

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from mrcnn_edu.checks.common import case, check, inputs_kept, require, require_equal
from mrcnn_edu.config import ModelConfig
from mrcnn_edu.model import MaskRCNN
from mrcnn_edu.presets import preset

Row = dict[str, Any]


def right_differences(rows: list[Row], first: str, second: str) -> dict[int, float]:
    """What exercise 15.5 asks for."""
    kept = [r for r in rows if r["split"] == "val" and r["seed"] < 100]
    of = {
        arm: {
            (r["seed"], r["step"]): r["AP"]
            for r in kept
            if r["arm"] == arm
        }
        for arm in (first, second)
    }  # fmt: skip
    seeds = {s for s, _ in of[first]} & {s for s, _ in of[second]}
    steps = [{t for s, t in of[arm] if s == seed} for arm in of for seed in seeds]
    last = max(set.intersection(*steps))
    return {s: of[first][s, last] - of[second][s, last] for s in sorted(seeds)}


@check("15.5")
def check_differences(answer: Callable[[list[Row], str, str], Any]) -> None:
    """Check that an experiment compares like with like: dictionary of seed -> difference."""
    answer = inputs_kept(answer)

    def row(arm: str, seed: int, step: int, ap: float, split: str = "val") -> Row:
        return {"arm": arm, "seed": seed, "step": step, "split": split, "AP": ap}

    def run(rows: list[Row]) -> dict[int, float]:
        got = answer(rows, "new", "old")
        require(
            isinstance(got, dict),
            f"Return a dictionary, seed -> difference; yours is a {type(got).__name__}.",
        )
        return got

    def compare(rows: list[Row], want: dict[int, float], message: str) -> None:
        got = run(rows)
        require(
            sorted(got) == sorted(want),
            f"{message}\nYour seeds: {sorted(got)}, expected: {sorted(want)}.",
        )
        require_equal([got[s] for s in sorted(got)], [want[s] for s in sorted(want)], message)

    case("nothing wrong")
    compare(
        [row("new", 0, 600, 30.0), row("old", 0, 600, 27.0)],
        {0: 3.0},
        "One seed, one step, validation images alone.",
    )
    case("training images")
    plain = [row(a, s, 600, v) for s in (0, 1) for a, v in (("new", 30.0 + s), ("old", 28.0))]
    seen = [row(a, s, 600, 90.0, "train") for s in (0, 1) for a in ("new", "old")]
    for rows in (plain + seen, seen + plain):
        require(
            any(abs(v) > 1e-9 for v in run(rows).values()),
            "All differences are 0: these are the values on the training images, which both arms "
            "know by heart.",
        )
        compare(rows, {0: 2.0, 1: 3.0}, "Rows of training images among them, which do not count.")
    case("the best checkpoint")
    curve = [row("new", 0, t, v) for t, v in ((200, 20.0), (400, 35.0), (600, 30.0))]
    curve += [row("old", 0, t, v) for t, v in ((200, 20.0), (400, 26.0), (600, 27.0))]
    got = run(curve)
    require(
        abs(got.get(0, 0.0) - 8.0) > 1e-6,
        "35 − 27: that is the best checkpoint of each run, chosen on the images that are reported. "
        "Chance is chosen with it. Take the last step.",
    )
    compare(curve, {0: 3.0}, "AP at steps 200, 400, 600: the last one counts.")
    case("an arm that was trained for longer")
    longer = [row("new", 0, t, v) for t, v in ((400, 28.0), (600, 30.0), (800, 36.0))]
    longer += [row("old", 0, t, v) for t, v in ((400, 26.0), (600, 27.0))]
    got = run(longer)
    require(
        abs(got.get(0, 0.0) - 9.0) > 1e-6,
        "36 after 800 steps minus 27 after 600: an arm that was trained for longer is compared "
        "with one that was not.",
    )
    compare(longer, {0: 3.0}, "The last step that both have is 600.")
    mixed = [row("new", 0, t, 30.0 + t / 100) for t in (200, 400, 600)]
    mixed += [row("old", 0, t, 20.0) for t in (200, 400, 600)]
    mixed += [row("new", 1, t, 30.0 + t / 100) for t in (200, 400)]
    mixed += [row("old", 1, t, 20.0) for t in (200, 400)]
    compare(
        mixed,
        {0: 14.0, 1: 14.0},
        "Seed 0 has 600 steps, seed 1 has 400: all are compared at the last step that all have.",
    )
    case("seeds in another order")
    order = [row("new", s, 600, v) for s, v in ((0, 30.0), (1, 34.0), (2, 32.0))]
    order += [row("old", s, 600, v) for s, v in ((2, 29.0), (0, 27.0), (1, 30.0))]
    got = run(order)
    require(
        abs(got.get(0, 0.0) - 1.0) > 1e-6,
        "Seed 0 was compared with seed 2, since they came first in their arms: pair by seed.",
    )
    compare(order, {0: 3.0, 1: 4.0, 2: 3.0}, "The second arm's seeds come as 2, 0, 1.")
    case("a seed without a partner")
    lonely = [*plain, row("new", 5, 600, 99.0), row("old", 7, 200, 1.0)]
    compare(lonely, {0: 2.0, 1: 3.0}, "Seeds 5 and 7 were run with one arm only.")
    case("another arm")
    other = [row("third", 0, 600, 1.0), row("third", 0, 900, 1.0), *plain]
    compare(other, {0: 2.0, 1: 3.0}, "A third arm is in the table; nobody asked about it.")
    case("the seed that everything was chosen on")
    chosen = [*plain, row("new", 100, 600, 60.0), row("old", 100, 600, 10.0)]
    require(
        100 not in run(chosen),
        "Seed 100 is among your seeds. The rate was chosen on it so that the new arm does well: it "
        "is no evidence.",
    )
    compare(chosen, {0: 2.0, 1: 3.0}, "Seeds 0, 1 and 100.")
    rng = np.random.default_rng(0)
    for trial in range(20):
        case(f"random {trial}")
        rows = []
        for arm in ("new", "old", "third"):
            seeds = rng.permutation([0, 1, 2, 3, 99, 100, 101])[: int(rng.integers(4, 8))]
            for seed in {0, *seeds.tolist()}:
                for step in range(100, int(rng.integers(2, 7)) * 100, 100):
                    rows += [
                        row(arm, seed, step, float(rng.normal(30, 5)), split)
                        for split in ("train", "val")
                    ]
        rows = [rows[i] for i in rng.permutation(len(rows))]
        compare(rows, right_differences(rows, "new", "old"), f"Random case {trial}.")


@check("15.6")
def check_arm_of(answer: Callable[[MaskRCNN, dict[str, Any]], Any]) -> None:
    """Check an arm of a trained model: the same weights, another configuration."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = MaskRCNN(_small()).eval()
        image = torch.rand(3, 64, 64)
    before, config = copy.deepcopy(model.state_dict()), model.config

    def features(of: MaskRCNN) -> torch.Tensor:
        with torch.no_grad():
            record = of([image])
            return of.roi_features(record, [torch.tensor([[3.3, 7.7, 41.2, 50.9]])], 7)

    plain = features(model)

    def run(changes: dict[str, Any]) -> MaskRCNN:
        with torch.random.fork_rng(devices=[]):
            arm = answer(model, changes)
        require(
            isinstance(arm, MaskRCNN),
            f"Return a model; yours is a {type(arm).__name__}.",
        )
        require(
            arm is not model and model.config == config,
            "The model that you were given is changed. Make a new one: the arm that it is compared "
            "with must stay.",
        )
        return arm

    case("nothing changed")
    arm = run({})
    state = arm.state_dict()
    require(
        all(torch.equal(state[k], v) for k, v in before.items()),
        "The arm has other weights. A new model begins with random ones: load those of the trained "
        "model into it.",
    )
    require(not arm.training, "The arm is in training mode: call eval().")
    require_equal(features(arm), plain, "Nothing changed, so features of a RoI must be the same.")
    case("RoIPool")
    changes: dict[str, Any] = {"roi_op": "pool"}
    arm = run(changes)
    require(changes == {"roi_op": "pool"}, "Your function writes into `changes`.")
    require(
        arm.config == dataclasses.replace(config, roi_op="pool"),
        f"The arm's configuration differs from {{'roi_op': 'pool'}}: its roi_op is "
        f"{arm.config.roi_op!r}, its mask_convs {arm.config.mask_convs}, the model's "
        f"{config.mask_convs}.",
    )
    wanted = MaskRCNN(arm.config).eval()
    wanted.load_state_dict(before)
    require_equal(
        features(arm),
        features(wanted),
        "The configuration says RoIPool, and the layer still is another: build the arm from its "
        "configuration.",
    )
    case("two changes")
    arm = run({"roi_sampling_ratio": 1, "score_threshold": 0.4})
    wanted = MaskRCNN(arm.config).eval()
    wanted.load_state_dict(before)
    require(
        (arm.config.roi_sampling_ratio, arm.config.score_threshold) == (1, 0.4),
        "Two fields were to be changed: roi_sampling_ratio and score_threshold.",
    )
    require_equal(features(arm), features(wanted), "One sample per bin side.")
    case("weights of its own")
    with torch.no_grad():
        for p in arm.parameters():
            p.zero_()
    require(
        all(torch.equal(v, before[k]) for k, v in model.state_dict().items()),
        "The two models share their tensors: training one would change the other. load_state_dict "
        "copies.",
    )


def _small() -> ModelConfig:
    """A configuration that is not quite the preset's, as a trained model's never is."""
    return dataclasses.replace(
        preset("tiny_fpn"),
        num_classes=3,
        short_side=64,
        long_side=64,
        box_hidden=16,
        mask_convs=1,
        roi_canonical_size=48,
        rpn_top_before_nms=(60, 40),
        rpn_top_after_nms=(20, 10),
    )
