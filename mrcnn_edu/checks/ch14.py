"""Checks of chapter 14: another batch, what a run costs, what it holds; a plan, a checkpoint."""

from collections.abc import Callable
from random import Random
from typing import Any

import torch
from torch import nn

from mrcnn_edu.checks.ch14_run import check_plan, check_snapshot
from mrcnn_edu.checks.common import case, check, inputs_kept, numbers, parts, require, require_equal
from mrcnn_edu.training.budget import Machine, bill, state_bytes

__all__ = ["check_cost", "check_plan", "check_rescale", "check_snapshot", "check_state_bytes"]

Recipe = dict[str, Any]
ONE_X = {
    "batch_size": 16,
    "learning_rate": 0.02,
    "steps": 90_000,
    "milestones": [60_000, 80_000],
    "warmup_steps": 1000,
}


def rescaled(recipe: Recipe, batch_size: int) -> Recipe:
    """The same schedule by the linear scaling rule, in whole steps."""
    k = batch_size / recipe["batch_size"]
    return {
        "batch_size": batch_size,
        "learning_rate": recipe["learning_rate"] * k,
        "steps": round(recipe["steps"] / k),
        "milestones": [round(m / k) for m in recipe["milestones"]],
        "warmup_steps": round(recipe["warmup_steps"] / k),
    }


@check("14.1")
def check_rescale(answer: Callable[[Recipe, int], Recipe]) -> None:
    """Check the linear scaling rule on a whole schedule."""
    answer = inputs_kept(answer)

    def run(recipe: Recipe, batch_size: int) -> Recipe:
        got = answer(
            {k: list(v) if isinstance(v, list) else v for k, v in recipe.items()}, batch_size
        )
        require(isinstance(got, dict), f"Return a dictionary, not a {type(got).__name__}.")
        missing = sorted(set(recipe) - set(got))
        require(not missing, f"Your recipe has no {missing}.")
        return got

    case("1x with 2 images a step")
    got = run(ONE_X, 2)
    require(
        got["batch_size"] == 2,
        f"The new batch is 2 images; your recipe says {got['batch_size']}.",
    )
    rate = float(numbers(got["learning_rate"]))
    require(abs(rate - 0.02) > 1e-6, "The rate is still 0.02, which belongs to 16 images.")
    require(abs(rate - 0.16) > 1e-6, "Fewer images, a smaller rate: yours went up to 0.16.")
    require(
        abs(rate - 0.02 / 8**0.5) > 1e-6,
        "That is the square-root rule. Linear scaling multiplies the rate by k itself.",
    )
    require_equal(rate, 0.0025, "The rate, 0.02 × 2 / 16.", 1e-6)
    steps = got["steps"]
    require(
        steps != 90_000,
        "90,000 steps of 2 images are one and a half epochs, not twelve: with an eighth of the "
        "images per step, eight times the steps.",
    )
    require(steps != 11_250, "Fewer images a step need more steps; yours went down to 11,250.")
    require(steps == 720_000, f"720,000 steps show as many images as before; yours {steps}.")
    milestones = list(got["milestones"])
    require(
        milestones != [60_000, 80_000],
        "The rate falls at steps 60,000 and 80,000 of 720,000: after a twelfth of the run.",
    )
    require(milestones == [480_000, 640_000], f"Expected [480000, 640000]; yours {milestones}.")
    warmup = got["warmup_steps"]
    require(warmup != 1000, "The warm-up of 1,000 steps now shows an eighth of the images.")
    require(warmup == 8000, f"A warm-up of 8,000 steps was expected; yours: {warmup}.")

    case("the batch that it has")
    require(run(ONE_X, 16) == ONE_X, "With the batch that it has, a recipe stays what it is.")
    case("a larger batch that divides nothing")
    got = run(ONE_X, 48)
    for key in ("steps", "warmup_steps"):
        require(
            isinstance(got[key], int),
            f"{key} is {got[key]!r}: steps are whole numbers, of the type int.",
        )
    require(got["warmup_steps"] == 333, "1,000 / 3 is 333 whole steps.")
    require(got["milestones"] == [20_000, 26_667], "80,000 / 3 rounds to 26,667.")
    rng = Random(0)
    for trial in range(30):
        case(f"random {trial}")
        steps = rng.randrange(1000, 300_000)
        recipe = {
            "batch_size": rng.choice([4, 8, 16, 64]),
            "learning_rate": rng.uniform(0.001, 0.1),
            "steps": steps,
            "milestones": sorted(rng.sample(range(steps), rng.randrange(0, 4))),
            "warmup_steps": rng.randrange(0, 2000),
        }
        batch = rng.choice([1, 2, 3, 8, 24, 256])
        got, wanted = run(recipe, batch), rescaled(recipe, batch)
        what = f"Random recipe {trial}, {recipe['batch_size']} → {batch} images."
        require_equal(got["learning_rate"], wanted["learning_rate"], f"{what} The rate.", 1e-9)
        for key in ("batch_size", "steps", "milestones", "warmup_steps"):
            require(got[key] == wanted[key], f"{what} {key}: {wanted[key]}; yours {got[key]}.")


@check("14.2")
def check_cost(answer: Callable[[int, Machine], Any]) -> None:
    """Check hours, money and what is the limit, for so many images on a machine."""

    def run(images: int, machine: Machine) -> tuple[float, float, str]:
        hours, money, limit = parts(answer(images, machine), "hours", "money", "the limit")
        require(
            limit in ("GPUs", "loader"), f'The limit is "GPUs" or "loader"; yours is {limit!r}.'
        )
        return float(numbers(hours)), float(numbers(money)), limit

    def near(a: float, b: float) -> bool:
        return abs(a - b) < 1e-6 * max(1.0, abs(b))

    def compare(got: tuple[float, float, str], images: int, machine: Machine, what: str) -> None:
        right = bill(images, machine)
        require_equal(got[0], right.hours, f"{what} Hours.", 1e-6)
        require_equal(got[1], right.money, f"{what} Money.", 1e-6)
        require(got[2] == right.limit, f"{what} The limit is the {right.limit}.")

    case("four GPUs and a fast loader")
    images = 3600 * 40
    machine = Machine(4, images_s=20.0, efficiency=0.5, workers=8, worker_images_s=10.0, price=2.0)
    got = run(images, machine)
    require(not near(got[0], 60), "That is minutes: an hour has 3,600 seconds.")
    require(not near(got[0], 3600), "That is seconds: an hour has 3,600 of them.")
    require(
        not near(got[0], images / 80 / 3600),
        "Four GPUs together are slower than four times one: their rate is 4 × 20 × 0.5.",
    )
    require(
        not near(got[0], images / 3600 * (1 / 40 + 1 / 80)),
        "You added the loader's time to the GPUs'. Processes load the next images while the GPUs "
        "train on these: the slower of the two decides.",
    )
    require(not near(got[0], images / 120 / 3600), "Rates of GPUs and loader do not add up.")
    require_equal(got[0], 1.0, "144,000 images at 40 a second.")
    require(not near(got[1], 2.0), "The price is that of one GPU, and there are four.")
    require_equal(got[1], 8.0, "One hour of four GPUs at 2 each.")
    require(got[2] == "GPUs", "GPUs train 40 images a second, the loader makes 80.")

    case("a loader that is too slow")
    slow = Machine(4, images_s=30.0, efficiency=1.0, workers=2, worker_images_s=10.0, price=1.0)
    got = run(images, slow)
    require(
        not near(got[0], 1 / 3),
        "The GPUs could train 120 images a second, but only 20 arrive.",
    )
    require(
        got[2] == "loader",
        "20 images a second arrive, the GPUs could train 120: say which is less.",
    )
    require(
        not near(got[0], 2.0 / 4),
        "The processes belong to the whole machine, not to each GPU.",
    )
    require_equal(got[0], 2.0, "144,000 images, 20 a second arrive.")
    require_equal(got[1], 8.0, "GPUs are paid for while they wait: 2 hours × 4 × 1.")
    case("one GPU")
    one = Machine(1, images_s=20.0, efficiency=0.5, workers=8, worker_images_s=10.0, price=2.0)
    require(
        not near(run(images, one)[0], 4.0),
        "One GPU loses nothing by sharing: the efficiency is that of several.",
    )
    compare(run(images, one), images, one, "One GPU.")
    case("both alike")
    even = Machine(2, images_s=10.0, efficiency=1.0, workers=2, worker_images_s=10.0, price=1.0)
    compare(run(images, even), images, even, "GPUs and loader at 20 images a second: call it GPUs.")
    rng = Random(0)
    for trial in range(40):
        case(f"random {trial}")
        machine = Machine(
            gpus=rng.randrange(1, 20),
            images_s=rng.uniform(1, 60),
            efficiency=rng.uniform(0.3, 1),
            workers=rng.randrange(1, 20),
            worker_images_s=rng.uniform(5, 200),
            price=rng.uniform(0, 5),
        )
        count = rng.randrange(1, 10**7)
        compare(run(count, machine), count, machine, f"Random machine {trial}.")


@check("14.3")
def check_state_bytes(answer: Callable[[nn.Module, str, bool], Any]) -> None:
    """Check the bytes of weights, gradients, optimiser and average."""

    def run(model: nn.Module, optimizer: str, average: bool = False) -> int:
        got = numbers(answer(model, optimizer, average))
        require(got.numel() == 1, f"One number was expected, not shape {list(got.shape)}.")
        return int(got)

    case("a layer of 10 weights, SGD")
    layer = nn.Linear(10, 1, bias=False)
    got = run(layer, "sgd")
    require(got != 30, "Those are numbers, not bytes: a float32 has 4.")
    require(got != 40, "The weights alone are 40 bytes; there are gradients, and a momentum.")
    require(got != 80, "Weights and gradients are 80 bytes; SGD with momentum remembers, too.")
    require(got == 120, f"10 weights, gradients and momenta of 4 bytes: 120; yours {got}.")
    case("AdamW")
    got = run(layer, "adamw")
    require(got != 120, "AdamW keeps two numbers for each weight: a mean and a mean square.")
    require(got == 160, f"AdamW: 40 + 40 + 2 × 40 = 160; yours {got}.")
    case("an average of the weights")
    got = run(layer, "sgd", True)
    require(got != 120, "A moving average of the weights is another copy of them.")
    require(
        got != 240, "The average is a copy of the weights, not of gradients and momenta as well."
    )
    require(got == 160, f"120, and 40 for the average: 160; yours {got}.")
    case("a frozen layer")
    net = nn.Sequential(nn.Linear(10, 1, bias=False), nn.Linear(1, 5, bias=False))
    net[0].requires_grad_(False)
    got = run(net, "sgd")
    require(
        got != 3 * 60,
        "The first layer is frozen: it has weights, but neither gradients nor a momentum.",
    )
    require(got != 3 * 20, "A frozen layer's weights are held all the same.")
    require(got == 40 + 60, f"40 bytes frozen and 3 × 20 trained: 100; yours {got}.")
    case("buffers")
    norm = nn.BatchNorm1d(4)
    got = run(norm, "sgd")
    require(
        got != 3 * 32,
        "A norm's running mean and variance, and its count, are buffers: they are held as well.",
    )
    require(
        got != 3 * 32 + 40 + 2 * 32,
        "Buffers are held, not trained: they have neither gradient nor momentum.",
    )
    require(got == state_bytes(norm, "sgd"), f"Expected {state_bytes(norm, 'sgd')}; yours {got}.")
    require(
        run(norm, "adamw", True) == state_bytes(norm, "adamw", True),
        "With AdamW and an average, whose copy holds the buffers too.",
    )
    case("half precision")
    half = nn.Linear(10, 1, bias=False).half()
    require(run(half, "sgd") == 60, "Of float16 a number has 2 bytes: ask each tensor.")
    generator = torch.Generator().manual_seed(0)
    for trial in range(20):
        case(f"random {trial}")
        sizes = torch.randint(1, 9, (4,), generator=generator).tolist()
        model = nn.Sequential(
            nn.Conv2d(3, sizes[0], 3), nn.BatchNorm2d(sizes[0]), nn.Conv2d(sizes[0], sizes[1], 1)
        )
        model[trial % 3].requires_grad_(trial % 2 == 0)
        for optimizer in ("sgd", "adamw"):
            wanted = state_bytes(model, optimizer, bool(trial % 3))
            require(
                run(model, optimizer, bool(trial % 3)) == wanted,
                f"Random model {trial}, {optimizer}: {wanted} bytes.",
            )
