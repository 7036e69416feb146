"""Typical mistakes in the exercises of chapter 14."""

import copy
from dataclasses import replace

from mrcnn_edu.checks.ch14 import rescaled
from mrcnn_edu.training.budget import bill, state_bytes
from mrcnn_edu.training.config import RECIPES
from mrcnn_edu.training.schedule import scale_to_batch

# ---------------------------------------------------------------- 14.1


def _but(change):
    """The right recipe with one thing changed: ``change`` gets recipe, k and the right result."""

    def answer(recipe, batch_size):
        right = rescaled(recipe, batch_size)
        return {**right, **change(recipe, batch_size / recipe["batch_size"], right)}

    return answer


old_rate = _but(lambda recipe, k, right: {"learning_rate": recipe["learning_rate"]})
rate_upside_down = _but(lambda recipe, k, right: {"learning_rate": recipe["learning_rate"] / k})
square_root = _but(lambda recipe, k, right: {"learning_rate": recipe["learning_rate"] * k**0.5})
old_steps = _but(lambda recipe, k, right: {"steps": recipe["steps"]})
steps_upside_down = _but(lambda recipe, k, right: {"steps": round(recipe["steps"] * k)})
old_milestones = _but(lambda recipe, k, right: {"milestones": recipe["milestones"]})
old_warmup = _but(lambda recipe, k, right: {"warmup_steps": recipe["warmup_steps"]})
old_batch = _but(lambda recipe, k, right: {"batch_size": recipe["batch_size"]})
fractions_of_steps = _but(lambda recipe, k, right: {"steps": recipe["steps"] / k})
rounded_down = _but(
    lambda recipe, k, right: {"milestones": [int(m / k) for m in recipe["milestones"]]}
)
warmup_upside_down = _but(
    lambda recipe, k, right: {"warmup_steps": round(recipe["warmup_steps"] * k)}
)


def into_the_recipe(recipe, batch_size):
    recipe.update(rescaled(recipe, batch_size))
    return recipe


def returns_no_recipe(recipe, batch_size):
    return list(rescaled(recipe, batch_size).values())


def without_warmup(recipe, batch_size):
    return {k: v for k, v in rescaled(recipe, batch_size).items() if k != "warmup_steps"}


# ---------------------------------------------------------------- 14.2


def _cost(images, machine):
    right = bill(images, machine)
    return right.hours, right.money, right.limit


def in_minutes(images, machine):
    hours, money, limit = _cost(images, machine)
    return 60 * hours, money, limit


def in_seconds(images, machine):
    hours, money, limit = _cost(images, machine)
    return 3600 * hours, money, limit


def perfect_scaling(images, m):
    return _cost(images, replace(m, efficiency=1.0))


def one_after_the_other(images, m):
    gpu = m.gpus * m.images_s * (m.efficiency if m.gpus > 1 else 1)
    hours = images / 3600 * (1 / gpu + 1 / (m.workers * m.worker_images_s))
    return hours, hours * m.gpus * m.price, bill(images, m).limit


def rates_added(images, m):
    gpu = m.gpus * m.images_s * (m.efficiency if m.gpus > 1 else 1)
    hours = images / (gpu + m.workers * m.worker_images_s) / 3600
    return hours, hours * m.gpus * m.price, bill(images, m).limit


def price_of_the_machine(images, m):
    hours, money, limit = _cost(images, m)
    return hours, money / m.gpus, limit


def no_loader(images, m):
    return _cost(images, replace(m, workers=10**9))


def names_the_faster(images, m):
    hours, money, limit = _cost(images, m)
    return hours, money, limit if m.efficiency == 0.5 else "GPUs"


def workers_per_gpu(images, m):
    return _cost(images, replace(m, workers=m.workers * m.gpus))


def one_gpu_shares_too(images, m):
    gpu = m.gpus * m.images_s * m.efficiency
    loader = m.workers * m.worker_images_s
    hours = images / min(gpu, loader) / 3600
    return hours, hours * m.gpus * m.price, "GPUs" if gpu <= loader else "loader"


def says_true(images, m):
    hours, money, limit = _cost(images, m)
    return hours, money, limit == "GPUs"


def only_hours(images, m):
    return _cost(images, m)[0]


# ---------------------------------------------------------------- 14.3


def _parts(model):
    weights = sum(p.nbytes for p in model.parameters())
    trained = sum(p.nbytes for p in model.parameters() if p.requires_grad)
    return weights, trained, sum(b.nbytes for b in model.buffers())


def numbers_not_bytes(model, optimizer, average):
    return state_bytes(model, optimizer, average) // 4


def weights_alone(model, optimizer, average):
    return sum(_parts(model)[::2])


def no_memory(model, optimizer, average):
    weights, trained, buffers = _parts(model)
    return (weights + buffers) * (1 + average) + trained


def adam_is_sgd(model, optimizer, average):
    return state_bytes(model, "sgd", average)


def no_average(model, optimizer, average):
    return state_bytes(model, optimizer, False)


def average_of_everything(model, optimizer, average):
    return state_bytes(model, optimizer, False) * (1 + average)


def all_trained(model, optimizer, average):
    weights, _, buffers = _parts(model)
    copies = {"sgd": 3, "adamw": 4}[optimizer]
    return weights * (copies + average) + buffers * (1 + average)


def frozen_forgotten(model, optimizer, average):
    _, trained, buffers = _parts(model)
    copies = {"sgd": 3, "adamw": 4}[optimizer]
    return trained * (copies + average) + buffers * (1 + average)


def no_buffers(model, optimizer, average):
    return state_bytes(model, optimizer, average) - _parts(model)[2] * (1 + average)


def buffers_are_trained(model, optimizer, average):
    return state_bytes(model, optimizer, average) + 2 * sum(
        b.nbytes for b in model.buffers() if b.is_floating_point()
    )


def always_four_bytes(model, optimizer, average):
    sizes = {p: p.element_size() for p in model.parameters()}
    half = any(size == 2 for size in sizes.values())
    return state_bytes(model, optimizer, average) * (2 if half else 1)


def average_without_buffers(model, optimizer, average):
    return state_bytes(model, optimizer, average) - average * _parts(model)[2]


# ---------------------------------------------------------------- 14.4


def _plan(**changes):
    def answer(gpus, images_per_gpu):
        right = scale_to_batch(RECIPES["1x"], gpus * images_per_gpu)
        found = {k: v(gpus, images_per_gpu) if callable(v) else v for k, v in changes.items()}
        return replace(right, **found)

    return answer


batch_of_one_gpu = _plan(batch_size=lambda gpus, each: each)
rate_by_gpus = _plan(learning_rate=lambda gpus, each: 0.02 * gpus / 8)
milestones_in_steps = _plan(milestones=(60_000.0, 80_000.0))
steps_as_they_were = _plan(steps=90_000)
warmup_as_it_was = _plan(warmup_steps=1000)
no_checkpoints = _plan(checkpoint_seconds=1e9)
other_milestones = _plan(milestones=(0.5, 0.75))
another_decay = _plan(weight_decay=0.01)
batch_of_sixteen = _plan(batch_size=16)


def a_dictionary(gpus, images_per_gpu):
    return {"batch_size": gpus * images_per_gpu}


# ---------------------------------------------------------------- 14.5


def _snapshot(model, optimizer, step):
    return {
        "model": copy.deepcopy(model.state_dict()),
        "optimizer": copy.deepcopy(optimizer.state_dict()),
        "step": step,
    }


def weights_only(model, optimizer, step):
    return {"model": copy.deepcopy(model.state_dict()), "step": step}


def no_step(model, optimizer, step):
    found = _snapshot(model, optimizer, step)
    del found["step"]
    return found


def no_copy(model, optimizer, step):
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}


def shallow_copy(model, optimizer, step):
    found = _snapshot(model, optimizer, step)
    return {**found, "optimizer": copy.copy(optimizer.state_dict())}


def parameters_only(model, optimizer, step):
    found = _snapshot(model, optimizer, step)
    return {**found, "model": {k: v.detach().clone() for k, v in model.named_parameters()}}


def step_before(model, optimizer, step):
    return {**_snapshot(model, optimizer, step), "step": step - 1}


def settings_only(model, optimizer, step):
    return {**_snapshot(model, optimizer, step), "optimizer": copy.deepcopy(optimizer.defaults)}


def empty_memory(model, optimizer, step):
    found = _snapshot(model, optimizer, step)
    found["optimizer"]["state"] = {}
    return found


def resets_the_gradients_memory(model, optimizer, step):
    found = _snapshot(model, optimizer, step)
    for state in optimizer.state.values():
        state.clear()
    return found


def a_layer_is_missing(model, optimizer, step):
    found = _snapshot(model, optimizer, step)
    found["model"].pop("3.bias")
    return found


def a_tuple(model, optimizer, step):
    return tuple(_snapshot(model, optimizer, step).values())


def no_weights(model, optimizer, step):
    found = _snapshot(model, optimizer, step)
    del found["model"]
    return found


WRONG = {
    "check_rescale": {
        "the rate stays": (old_rate, "belongs to 16 images"),
        "the rate goes up": (rate_upside_down, "went up to 0.16"),
        "square root": (square_root, "square-root rule"),
        "the steps stay": (old_steps, "one and a half epochs"),
        "fewer steps": (steps_upside_down, "went down to 11,250"),
        "the milestones stay": (old_milestones, "a twelfth of the run"),
        "the warm-up stays": (old_warmup, "now shows an eighth"),
        "the batch stays": (old_batch, "your recipe says 16"),
        "halves of steps": (fractions_of_steps, "whole numbers"),
        "rounded down": (rounded_down, "rounds to 26,667"),
        "in place": (into_the_recipe, "writes into its input"),
        "a list": (returns_no_recipe, "not a list"),
        "a key is missing": (without_warmup, "has no ['warmup_steps']"),
    },
    "check_cost": {
        "minutes": (in_minutes, "That is minutes"),
        "seconds": (in_seconds, "That is seconds"),
        "perfect scaling": (perfect_scaling, "slower than four times one"),
        "one after the other": (one_after_the_other, "You added the loader's time"),
        "rates added": (rates_added, "do not add up"),
        "price of the machine": (price_of_the_machine, "The price is that of one GPU"),
        "no loader": (no_loader, "only 20 arrive"),
        "always GPUs": (names_the_faster, "say which is less"),
        "workers of each GPU": (workers_per_gpu, "not to each GPU"),
        "one GPU shares": (one_gpu_shares_too, "loses nothing by sharing"),
        "true or false": (says_true, "yours is True"),
        "one number": (only_hours, "expected 3 values"),
    },
    "check_state_bytes": {
        "numbers": (numbers_not_bytes, "numbers, not bytes"),
        "weights alone": (weights_alone, "The weights alone"),
        "no momentum": (no_memory, "SGD with momentum remembers, too"),
        "Adam as SGD": (adam_is_sgd, "a mean and a mean square"),
        "no average": (no_average, "another copy of them"),
        "average of everything": (average_of_everything, "not of gradients and momenta"),
        "frozen layers trained": (all_trained, "neither gradients nor a momentum"),
        "frozen layers forgotten": (frozen_forgotten, "are held all the same"),
        "no buffers": (no_buffers, "they are held as well"),
        "buffers trained": (buffers_are_trained, "Buffers are held, not trained"),
        "four bytes": (always_four_bytes, "ask each tensor"),
        "average without buffers": (average_without_buffers, "whose copy holds the buffers"),
    },
    "check_plan": {
        "batch of one GPU": (batch_of_one_gpu, "counts the images of a step over all"),
        "rate by GPUs": (rate_by_gpus, "however many GPUs share them"),
        "milestones in steps": (milestones_in_steps, "they are parts of the run, 0..1"),
        "steps stay": (steps_as_they_were, "180,000 steps"),
        "warm-up stays": (warmup_as_it_was, "the warm-up is 2,000"),
        "no checkpoints": (no_checkpoints, "A run that is killed loses"),
        "other milestones": (other_milestones, "milestones is (0.6"),
        "another decay": (another_decay, "weight_decay is"),
        "batch of sixteen": (batch_of_sixteen, "batch_size is 8; yours 16"),
        "a dictionary": (a_dictionary, "not a dict"),
    },
    "check_snapshot": {
        "weights only": (weights_only, "the momentum of days is lost"),
        "no step": (no_step, "which rate and which images"),
        "no copy": (no_copy, "hands out the tensors themselves"),
        "a shallow copy": (shallow_copy, "copy it too"),
        "parameters only": (parameters_only, "a norm's statistics"),
        "the step before": (step_before, "yours 4"),
        "settings only": (settings_only, "a list of settings does not"),
        "an empty memory": (empty_memory, "equal to the bit was expected"),
        "changes the run": (resets_the_gradients_memory, "it should only look at it"),
        "a layer is missing": (a_layer_is_missing, "lacks ['3.bias']"),
        "a tuple": (a_tuple, "not a tuple"),
        "no weights": (no_weights, "nothing to go on with"),
    },
}
OTHER = {"check_rescale": [warmup_upside_down]}
EQUIVALENT: dict = {}
