"""Checks of chapter 13, exercises 13.2 and 13.3: one step of training, and a run that goes on."""

import copy
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from mrcnn_edu.checks.common import case, check, parts, require, require_equal, require_not

# A step's part: inputs and what they should give.
Pair = tuple[Tensor, Tensor]


class _Net(nn.Module):
    """Two layers, counters like those of a real network, and a weight that no loss asks for."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.first = nn.Parameter(torch.randn(3, 2, generator=generator))
        self.second = nn.Parameter(torch.randn(2, generator=generator))
        self.unused = nn.Parameter(torch.ones(2))
        self.seen: Tensor
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.seen += len(x)
        return (x @ self.first).tanh() @ self.second


def _state(seed: int, kind: str) -> SimpleNamespace:
    """A model, its average, an optimiser of two groups, and a counter of steps."""
    model = _Net(seed)
    groups = [
        {"params": [model.first, model.unused], "rate_factor": 1.0},
        {"params": [model.second], "rate_factor": 0.5},
    ]
    optimizer: torch.optim.Optimizer
    if kind == "adamw":
        optimizer = torch.optim.AdamW(groups, lr=7.0)
    else:
        optimizer = torch.optim.SGD(groups, lr=7.0, momentum=0.9)
    return SimpleNamespace(model=model, average=copy.deepcopy(model), optimizer=optimizer, step=0)


def _losses_of(model: _Net) -> Callable[[Pair], dict[str, Tensor]]:
    """Two losses of a part."""

    def losses(part: Pair) -> dict[str, Tensor]:
        x, y = part
        error = model(x) - y
        return {"square": (error**2).mean(), "size": error.abs().mean()}

    return losses


def _batches(seed: int, count: int, parts: int) -> list[tuple[Pair, ...]]:
    generator = torch.Generator().manual_seed(seed)
    return [
        tuple(
            (torch.randn(4, 3, generator=generator), torch.randn(4, generator=generator))
            for _ in range(parts)
        )
        for _ in range(count)
    ]


def _step(
    state: SimpleNamespace,
    batch: tuple[Pair, ...],
    rate: float,
    limit: float,
    decay: float,
    slip: str = "",
) -> tuple[float, float]:
    """One step as it should be, or with one slip."""
    losses_of = _losses_of(state.model)
    for group in state.optimizer.param_groups:
        group["lr"] = rate * (1.0 if slip == "factor" else group["rate_factor"])
    if slip != "zero_grad":
        state.optimizer.zero_grad()
    total = 0.0
    for part in batch:
        loss = torch.stack(list(losses_of(part).values())).sum()
        loss = loss if slip == "sum" else loss / len(batch)
        loss.backward()
        total += loss.item()
        if slip == "clip each":
            nn.utils.clip_grad_norm_(state.model.parameters(), limit)
    norm = nn.utils.clip_grad_norm_(state.model.parameters(), 1e9 if slip == "clip" else limit)
    if slip == "average first":
        _towards(state, decay)
    state.optimizer.step()
    if slip == "swapped":
        _towards(state, 1 - decay)
    elif slip not in ("average", "average first"):
        _towards(state, decay)
    return total, float(norm)


@torch.no_grad()
def _towards(state: SimpleNamespace, decay: float) -> None:
    for mean, value in zip(state.average.parameters(), state.model.parameters(), strict=True):
        mean.copy_(decay * mean + (1 - decay) * value)


SLIPS = {
    "zero_grad": "The gradients of earlier steps are still there: zero_grad was forgotten, or "
    "comes too late.",
    "sum": "The gradients of the parts add up to a step that is as many times too long as there "
    "are parts: each part's loss is divided by their number.",
    "factor": "All groups have the same rate: each takes `rate` times its own rate_factor.",
    "clip": "The gradient is not clipped, or only after the optimiser has used it.",
    "clip each": "The gradient is clipped after each part: the limit is for their sum.",
}
SLIPS_OF_AVERAGE = {
    "average": "The average has not moved.",
    "average first": "The average takes the weights from before the step.",
    "swapped": "decay is the share that the average keeps, not the share of the new weights.",
}


def _flat(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@check("13.2")
def check_step(
    answer: Callable[[Any, Callable, tuple, float, float, float], tuple[float, float]],
) -> None:
    """Check one step of training, by what it makes of weights, average and optimiser."""

    def compare(name: str, kind: str, pieces: int, limit: float, seed: int, steps: int = 3) -> None:
        case(name)
        batches = _batches(seed, steps, pieces)
        rates, decay = [0.05 * (i + 1) for i in range(steps)], 0.8
        mine = _state(seed, kind)
        told = []
        for batch, rate in zip(batches, rates, strict=True):
            found = answer(mine, _losses_of(mine.model), batch, rate, limit, decay)
            told.append(parts(found, "the loss", "the length of the gradient"))
        ends = {}
        for slip in ("", *SLIPS, *SLIPS_OF_AVERAGE):
            other = _state(seed, kind)
            said = [
                _step(other, b, r, limit, decay, slip) for b, r in zip(batches, rates, strict=True)
            ]
            ends[slip] = (_flat(other.model), _flat(other.average), said, other)
        weights, average, said, right = ends[""]
        got = _flat(mine.model)
        require(
            not torch.equal(got, _flat(_Net(seed))),
            "The weights have not moved: does the optimiser take a step?",
        )
        for slip, message in SLIPS.items():
            if not torch.allclose(ends[slip][0], weights, atol=1e-5):
                require_not(got, ends[slip][0], message, 1e-6)
        require_equal(got, weights, f"The weights after {steps} steps.", 1e-6)
        for slip, message in SLIPS_OF_AVERAGE.items():
            require_not(_flat(mine.average), ends[slip][1], message, 1e-6)
        require_equal(_flat(mine.average), average, "The average of the weights.", 1e-6)
        require(
            all(p.data_ptr() != q.data_ptr() for p, q in zip(
                mine.average.parameters(), mine.model.parameters(), strict=True)),
            "The average holds the model's own tensors.",
        )  # fmt: skip
        require(
            all(not isinstance(v, Tensor) or not v.requires_grad for pair in told for v in pair),
            "Return numbers: a loss that still has its graph keeps the step's memory.",
        )
        losses, norms = ([float(pair[k]) for pair in told] for k in (0, 1))
        require_not(
            losses,
            [pair[0] * pieces for pair in said],
            "The loss of a step is the mean over its parts.",
        ) if pieces > 1 else None
        require_equal(losses, [pair[0] for pair in said], "The loss of each step.", 1e-5)
        lengths = [pair[1] for pair in said]
        if max(lengths) > limit:
            require_not(
                norms,
                [min(limit, n) for n in lengths],
                "The length to return is the one before clipping: after it, a gradient that "
                "explodes looks like any other.",
            )
        require_equal(norms, lengths, "The length of the gradient at each step.", 1e-5)
        require_equal(
            float(mine.model.seen), float(right.model.seen), "How many inputs the model has seen."
        )

    compare("one part, SGD", "sgd", 1, 100.0, 0)
    compare("two parts", "sgd", 2, 100.0, 2)
    compare("two parts above the limit", "sgd", 2, 0.3, 3)
    compare("a gradient above the limit", "sgd", 1, 0.5, 1)
    compare("three parts, AdamW", "adamw", 3, 1.0, 4)
    compare("one step", "sgd", 2, 0.2, 5, steps=1)


def _toy_step(state: SimpleNamespace, step: int) -> None:
    """One step of a run whose batch and rate follow from the number of the step."""
    _step(state, _batches(1000 + step, 1, 1)[0], 0.05 + 0.01 * (step % 7), 1.0, 0.9)
    state.step = step + 1


def _same(a: SimpleNamespace, b: SimpleNamespace) -> dict[str, bool]:
    """Which parts of two states are equal to the bit."""

    def equal(x: dict[str, Tensor], y: dict[str, Tensor]) -> bool:
        return all(torch.equal(v, y[k]) for k, v in x.items())

    def slots(state: SimpleNamespace) -> list[Tensor]:
        rows = state.optimizer.state_dict()["state"]
        return [v for row in rows.values() for v in row.values() if isinstance(v, Tensor)]

    mine, right = slots(a), slots(b)
    return {
        "model": equal(a.model.state_dict(), b.model.state_dict()),
        "average": equal(a.average.state_dict(), b.average.state_dict()),
        "optimizer": len(mine) == len(right)
        and all(torch.equal(x, y) for x, y in zip(mine, right, strict=True)),
    }


@check("13.3")
def check_go_on(answer: Callable[[Callable, Callable, Any, int], Any]) -> None:
    """Check that a run which is killed and goes on equals one that was not, to the bit."""

    def run(kind: str, stops: list[int]) -> tuple[SimpleNamespace, list[int]]:
        """The state in the end, and the numbers of the steps taken, of a run killed at stops."""
        made: list[SimpleNamespace] = []
        taken: list[int] = []

        def make() -> SimpleNamespace:
            made.append(_state(0, kind))
            return made[-1]

        def one(state: SimpleNamespace, step: int) -> None:
            taken.append(step)
            require(step < 50, "Your run does not stop.")
            _toy_step(state, step)

        saved = None
        for stop in stops:
            before = copy.deepcopy(saved)
            again = answer(make, one, saved, stop)
            require(again is not None, "Return what the next call needs to go on.")
            require(len(made) > 0, "Your function never calls make_state.")
            if saved is not None:
                require(
                    _unchanged(before, saved),
                    "Going on has changed what was saved: a second attempt from it would differ. "
                    "state_dict() hands out the model's own tensors; copy them.",
                )
            kept = copy.deepcopy(again)
            with torch.no_grad():  # the process is killed, its memory is gone
                for p in [*made[-1].model.parameters(), *made[-1].average.parameters()]:
                    p.add_(1.0)
            require(
                _unchanged(kept, again),
                "What you return changes when the model does: state_dict() hands out the model's "
                "own tensors. Copy them (copy.deepcopy).",
            )
            with torch.no_grad():
                for p in [*made[-1].model.parameters(), *made[-1].average.parameters()]:
                    p.sub_(1.0)
            saved = again
        fresh, none_taken = [], []  # what the last one saved, looked at by going nowhere

        def look() -> SimpleNamespace:
            fresh.append(_state(0, kind))
            return fresh[-1]

        answer(look, lambda state, step: none_taken.append(step), saved, stops[-1])
        require(not none_taken, f"The run is at step {stops[-1]} of {stops[-1]}: no step is left.")
        require(bool(fresh), "Your function never calls make_state.")
        return fresh[-1], taken

    for kind, stops in (
        ("sgd", [4]),
        ("sgd", [2, 4]),
        ("adamw", [3, 5]),
        ("adamw", [1, 2, 6]),
        ("sgd", [5, 5, 8]),
        ("adamw", [0, 3]),
    ):
        case(f"{kind}, saved at {' and '.join(map(str, stops))}")
        right = _state(0, kind)
        for step in range(stops[-1]):
            _toy_step(right, step)
        found, taken = run(kind, stops)
        require(
            taken == list(range(stops[-1])),
            f"The steps taken are {taken}, expected {list(range(stops[-1]))}: rate and images "
            "follow from the number of the step.",
        )
        same = _same(found, right)
        if len(stops) == 1 or same["model"]:
            for part, message in (
                ("model", "The weights were not brought back."),
                ("optimizer", "The optimiser has forgotten its momentum: it belongs to the state."),
                ("average", "The average of the weights is another one: it belongs to the state."),
            ):
                require(same[part], message)
        require(
            same["model"],
            "A run that was killed ends with other weights than one that was not. What was at "
            "hand when it stopped, and is not when it goes on?",
        )


def _unchanged(before: Any, after: Any) -> bool:
    if isinstance(before, Tensor):
        return torch.equal(before, after)
    if isinstance(before, dict):
        return all(_unchanged(v, after[k]) for k, v in before.items())
    if isinstance(before, list | tuple):
        return all(_unchanged(v, w) for v, w in zip(before, after, strict=True))
    if isinstance(before, nn.Module):
        return _unchanged(before.state_dict(), after.state_dict())
    return True
