"""Training: batches, losses, schedule, and a run folder from which a killed run goes on exactly.

Nothing random has a history (see :mod:`mrcnn_edu.batches`), so the state of a run is its
weights, its optimiser and one number, the step; and a run that was killed and resumed has the same
losses, to the bit on a CPU, as one that was not. Chapter 13.
"""

import hashlib
import json
import math
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm.auto import tqdm

from mrcnn_edu.batches import Batch, load_batch
from mrcnn_edu.checkpoint import Categories, load_state, save_model, save_state
from mrcnn_edu.config import ModelConfig
from mrcnn_edu.data.dataset import Dataset
from mrcnn_edu.errors import TrainingDivergedError, UserError
from mrcnn_edu.model import MaskRCNN
from mrcnn_edu.provenance import write_atomically
from mrcnn_edu.train_config import TrainConfig

STATE, MODEL, METRICS = "state.pt", "model.safetensors", "metrics.jsonl"


class TrainingInterruptedError(UserError):
    """Ctrl-C or SIGTERM. Everything was saved; the same command goes on."""


def train(
    model_config: ModelConfig,
    train_config: TrainConfig,
    dataset: Dataset,
    folder: Path,
    device: str = "cpu",
    progress: bool = True,
) -> MaskRCNN:
    """Train a model from scratch, or go on with the run in ``folder``.

    The folder receives ``metrics.jsonl`` (a line a step), ``state.pt`` (to go on) and
    ``model.safetensors`` (to use: averaged weights, configuration and classes).

    Args:
        model_config: the model; its ``num_classes`` must be the data set's.
        train_config: the schedule.
        dataset: images and targets.
        folder: the run folder; created if need be.
        device: where to train.
        progress: show a bar with losses and the time left.

    Returns:
        the model with averaged weights, in eval mode.

    Raises:
        UserError: the data set is empty or has other classes, a sample is broken, the folder
            cannot be written or belongs to another run, or the model keeps layers frozen that
            nobody has trained.
        TrainingDivergedError: a loss is not finite. The last checkpoint is kept.
        TrainingInterruptedError: Ctrl-C or SIGTERM, after saving.
    """
    _check_dataset(dataset, model_config)
    _check_frozen(model_config)
    torch.manual_seed(train_config.seed)  # the weights of a new model
    model = MaskRCNN(model_config).to(device).to(memory_format=torch.channels_last).train()
    optimizer = make_optimizer(model, train_config)
    average = AveragedModel(
        model, multi_avg_fn=get_ema_multi_avg_fn(train_config.average_decay), use_buffers=True
    )
    categories = Categories(
        tuple(dataset.to_category_id(i + 1) for i in range(dataset.num_classes)),
        tuple(dataset.class_names),
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"Cannot create the run folder {folder} ({error}). Choose another with --out."
        ) from error
    for leftover in [*folder.glob(f".{STATE}.*"), *folder.glob(f".{MODEL}.*")]:
        leftover.unlink()  # half a file of a run that was killed while saving
    first, fingerprint = 0, _fingerprint(dataset)
    if (folder / STATE).exists():
        state = load_state(folder / STATE, model_config, train_config)
        if state["data"] != fingerprint:
            raise UserError(
                f"The run in {folder} was trained on another data set (other images or classes). "
                "Name the same one to go on, or another folder with --out."
            )
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["step"]

    def save(step: int) -> None:
        state = {
            "step": step,
            "data": fingerprint,
            "model": model.state_dict(),
            "average": average.state_dict(),
            "optimizer": optimizer.state_dict(),
        }
        # The state last: where it is, the model of that step is there too.
        save_model(folder / MODEL, average.module.state_dict(), model_config, categories, step)
        save_state(folder / STATE, state, model_config, train_config)

    drop_lines_after(folder / METRICS, first)
    last_save = time.monotonic()
    bar = tqdm(
        range(first, train_config.steps),
        initial=first,
        total=train_config.steps,
        desc="training",
        disable=not progress,
        mininterval=1.0,
    )
    shown: dict[str, float] = {}
    with stop_signals() as stop, open(folder / METRICS, "a", buffering=1) as metrics:
        for step in bar:
            start = time.perf_counter()
            batch = load_batch(dataset, step, train_config, model_config, device)
            rate = learning_rate(step, train_config)
            try:
                losses = train_step(model, optimizer, batch, rate, train_config)
            except TrainingDivergedError as error:
                raise TrainingDivergedError(
                    f"Step {step + 1}, learning rate {rate:.3g}, images {batch.image_ids}: {error} "
                    f"The last good checkpoint, if there was one, is {folder / MODEL}. "
                    "A lower learning rate or a longer warm-up, with another --out, is the usual "
                    "cure; `mrcnn-edu data check` looks for broken targets."
                ) from error
            average.update_parameters(model)
            seconds = time.perf_counter() - start
            line = {"step": step + 1, "lr": rate, **losses, "seconds": round(seconds, 4)}
            metrics.write(json.dumps(line) + "\n")
            for name, value in losses.items():
                shown[name] = 0.95 * shown.get(name, value) + 0.05 * value
            bar.set_postfix({k: f"{v:.3f}" for k, v in shown.items()}, refresh=False)
            if stop.requested:
                bar.close()
                save(step + 1)
                raise TrainingInterruptedError(
                    f"Stopped after step {step + 1} of {train_config.steps}; everything is saved "
                    f"in {folder}. Run the same command again to go on, or use {folder / MODEL} "
                    "with `mrcnn-edu evaluate` and `mrcnn-edu predict` as it is."
                )
            if time.monotonic() - last_save > train_config.checkpoint_seconds:
                save(step + 1)
                last_save = time.monotonic()
    if first < train_config.steps:
        save(train_config.steps)
    trained = average.module
    assert isinstance(trained, MaskRCNN)
    return trained.eval()


def train_step(
    model: MaskRCNN,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    rate: float,
    config: TrainConfig,
) -> dict[str, float]:
    """Forward, losses, backward, one step of the optimiser.

    Returns:
        each loss and their sum, ``loss``, as numbers.

    Raises:
        TrainingDivergedError: a loss, or the norm of the gradient, is NaN or infinite; the weights
            have not been touched.
    """
    for group in optimizer.param_groups:
        group["lr"] = rate
    losses = model.losses(model(batch.images), batch.targets, batch.generators)
    total = torch.stack(list(losses.values())).sum()  # paper §3: L = L_cls + L_box + L_mask + RPN
    values = {name: round(float(value.detach()), 6) for name, value in losses.items()}
    broken = [f"{name} is {value}" for name, value in values.items() if not math.isfinite(value)]
    listed = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
    if broken:
        raise TrainingDivergedError(f"{' and '.join(broken)} (all losses: {listed}).")
    optimizer.zero_grad(set_to_none=True)
    total.backward()
    norm = float(nn.utils.clip_grad_norm_(model.parameters(), config.clip_gradient_norm))
    if not math.isfinite(norm):
        raise TrainingDivergedError(f"the norm of the gradient is {norm} (all losses: {listed}).")
    optimizer.step()
    return {**values, "loss": round(float(total.detach()), 6)}


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW or SGD; biases and normalisation layers (tensors of one dimension) do not decay."""
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.dim() > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0},
    ]
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)
    return torch.optim.SGD(groups, lr=config.learning_rate, momentum=config.momentum, fused=True)


def learning_rate(step: int, config: TrainConfig) -> float:
    """The rate of a step: a linear warm-up, then a half cosine to zero or tenfold drops."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    if config.schedule == "cosine":
        after = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
        return config.learning_rate * 0.5 * (1 + math.cos(math.pi * after))
    passed = sum(step >= m * config.steps for m in config.milestones)
    return config.learning_rate * 0.1**passed


def drop_lines_after(path: Path, step: int) -> None:
    """Remove lines of later steps, and half a line at the end, left by a run that was killed."""
    if not path.exists():
        return
    kept = []
    for text in path.read_text().splitlines():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue  # the line that was being written when the run was killed
        if line["step"] <= step:
            kept.append(text)
    write_atomically(path, "".join(f"{text}\n" for text in kept).encode())


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a ``metrics.jsonl``, one dictionary a step."""
    return [json.loads(line) for line in path.read_text().splitlines()]


@dataclass
class StopRequest:
    """Set by Ctrl-C or SIGTERM; the loop looks at it after every step."""

    requested: bool = False


@contextmanager
def stop_signals() -> Iterator[StopRequest]:
    """Turn the first Ctrl-C or SIGTERM into a request; a second Ctrl-C ends the program at once."""
    stop = StopRequest()

    def request(number: int, frame: object) -> None:
        stop.requested = True
        print("\nStopping after this step, and saving …", file=sys.stderr)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    try:
        previous = {s: signal.signal(s, request) for s in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not in the main thread, where signals cannot be handled
        yield stop
        return
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _check_dataset(dataset: Dataset, config: ModelConfig) -> None:
    if len(dataset) == 0:
        raise UserError("The training set has no images.")
    if dataset.num_classes != config.num_classes:
        names: Sequence[str] = dataset.class_names
        raise UserError(
            f"The model has {config.num_classes} classes and the training set "
            f"{dataset.num_classes} ({', '.join(names[:5])} …). Set num_classes to "
            f"{dataset.num_classes}."
        )


def _check_frozen(config: ModelConfig) -> None:
    if config.trunk_norm == "frozen_bn" or config.frozen_stages > 0:
        raise UserError(
            "This model keeps its normalisation or its first stages as they are, which only makes "
            "sense with pretrained weights. To train from scratch use the preset tiny_fpn, or "
            "trunk_norm='group_norm' and frozen_stages=0."
        )


def _fingerprint(dataset: Dataset) -> str:
    """Changes with the images and classes of a data set, so that no run goes on with another."""
    ids = [dataset.to_category_id(i + 1) for i in range(dataset.num_classes)]
    content = json.dumps([ids, list(dataset.class_names), list(dataset.image_ids)])
    return hashlib.blake2b(content.encode(), digest_size=8).hexdigest()
