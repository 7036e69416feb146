"""Training: batches, losses, schedule, and a run folder from which a killed run goes on exactly.

Nothing random has a history. Which images are in a batch follows from (seed, step); the crops and
flips of an image and the RoIs sampled from it follow from (seed, epoch, image id). So the state of
a run is its weights, its optimiser and one number, the step, and a run that was killed and resumed
has the same losses, to the bit on a CPU, as one that was not. Chapter 13.
"""

import hashlib
import json
import math
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm.auto import tqdm

from mrcnn_edu.checkpoint import Categories, load_state, save_model, save_state
from mrcnn_edu.config import ModelConfig, TrainConfig
from mrcnn_edu.data.check import check_target
from mrcnn_edu.data.dataset import Dataset
from mrcnn_edu.data.transforms import augment, resize, resize_target, to_float
from mrcnn_edu.errors import TrainingDivergedError, UserError
from mrcnn_edu.model import MaskRCNN
from mrcnn_edu.provenance import write_atomically

STATE, MODEL, METRICS = "state.pt", "model.safetensors", "metrics.jsonl"


class TrainingInterruptedError(UserError):
    """Ctrl-C or SIGTERM. Everything was saved; the same command goes on."""


@dataclass(frozen=True)
class Batch:
    """One step's input."""

    images: list[Tensor]  # each [3, H, W], 0..1
    targets: list[dict[str, Tensor]]
    generators: list[torch.Generator]  # one for each image: its RoIs are sampled with it


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
        UserError: the data set is empty or has other classes, a sample is broken, or the folder
            cannot be written or belongs to another run.
        TrainingDivergedError: a loss is not finite. The last checkpoint is kept.
        TrainingInterruptedError: Ctrl-C or SIGTERM, after saving.
    """
    _check_dataset(dataset, model_config)
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
    first = 0
    if (folder / STATE).exists():
        state = load_state(folder / STATE, model_config, train_config)
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["step"]

    def save(step: int) -> None:
        state = {
            "step": step,
            "model": model.state_dict(),
            "average": average.state_dict(),
            "optimizer": optimizer.state_dict(),
        }
        save_state(folder / STATE, state, model_config, train_config)
        save_model(folder / MODEL, average.module.state_dict(), model_config, categories, step)

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
                ids = [int(t["image_id"]) for t in batch.targets]
                raise TrainingDivergedError(
                    f"Step {step}, learning rate {rate:.3g}, images {ids}: {error} "
                    f"The last good checkpoint, if there was one, is {folder / MODEL}. "
                    "A lower learning rate or a longer warm-up is the usual cure; "
                    "`mrcnn-edu data check` looks for broken targets."
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
        TrainingDivergedError: a loss is NaN or infinite; the weights have not been touched.
    """
    for group in optimizer.param_groups:
        group["lr"] = rate
    losses = model.losses(model(batch.images), batch.targets, batch.generators)
    total = torch.stack(list(losses.values())).sum()  # paper §3: L = L_cls + L_box + L_mask + RPN
    values = {name: round(float(value.detach()), 6) for name, value in losses.items()}
    broken = [f"{name} is {value}" for name, value in values.items() if not math.isfinite(value)]
    if broken:
        listed = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        raise TrainingDivergedError(f"{' and '.join(broken)} (all losses: {listed}).")
    optimizer.zero_grad(set_to_none=True)
    total.backward()
    nn.utils.clip_grad_norm_(model.parameters(), config.clip_gradient_norm)
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


def load_batch(
    dataset: Dataset,
    step: int,
    config: TrainConfig,
    model_config: ModelConfig,
    device: str = "cpu",
) -> Batch:
    """Load, resize and augment the images of a step.

    Raises:
        UserError: an image cannot be read, or its target is not valid.
    """
    images, targets, generators = [], [], []
    for epoch, index in batch_indices(step, config.batch_size, len(dataset), config.seed):
        image_id = int(dataset.image_ids[index])
        generator = image_generator(config.seed, epoch, image_id)
        try:
            raw, target = dataset[index]
            check_target(raw, target, dataset.num_classes, where=f"image {image_id}")
        except (ValueError, OSError) as error:
            raise UserError(str(error)) from error
        image = resize(to_float(raw), model_config.short_side, model_config.long_side)
        image, target = augment(
            image,
            resize_target(target, raw.shape[1:], image.shape[1:]),
            generator,
            crop=config.crop,
            flip_probability=config.flip_probability,
            vertical_flip_probability=config.vertical_flip_probability,
            quarter_turns=config.quarter_turns,
        )
        images.append(image.to(device))
        targets.append({k: v.to(device) for k, v in target.items()})
        generators.append(generator)
    return Batch(images, targets, generators)


def batch_indices(step: int, batch_size: int, length: int, seed: int) -> list[tuple[int, int]]:
    """The (epoch, index) pairs of a step: every epoch is a permutation of the data set."""
    positions = range(step * batch_size, (step + 1) * batch_size)
    return [(p // length, int(_order(length, seed, p // length)[p % length])) for p in positions]


@lru_cache(maxsize=4)
def _order(length: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(length, generator=image_generator(seed, epoch, -1))


def image_generator(seed: int, epoch: int, image_id: int) -> torch.Generator:
    """A generator that depends on these three numbers only, whatever ran before."""
    digest = hashlib.blake2b(f"{seed} {epoch} {image_id}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)


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
