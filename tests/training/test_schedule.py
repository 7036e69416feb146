"""The rate of every step, and what changes when the batch does."""

import pytest
import torch

from mrcnn_edu.errors import UserError
from mrcnn_edu.training.config import RECIPES, TrainConfig, recipe
from mrcnn_edu.training.schedule import (
    config_of_step,
    count_steps,
    describe_scaling,
    learning_rate,
    scale_to_batch,
)


def test_rate_warms_up_and_falls():
    cosine = TrainConfig(steps=110, warmup_steps=10, learning_rate=1.0, warmup_factor=0)
    rates = [learning_rate(s, cosine) for s in range(110)]
    assert rates[:10] == pytest.approx([0.1 * i for i in range(10)])
    assert rates[60] == pytest.approx(0.5)
    assert rates[-1] < 1e-3
    steps = TrainConfig(steps=90, warmup_steps=0, learning_rate=1.0, schedule="steps")
    drops = [learning_rate(s, steps) for s in (0, 59, 60, 79, 80, 89)]
    assert drops == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_the_rate_is_that_of_torch_schedulers():
    """torchvision's reference script: LinearLR for the warm-up, MultiStepLR for the drops."""
    config = TrainConfig(
        steps=90, warmup_steps=20, warmup_factor=1e-3, learning_rate=0.02, schedule="steps"
    )
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.02)
    warmup = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=1e-3, total_iters=20)
    drops = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[60, 80], gamma=0.1)
    theirs = []
    for _ in range(config.steps):
        theirs.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        warmup.step()
        drops.step()
    assert [learning_rate(s, config) for s in range(90)] == pytest.approx(theirs)


@pytest.mark.parametrize(
    ("name", "steps", "drops"),
    [
        ("paper", 160_000, (120_000,)),
        ("1x", 90_000, (60_000, 80_000)),
        ("2x", 180_000, (120_000, 160_000)),
        ("3x", 270_000, (210_000, 250_000)),
    ],
)
def test_recipes_drop_the_rate_where_they_were_published(name, steps, drops):
    config = recipe(name)
    assert config.steps == steps
    assert (config.batch_size, config.learning_rate, config.momentum) == (16, 0.02, 0.9)
    for i, drop in enumerate(drops):
        assert learning_rate(drop - 1, config) == pytest.approx(0.02 * 0.1**i)
        assert learning_rate(drop, config) == pytest.approx(0.02 * 0.1 ** (i + 1))


def test_torchvision_counts_epochs():
    # 117,266 images of train2017 have objects; its script drops the rate after 16 and 22 epochs.
    config = count_steps(recipe("torchvision"), 117_266)
    assert config.steps == 190_558
    epoch = 117_266 / 16
    assert learning_rate(int(15.99 * epoch), config) == pytest.approx(0.02)
    assert learning_rate(int(16.01 * epoch), config) == pytest.approx(0.002)
    assert learning_rate(int(22.01 * epoch), config) == pytest.approx(0.0002)
    assert count_steps(TrainConfig(steps=7), 100).steps == 7


@pytest.mark.parametrize("batch_size", [1, 2, 8, 32])
def test_linear_scaling_keeps_images_and_distance(batch_size):
    before = RECIPES["1x"]
    after = scale_to_batch(before, batch_size)
    assert after.batch_size == batch_size
    assert after.steps * batch_size == before.steps * 16
    assert after.warmup_steps * batch_size == before.warmup_steps * 16
    assert after.learning_rate / batch_size == pytest.approx(0.02 / 16)
    middle = after.steps // 2
    assert learning_rate(middle, after) / batch_size == pytest.approx(
        learning_rate(45_000, before) / 16
    )


def test_the_rule_is_told_in_a_sentence():
    before = RECIPES["1x"]
    assert describe_scaling(before, scale_to_batch(before, 2)) == (
        "Linear scaling, 16 → 2 images a step: rate 0.02 → 0.0025, 90,000 → 720,000 steps, "
        "warm-up 1,000 → 8,000 steps."
    )
    epochs = RECIPES["torchvision"]
    assert "26 epochs" in describe_scaling(epochs, scale_to_batch(epochs, 2))


def test_sizes_take_turns_of_equal_length():
    config = TrainConfig(steps=8, short_sides=(128, 160, 192, 192), grow=True)
    sides = [config_of_step(step, config).short_sides for step in range(8)]
    assert sides == [(128,)] * 2 + [(160,)] * 2 + [(192,)] * 4
    drawn = TrainConfig(steps=8, short_sides=(128, 160))
    assert config_of_step(7, drawn) is drawn


def test_a_recipe_that_is_not_there():
    with pytest.raises(UserError, match=r"no recipe 'torchvison' \(did you mean 'torchvision'"):
        recipe("torchvison")


@pytest.mark.parametrize(
    "changes",
    [
        {"steps": 0},
        {"batch_size": 0},
        {"accumulate": 0},
        {"keep_last": 0},
        {"workers": -1},
        {"short_sides": (800, 0)},
        {"average_decay": 1.0},
        {"grow": True},
        {"fan_in_limit": -1},
    ],
)
def test_values_that_cannot_be_trained_with(changes):
    with pytest.raises(ValueError, match=next(iter(changes))):
        TrainConfig(**changes)
