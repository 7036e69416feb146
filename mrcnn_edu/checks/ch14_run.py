"""Checks of chapter 14, continued: a plan that would waste days, a checkpoint that is one."""

import copy
import io
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from mrcnn_edu.checks.common import case, check, require
from mrcnn_edu.training.config import RECIPES, TrainConfig
from mrcnn_edu.training.schedule import learning_rate, scale_to_batch

PLANS = ((8, 2), (4, 2), (1, 2), (4, 4), (2, 8), (8, 8), (3, 5))  # GPUs, images on each


@check("14.5")
def check_plan(answer: Callable[[int, int], TrainConfig]) -> None:
    """Check the plan of a run on so many GPUs with so many images on each."""
    base = RECIPES["1x"]
    for gpus, each in PLANS:
        case(f"{gpus} GPUs with {each} images")
        where = f"{gpus} GPUs with {each} images each"
        got = answer(gpus, each)
        require(isinstance(got, TrainConfig), f"Return a TrainConfig, not a {type(got).__name__}.")
        right = scale_to_batch(base, gpus * each)
        require(
            got.batch_size != each or gpus == 1,
            f"{where}: batch_size is {each}. It counts the images of a step over all processes.",
        )
        require(
            got.batch_size == right.batch_size,
            f"{where}: batch_size is {right.batch_size}; yours {got.batch_size}.",
        )
        last = learning_rate(got.steps - 1, got)
        require(
            not math.isclose(last, got.learning_rate),
            f"{where}: the rate of the last step is still {last:g}. milestones are shares of the "
            "run: one of 60,000 never comes.",
        )
        require(
            math.isclose(got.learning_rate, right.learning_rate),
            f"{where}: {right.batch_size} images a step, so the rate is 0.02 × {right.batch_size} "
            f"/ 16 = {right.learning_rate:g}; yours {got.learning_rate:g}. It goes with images, "
            "however many GPUs share them.",
        )
        require(got.steps == right.steps, f"{where}: {right.steps:,} steps; yours {got.steps:,}.")
        for key in ("batch_size", "steps", "warmup_steps"):
            value = getattr(got, key)
            require(isinstance(value, int), f"{where}: {key} is {value!r}, not a whole number.")
        require(
            got.warmup_steps == right.warmup_steps,
            f"{where}: the warm-up is {right.warmup_steps:,} steps; yours {got.warmup_steps:,}.",
        )
        require(
            got.checkpoint_seconds <= 3600,
            f"{where}: a checkpoint every {got.checkpoint_seconds / 3600:g} hours. A run that is "
            "killed loses all since the last one.",
        )
        for rest in ("milestones", "weight_decay", "momentum", "schedule", "optimizer"):
            require(
                getattr(got, rest) == getattr(right, rest),
                f"{where}: {rest} is {getattr(right, rest)} in 1x; yours {getattr(got, rest)}.",
            )


def _network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))


def _optimizer(name: str, model: nn.Module) -> torch.optim.Optimizer:
    if name == "SGD":
        return torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    return torch.optim.AdamW(model.parameters(), 0.01)


def _go(model: nn.Module, optimizer: torch.optim.Optimizer, first: int, last: int) -> list[float]:
    """Train on steps first to last; each step's data follow from its number."""
    losses = []
    for step in range(first, last):
        x = torch.rand(16, 6, generator=torch.Generator().manual_seed(step))
        loss = (model(x) - x[:, :3] * 2).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def _resume(saved: dict[str, Any], name: str) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A new process: another model, another optimiser, and what was saved."""
    model = _network(77)
    optimizer = _optimizer(name, model)
    model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    return model, optimizer


@check("14.4")
def check_snapshot(answer: Callable[[nn.Module, torch.optim.Optimizer, int], Any]) -> None:
    """Check that a run goes on from a snapshot as if nothing had happened."""
    for name in ("SGD", "AdamW"):
        case(f"{name}, what it holds")
        model = _network(0).train()
        optimizer = _optimizer(name, model)
        _go(model, optimizer, 0, 5)
        before = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
        saved = answer(model, optimizer, 5)
        require(isinstance(saved, dict), f"Return a dictionary, not a {type(saved).__name__}.")
        for key, why in (
            ("model", "Without the weights there is nothing to go on with."),
            (
                "optimizer",
                "Without its memory the optimiser begins anew: the momentum of days is lost.",
            ),
            ("step", "Without the step nobody knows which rate and which images come next."),
        ):
            require(key in saved, f'Your snapshot has no "{key}". {why}')
        require(
            saved["step"] == 5,
            f"5 steps are done, so step 5 (counted from 0) is next; yours {saved['step']}.",
        )
        weights, wanted = saved["model"], model.state_dict()
        missing = sorted(set(wanted) - set(weights))
        require(
            not any("running" in k for k in missing),
            f"{missing} are missing: a norm's statistics are no parameters; state_dict has them.",
        )
        require(not missing, f'saved["model"] lacks {missing}.')
        require(
            isinstance(saved["optimizer"], dict) and "state" in saved["optimizer"],
            "The optimiser's own state_dict holds what it remembers; a list of settings does not.",
        )
        now = (model.state_dict(), optimizer.state_dict())
        require(_alike(before, now), "Your function changed the run; it should only look at it.")

        case(f"{name}, kept while training goes on")
        kept = copy.deepcopy(saved)
        whole = _go(model, optimizer, 5, 12)
        require(
            _alike(saved["model"], kept["model"]),
            "The weights in your snapshot moved while training went on: state_dict hands out the "
            "tensors themselves. Copy them.",
        )
        require(
            _alike(saved["optimizer"], kept["optimizer"]),
            "The optimiser's memory in your snapshot moved while training went on: copy it too.",
        )
        case(f"{name}, going on")
        file = io.BytesIO()
        torch.save(saved, file)
        file.seek(0)
        again, optimizer = _resume(torch.load(file, weights_only=True), name)
        losses = _go(again.train(), optimizer, 5, 12)
        require(
            losses == whole,
            f"Resumed losses {[round(v, 5) for v in losses[:3]]}…, unbroken "
            f"{[round(v, 5) for v in whole[:3]]}…: equal to the bit was expected.",
        )


def _alike(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_alike(v, b[k]) for k, v in a.items())
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(_alike, a, b))
    return a == b
