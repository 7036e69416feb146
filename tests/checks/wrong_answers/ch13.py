"""Typical mistakes in the exercises of chapter 13."""

import copy
import math

import torch

# ---------------------------------------------------------------- 13.1


def _rate(step, config, factor=None, part_of=None, span=None, offset=0, passed=None, base=0.1):
    full, warm = config.learning_rate, config.warmup_steps
    factor = config.warmup_factor if factor is None else factor
    if step < warm:
        part = (step + offset) / warm
        return full * (factor + (1 - factor) * part)
    if config.schedule == "cosine":
        begin = warm if part_of is None else part_of
        length = config.steps - begin if span is None else span
        return full * 0.5 * (1 + math.cos(math.pi * (step - begin) / max(1, length)))
    reached = [step >= round(m * config.steps) for m in config.milestones]
    return full * base ** (sum(reached) if passed is None else passed(step, config))


def from_nothing(step, config):
    return _rate(step, config, factor=0.0)


def counts_from_one(step, config):
    return _rate(step, config, offset=1)


def constant_warmup(step, config):
    full = config.learning_rate
    return full * config.warmup_factor if step < config.warmup_steps else _rate(step, config)


def cosine_from_zero(step, config):
    return _rate(step, config, part_of=0)


def one_drop(step, config):
    return _rate(step, config, passed=lambda s, c: s >= round(c.milestones[0] * c.steps))


def late_drop(step, config):
    return _rate(
        step, config, passed=lambda s, c: sum(s > round(m * c.steps) for m in c.milestones)
    )


def unrounded(step, config):
    return _rate(step, config, passed=lambda s, c: sum(s >= m * c.steps for m in c.milestones))


def minus_a_tenth(step, config):
    if step < config.warmup_steps or config.schedule == "cosine":
        return _rate(step, config)
    reached = sum(step >= round(m * config.steps) for m in config.milestones)
    return config.learning_rate * (1 - 0.1 * reached)


def no_warmup_divides(step, config):
    part = min(1.0, step / config.warmup_steps)
    if part < 1:
        return config.learning_rate * (config.warmup_factor * (1 - part) + part)
    return _rate(step, config)


def a_tensor_of_all(step, config):
    return torch.tensor([_rate(s, config) for s in range(config.steps)])


def ends_a_step_early(step, config):
    return _rate(step, config, span=config.steps - config.warmup_steps - 1)


# ---------------------------------------------------------------- 13.2


def _step(state, losses_of, parts, rate, limit, decay, slip=""):
    for group in state.optimizer.param_groups:
        group["lr"] = rate * (1 if slip == "one rate" else group["rate_factor"])
    if slip != "no zero_grad":
        state.optimizer.zero_grad()
    total, divisor = 0.0, 1 if slip == "sum of parts" else len(parts)
    for part in parts:
        loss = sum(losses_of(part).values()) / divisor
        loss.backward()
        total += loss.item() if slip != "keeps the graph" else loss
        if slip == "clips each part":
            torch.nn.utils.clip_grad_norm_(state.model.parameters(), limit)
        if slip == "zero_grad inside" and part is not parts[-1]:
            state.optimizer.zero_grad()
    unlimited = 1e9 if slip == "not clipped" else limit
    norm = torch.nn.utils.clip_grad_norm_(state.model.parameters(), unlimited)
    if slip == "average first":
        _towards(state, decay)
    if slip != "no step":
        state.optimizer.step()
    if slip == "decay exchanged":
        _towards(state, 1 - decay)
    elif slip not in ("average stays", "average first"):
        _towards(state, decay)
    if slip == "clipped length":
        norm = norm.clamp(max=limit)
    if slip == "loss of all parts":
        total = total * len(parts)
    return (total, norm) if slip == "keeps the graph" else (total, norm.item())


def _towards(state, decay):
    with torch.no_grad():
        pairs = zip(state.average.parameters(), state.model.parameters(), strict=True)
        for mean, value in pairs:
            mean.copy_(decay * mean + (1 - decay) * value)


def _with(slip):
    def my_step(state, losses_of, parts, rate, limit, decay):
        return _step(state, losses_of, parts, rate, limit, decay, slip)

    my_step.__name__ = slip.replace(" ", "_")
    return my_step


def returns_the_loss(state, losses_of, parts, rate, limit, decay):
    return _step(state, losses_of, parts, rate, limit, decay)[0]


def shares_the_average(state, losses_of, parts, rate, limit, decay):
    found = _step(state, losses_of, parts, rate, limit, decay)
    for mean, value in zip(state.average.parameters(), state.model.parameters(), strict=True):
        mean.data = value.data
    return found


# ---------------------------------------------------------------- 13.4


def _counts(parts):
    return {name: max(1, sum(part[name][1] for part in parts)) for name in parts[0]}


def mean_of_means(parts):
    return [sum(s / max(1, n) for s, n in part.values()) / len(parts) for part in parts]


def own_counts(parts):
    return [sum(s / max(1, n) for s, n in part.values()) for part in parts]


def numbers_only(parts):
    return [loss.item() for loss in right(parts)]


def right(parts):
    counts = _counts(parts)
    return [sum(part[name][0] / counts[name] for name in part) for part in parts]


def detached(parts):
    return [loss.detach() for loss in right(parts)]


def one_loss(parts):
    return sum(right(parts))


def in_the_first(parts):
    losses = right(parts)
    return [sum(losses), *(0 * loss for loss in losses[1:])]


def nothing_is_nan(parts):
    counts = {name: sum(part[name][1] for part in parts) for name in parts[0]}
    return [sum(part[name][0] / counts[name] for name in part) for part in parts]


def one_count_for_all(parts):
    count = sum(n for part in parts for _, n in part.values())
    return [sum(s for s, _ in part.values()) / count for part in parts]


def takes_parts_out(parts):
    losses = right(parts)
    parts.clear()
    return losses


# ---------------------------------------------------------------- 13.3

PARTS = ("model", "average", "optimizer")


def _go_on(make_state, one_step, saved, until, names=PARTS, copies=True, first=None):
    state, begin = make_state(), 0
    if saved is not None:
        for name in names:
            kept = copy.deepcopy(saved[name]) if copies else saved[name]
            getattr(state, name).load_state_dict(kept)
        begin = saved["step"]
    for step in range(begin, until):
        one_step(state, step if first is None else step - begin)
    found = {name: getattr(state, name).state_dict() for name in names}
    found["step"] = until
    return copy.deepcopy(found) if copies else found


def without_momentum(make_state, one_step, saved, until):
    return _go_on(make_state, one_step, saved, until, ("model", "average"))


def without_average(make_state, one_step, saved, until):
    return _go_on(make_state, one_step, saved, until, ("model", "optimizer"))


def without_weights(make_state, one_step, saved, until):
    return _go_on(make_state, one_step, saved, until, ("average", "optimizer"))


def steps_from_zero(make_state, one_step, saved, until):
    return _go_on(make_state, one_step, saved, until, first=0)


def references(make_state, one_step, saved, until):
    return _go_on(make_state, one_step, saved, until, copies=False)


def loads_references(make_state, one_step, saved, until):
    state, begin = make_state(), 0
    if saved is not None:
        for name in PARTS:
            getattr(state, name).load_state_dict(saved[name])
        begin = saved["step"]
    for step in range(begin, until):
        one_step(state, step)
    return copy.deepcopy({n: getattr(state, n).state_dict() for n in PARTS} | {"step": until})


def starts_again(make_state, one_step, saved, until):
    return _go_on(make_state, one_step, None, until)


def one_step_too_many(make_state, one_step, saved, until):
    return _go_on(make_state, one_step, saved, until + 1)


def returns_nothing(make_state, one_step, saved, until):
    _go_on(make_state, one_step, saved, until)


# ---------------------------------------------------------------- 13.5


def _average(weights, keep, add, start=None):
    mean = {k: v.clone() for k, v in weights[0].items()}
    if start is not None:
        mean = {k: start * v if v.is_floating_point() else v for k, v in mean.items()}
    for later in weights[1:]:
        for name, value in later.items():
            if value.is_floating_point():
                mean[name] = keep * mean[name] + add * value
            else:
                mean[name] = value.clone()
    return mean


def plain_mean(weights, decay):
    return {
        k: torch.stack([w[k] for w in weights]).mean(0) if v.is_floating_point() else v
        for k, v in weights[-1].items()
    }


def newest(weights, decay):
    return {k: v.clone() for k, v in weights[-1].items()}


def decay_exchanged(weights, decay):
    return _average(weights, 1 - decay, decay)


def without_the_newest(weights, decay):
    return _average(weights[:-1] or weights, decay, 1 - decay)


def from_zeros(weights, decay):
    zeros = {k: torch.zeros_like(v) for k, v in weights[0].items()}
    return _average([zeros, *weights], decay, 1 - decay)


def counters_averaged(weights, decay):
    mean = {k: v.clone().float() for k, v in weights[0].items()}
    for later in weights[1:]:
        mean = {k: decay * mean[k] + (1 - decay) * later[k] for k in mean}
    return mean


def in_place(weights, decay):
    mean = weights[0]
    for later in weights[1:]:
        for name, value in later.items():
            if value.is_floating_point():
                mean[name].mul_(decay).add_(value, alpha=1 - decay)
    return mean


def the_very_tensors(weights, decay):
    return _average(weights, decay, 1 - decay) if len(weights) > 1 else dict(weights[0])


def shares_counters(weights, decay):
    mean = _average(weights, decay, 1 - decay)
    return {k: v if v.is_floating_point() else weights[-1][k] for k, v in mean.items()}


def floats_alone(weights, decay):
    return {k: v for k, v in _average(weights, decay, 1 - decay).items() if v.is_floating_point()}


WRONG = {
    "check_rate": {
        "begins at nothing": (from_nothing, "begins at 0"),
        "counts from one": (counts_from_one, "count from 0"),
        "constant": (constant_warmup, "A constant warm-up"),
        "cosine from step 0": (cosine_from_zero, "has fallen already"),
        "one drop": (one_drop, "once more"),
        "drops a step late": (late_drop, "has the lower rate already"),
        "milestones as floats": (unrounded, "55.00000000000001"),
        "less a tenth": (minus_a_tenth, "not lowered by a tenth"),
        "divides by no warm-up": (no_warmup_divides, "ZeroDivisionError"),
        "all rates": (a_tensor_of_all, "a tensor or numbers"),
        "ends early": (ends_a_step_early, "four of warm-up from 0.2"),
    },
    "check_step": {
        "no zero_grad": (_with("no zero_grad"), "zero_grad was forgotten"),
        "sum of the parts": (_with("sum of parts"), "as many times too long"),
        "one rate": (_with("one rate"), "its own rate_factor"),
        "not clipped": (_with("not clipped"), "is not clipped"),
        "clips each part": (_with("clips each part"), "after each part"),
        "average stays": (_with("average stays"), "has not moved"),
        "average first": (_with("average first"), "from before the step"),
        "decay exchanged": (_with("decay exchanged"), "not the share of the new weights"),
        "clipped length": (_with("clipped length"), "one before clipping"),
        "keeps the graph": (_with("keeps the graph"), "still has its graph"),
        "no step": (_with("no step"), "weights have not moved"),
        "gradient of the last part": (_with("zero_grad inside"), "The weights after 3 steps"),
        "the loss alone": (returns_the_loss, "returned a float"),
        "loss of all parts": (_with("loss of all parts"), "mean over its parts"),
    },
    "check_part_losses": {
        "mean of means": (mean_of_means, "weighs more than one"),
        "own counts": (own_counts, "divided by its own count alone"),
        "numbers": (numbers_only, "must be a tensor"),
        "detached": (detached, "no .detach()"),
        "one loss": (one_loss, "Return a list of 2 losses"),
        "all in the first": (in_the_first, "own sums alone"),
        "nothing is nan": (nothing_is_nan, "a loss of 0"),
        "one count for all": (one_count_for_all, "Three losses."),
        "takes the parts out": (takes_parts_out, "writes into its input"),
    },
    "check_go_on": {
        "no momentum": (without_momentum, "forgotten its momentum"),
        "no average": (without_average, "average of the weights is another"),
        "no weights": (without_weights, "weights were not brought back"),
        "steps from zero": (steps_from_zero, "[0, 1, 0, 1]"),
        "references": (references, "changes when the model does"),
        "loads references": (loads_references, "Going on has changed what was saved"),
        "starts again": (starts_again, "no step is left"),
        "one too many": (one_step_too_many, "[0, 1, 2, 3, 4], expected"),
        "nothing": (returns_nothing, "Return what the next call needs"),
    },
    "check_average": {
        "plain mean": (plain_mean, "the plain mean"),
        "newest": (newest, "nothing is averaged"),
        "exchanged": (decay_exchanged, "the share that the *old* average keeps"),
        "without the newest": (without_the_newest, "were left out"),
        "from zeros": (from_zeros, "not with zeros"),
        "counters averaged": (counters_averaged, "counted, not averaged"),
        "in place": (in_place, "writes into its input"),
        "the very tensors": (the_very_tensors, "w is the very tensor"),
        "shares counters": (shares_counters, "count is the very tensor"),
        "floats alone": (floats_alone, "Your names are"),
    },
}

OTHER = {"check_step": [shares_the_average]}

EQUIVALENT: dict = {
    "check_rate": {
        "max(2, config.steps": "where one step or none follows the warm-up, the cosine is at its "
        "start, whatever its length",
    },
    "check_step": {"strict=False": "model and average have the same parameters"},
    "check_part_losses": {"for name in parts[-1]}": "all parts have the same losses"},
    "check_average": {"in weights[0:]": "the first weights averaged with themselves are the same"},
}
