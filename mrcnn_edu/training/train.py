"""Training: the loop, from the first step to the last, on one process or many.

A step takes its images, computes the five losses, their gradient, and moves the weights. Around it:
the rate follows a schedule, an average of the weights is kept, everything is saved from time to
time, and what went wrong is said in one sentence. Nothing random has a history (see
`mrcnn_edu.training.order`), so a run that was killed and resumed has the same losses, to the bit on
a CPU, as one that was not. Chapter 13.
"""

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from mrcnn_edu.config import ModelConfig
from mrcnn_edu.data.check import describe_left_out
from mrcnn_edu.data.dataset import Dataset
from mrcnn_edu.errors import TrainingDivergedError, UserError
from mrcnn_edu.kernels.compiling import told
from mrcnn_edu.nn.detector import Detector
from mrcnn_edu.processes import Processes, processes
from mrcnn_edu.systems import build
from mrcnn_edu.training.batches import Batch
from mrcnn_edu.training.config import TrainConfig
from mrcnn_edu.training.distributed import distribute, without_averaging
from mrcnn_edu.training.loader import Loader
from mrcnn_edu.training.optimizer import make_optimizer, set_rate
from mrcnn_edu.training.order import make_order
from mrcnn_edu.training.precision import autocast, make_scaler, set_matmul_precision
from mrcnn_edu.training.refusals import (
    check_dataset,
    check_division,
    check_frozen,
    check_skipping,
    fingerprint,
)
from mrcnn_edu.training.rescue import interrupted, saved_in_the_end
from mrcnn_edu.training.run_folder import RunFolder
from mrcnn_edu.training.run_log import RunLog, read_evaluations
from mrcnn_edu.training.schedule import count_steps, learning_rate
from mrcnn_edu.training.state import TrainState
from mrcnn_edu.training.stop import StopRequest, stop_signals
from mrcnn_edu.training.validation import score, validate
from mrcnn_edu.weights.checkpoint import misfits_of


def train(
    model_config: ModelConfig,
    train_config: TrainConfig,
    dataset: Dataset,
    folder: Path,
    device: str = "cpu",
    progress: bool = True,
    validation: Dataset | None = None,
    initial: dict[str, Tensor] | None = None,
) -> Detector:
    """Train a model, or go on with the run in `folder` (`mrcnn_edu.training.run_folder`).

    Under `torchrun` every process calls this, and they train one model together.

    Args:
        model_config: the model; its `num_classes` must be the data set's.
        train_config: the schedule.
        dataset: images and targets.
        folder: the run folder; created if need be.
        device: where to train: "cpu" or "cuda".
        progress: show a bar with losses and the time left.
        validation: measured every `evaluate_every` steps and in the end.
        initial: weights to begin with, under the model's own names; without them the model begins
            from random ones. A run that goes on has its own.

    Returns:
        the model with averaged weights, in eval mode.

    Raises:
        UserError: the data set is empty or has other classes, a sample is broken, the folder
            cannot be written or belongs to another run, weights do not fit, the model keeps layers
            frozen that nobody has trained, or the batch cannot be divided among the processes.
        TrainingDivergedError: a loss is not finite. The last checkpoint is kept.
        TrainingInterruptedError: Ctrl-C or SIGTERM, after saving.
    """
    check_dataset(dataset, model_config)
    order = make_order(dataset, train_config)
    config = count_steps(train_config, len(order))
    run = RunFolder(folder, config, dataset.categories, fingerprint(dataset))
    with processes(device) as group, ExitStack() as alone:
        check_division(config, group)
        if group.first:
            alone.enter_context(run.open())
        group.wait()
        if not run.started and initial is None:
            check_frozen(model_config)
        set_matmul_precision(config.precision)
        state = make_state(model_config, config, group.device, initial)
        if run.started:
            run.load(state)
        check_skipping(config, state.model)
        if group.first and not run.started:
            run.save_untrained(state)
        if config.compile:
            compile_parts(state.model)
        loader = Loader(
            dataset, order, config, model_config, group.device, state.step, group.rank, group.world
        )
        log = RunLog(
            folder, state.step, config.steps, progress, config.tensorboard, not group.first
        )
        for line in describe_left_out(dataset.left_out):
            log.say(f"The training set has {len(dataset)} images; {line}.")
        with stop_signals() as stop, log, saved_in_the_end(state, run, group, stop):
            _loop(state, config, group, loader, run, log, stop, validation)
    return state.to_use.eval()


def _loop(
    state: TrainState,
    config: TrainConfig,
    group: Processes,
    loader: Loader,
    run: RunFolder,
    log: RunLog,
    stop: StopRequest,
    validation: Dataset | None,
) -> None:
    """All steps that are left."""
    losses_of = distribute(state.model.train(), group)
    first, unsaved, last_save = True, state.step < config.steps, time.monotonic()
    if validation is not None and _owed(state, config, run, group):
        _evaluate(state, config, group, run, log, validation)
    for parts in loader:
        start, rate = time.perf_counter(), learning_rate(state.step, config)
        with told(log.say) if first else nullcontext():
            numbers, stopping = train_step(
                state, losses_of, parts, rate, config, group, stop.requested
            )
        first = False
        log.step(
            {
                "step": state.step,
                "lr": rate,
                **numbers,
                "seconds": round(loader.waited + time.perf_counter() - start, 4),
                "waited": round(loader.waited, 4),
            }
        )
        evaluating = validation is not None and _is_due(state.step, config)
        unsaved = not (
            stopping or evaluating or time.monotonic() - last_save > config.checkpoint_seconds
        )
        if not unsaved:
            if group.first:
                run.save(state)
            last_save = time.monotonic()
        if stopping:
            group.wait()
            raise interrupted(state, run)
        if evaluating and validation is not None:
            _evaluate(state, config, group, run, log, validation)
    if unsaved and group.first:
        run.save(state)
    group.wait()


def train_step(
    state: TrainState,
    losses_of: nn.Module,
    parts: Sequence[Batch],
    rate: float,
    config: TrainConfig,
    group: Processes,
    stop: bool = False,
) -> tuple[dict[str, float | None], bool]:
    """Forward, losses, backward, one step of the optimiser.

    The gradient of a step is the mean over its parts, and over all processes. Each part is
    normalised by itself, with the counts of all processes: for losses that count sampled anchors
    and RoIs, whose number is the same in every part but for rare images, that is the whole batch's
    gradient.

    Args:
        state: model, average, optimiser; its step moves on by one.
        losses_of: the model's losses (`mrcnn_edu.training.distributed.distribute`).
        parts: this process's images.
        rate: the learning rate.
        config: clipping, precision, how many bad steps to leave out.
        group: the processes.
        stop: whether this process was asked to stop; all learn of it.

    Returns:
        each loss and their sum `loss`, the mean over processes, and `gradient_norm` before
        clipping, with None for what is not finite; whether any process was asked to stop.

    Raises:
        TrainingDivergedError: a loss, or the norm of the gradient, is NaN or infinite, and no step
            may be left out any more; the weights have not been touched.
    """
    set_rate(state.optimizer, rate)
    state.optimizer.zero_grad(set_to_none=True)
    total = torch.zeros((), device=group.device)
    for i, batch in enumerate(parts):
        last = i == len(parts) - 1
        with nullcontext() if last else without_averaging(losses_of):
            generators = batch.generators(config.seed, group.device)
            with autocast(config.precision, group.device):
                losses = losses_of(batch.images, batch.targets, generators)
            # Paper, §3: L = L_cls + L_box + L_mask, and the two of the RPN.
            stacked = torch.stack(list(losses.values())) / len(parts)  # [5]
            state.scaler.scale(stacked.sum()).backward()
            total = total + stacked.detach()
    state.scaler.unscale_(state.optimizer)
    limit = config.clip_gradient_norm or math.inf
    norm = nn.utils.clip_grad_norm_(state.model.parameters(), limit)

    # One look at all numbers: every look makes the CPU wait for the GPU.
    asked = torch.tensor([float(stop)], device=group.device)
    means = group.mean(torch.cat([total, asked]))
    *values, stopping, length = torch.cat([means, norm.detach().float()[None]]).tolist()
    numbers = dict(zip(losses, values, strict=True))
    numbers = {**numbers, "loss": sum(values), "gradient_norm": length}
    # float16 overflows now and then: the scaler passes over the step and lowers its scale.
    overflow = state.scaler.is_enabled() and state.scaler.get_scale() >= 1
    if math.isfinite(numbers["loss"]) and (math.isfinite(length) or overflow):
        state.moving = True
        state.scaler.step(state.optimizer)
        if state.average is not None:
            state.average.update_parameters(state.model)
        state.moving = False
    elif state.skipped < config.skip_nonfinite:
        state.skipped += 1
    else:
        raise TrainingDivergedError(_facts(state.step, rate, parts, numbers))
    state.scaler.update()
    state.step += 1
    finite = {k: round(v, 6) if math.isfinite(v) else None for k, v in numbers.items()}
    return finite, stopping > 0


def make_state(
    model_config: ModelConfig,
    config: TrainConfig,
    device: str,
    initial: dict[str, Tensor] | None = None,
) -> TrainState:
    """A new model with its average, optimiser and scaler, before the first step.

    Args:
        model_config: of the model.
        config: of the run; its seed draws the weights.
        device: where the model goes.
        initial: weights to begin with, a state dict; None for new ones.

    Raises:
        UserError: `initial` is not a state dict of this model; the tensors are named.
    """
    torch.manual_seed(config.seed)  # the weights of a new model
    model = build(model_config)
    if initial is not None:
        if problems := misfits_of(model.state_dict(), initial):
            raise UserError(f"The weights to begin with do not fit this model: {problems}.")
        model.load_state_dict(initial)
    model = model.to(device).to(memory_format=torch.channels_last)
    average = None
    if config.average_decay:
        average = AveragedModel(
            model, multi_avg_fn=get_ema_multi_avg_fn(config.average_decay), use_buffers=True
        )
    optimizer = make_optimizer(model, config)
    return TrainState(model, average, optimizer, make_scaler(config.precision, device))


def compile_parts(model: Detector, backend: str = "inductor") -> None:
    """Compile backbone, neck and heads, each by itself; what selects boxes in between stays Python.

    Names of parameters do not change. The first steps take minutes.
    """
    for part in model.children():
        part.compile(backend=backend)


def _is_due(step: int, config: TrainConfig) -> bool:
    every = config.evaluate_every
    return bool(every) and step > 0 and (step % every == 0 or step == config.steps)


def _owed(state: TrainState, config: TrainConfig, run: RunFolder, group: Processes) -> bool:
    """Whether a kill came between a checkpoint and its evaluation. All processes learn of it."""
    owed = False
    if group.first and _is_due(state.step, config):
        lines = read_evaluations(run.path)
        owed = not lines or lines[-1]["step"] < state.step
    return float(group.mean(torch.tensor(float(owed), device=group.device))) > 0


def _evaluate(
    state: TrainState,
    config: TrainConfig,
    group: Processes,
    run: RunFolder,
    log: RunLog,
    validation: Dataset,
) -> None:
    """Measure, draw, and keep the weights if they are the best so far."""
    line = validate(state.to_use, validation, config, state.step, run.path, group)
    if group.first:
        if score(line) > max(map(score, read_evaluations(run.path)), default=-math.inf):
            run.save_best(state)
        log.evaluation(line)


def _facts(step: int, rate: float, parts: Sequence[Batch], numbers: Mapping[str, float]) -> str:
    names = [k for k in numbers if k not in ("loss", "gradient_norm")]
    broken = [f"{k} is {numbers[k]}" for k in names if not math.isfinite(numbers[k])]
    broken = broken or [f"the norm of the gradient is {numbers['gradient_norm']}"]
    listed = ", ".join(f"{k} {numbers[k]:.4g}" for k in names)
    ids = [image_id for part in parts for image_id in part.image_ids]
    return (
        f"Step {step + 1}, learning rate {rate:.3g}, images {ids}: {' and '.join(broken)} (all "
        f"losses: {listed}). The weights of the last checkpoint are good. A lower learning rate "
        "or a longer warm-up, with another --out, is the usual cure; `mrcnn-edu data check` looks "
        "for broken targets, and --skip-nonfinite leaves a few such steps out."
    )
