"""What follows from a training configuration: rate and size of a step, the steps of an epoch.

Learning rates belong to a batch size. The linear scaling rule (Goyal et al. 2017, §2.1) says how
they move together: with k times the images a step, k times the rate and a k-th of the steps, so
that a run sees the same images and its weights travel about as far. Chapters 13 and 14.
"""

import math
from dataclasses import replace

from mrcnn_edu.training.config import TrainConfig


def learning_rate(step: int, config: TrainConfig) -> float:
    """The rate of a step, counted from 0: a linear warm-up, then a half cosine or tenfold drops.

    The warm-up is detectron2's and torchvision's: the factor at step s of w is f + (1 − f) · s / w.
    """
    if step < config.warmup_steps:
        part = step / config.warmup_steps
        return config.learning_rate * (config.warmup_factor * (1 - part) + part)
    if config.schedule == "cosine":
        after = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
        return config.learning_rate * 0.5 * (1 + math.cos(math.pi * after))
    # Rounded: 25/27 of 270,000 is a hair above 250,000 in floating point.
    passed = sum(step >= round(m * config.steps) for m in config.milestones)
    return config.learning_rate * 0.1**passed


def config_of_step(step: int, config: TrainConfig) -> TrainConfig:
    """With `grow`, a configuration that knows only the size of this step; else the same one.

    The turns of `short_sides` are equally long; a size that is named twice has two. A step on small
    images costs less, and an object's class and rough place can be learned on them.
    """
    if not config.grow:
        return config
    turn = min(step, config.steps - 1) * len(config.short_sides) // config.steps
    return replace(config, short_sides=(config.short_sides[turn],))


def count_steps(config: TrainConfig, images: int) -> TrainConfig:
    """Turn `epochs`, where given, into `steps` for a data set of so many images."""
    if not config.epochs:
        return config
    steps = max(1, math.ceil(config.epochs * images / config.batch_size))
    return replace(config, steps=steps, epochs=0.0)


def scale_to_batch(config: TrainConfig, batch_size: int) -> TrainConfig:
    """The same schedule for another number of images a step, by the linear scaling rule.

    The rate is multiplied by k = batch_size / config.batch_size, steps and warm-up are divided by
    it; epochs stay. Adaptive optimisers follow the rule less well than SGD.
    """
    k = batch_size / config.batch_size
    return replace(
        config,
        batch_size=batch_size,
        learning_rate=config.learning_rate * k,
        steps=max(1, round(config.steps / k)),
        warmup_steps=round(config.warmup_steps / k),
    )


def describe_scaling(before: TrainConfig, after: TrainConfig) -> str:
    """One sentence about what the linear scaling rule did, for the reader of a log."""
    length = (
        f"{after.epochs:g} epochs" if after.epochs else f"{before.steps:,} → {after.steps:,} steps"
    )
    return (
        f"Linear scaling, {before.batch_size} → {after.batch_size} images a step: rate "
        f"{before.learning_rate:g} → {after.learning_rate:g}, {length}, warm-up "
        f"{before.warmup_steps:,} → {after.warmup_steps:,} steps."
    )
