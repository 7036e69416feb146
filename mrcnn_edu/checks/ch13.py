"""Checks of chapter 13: the rate, a step, losses in parts, a run that goes on, averaged weights."""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from mrcnn_edu.checks.ch13_runs import check_go_on, check_step
from mrcnn_edu.checks.common import (
    case,
    check,
    inputs_kept,
    numbers,
    require,
    require_equal,
    require_not,
)
from mrcnn_edu.training.config import TrainConfig
from mrcnn_edu.training.schedule import learning_rate

__all__ = ["check_average", "check_go_on", "check_part_losses", "check_rate", "check_step"]

Sums = Mapping[str, tuple[Tensor, int]]


@check("13.1")
def check_rate(answer: Callable[[int, TrainConfig], float]) -> None:
    """Check the rate of a step: a warm-up, then a half cosine or drops."""

    def rates(config: TrainConfig) -> list[float]:
        return [answer(step, config) for step in range(config.steps)]

    def compare(config: TrainConfig, message: str) -> None:
        wanted = [learning_rate(step, config) for step in range(config.steps)]
        require_equal(rates(config), wanted, message, 1e-6)

    case("four steps of warm-up")
    config = TrainConfig(steps=12, learning_rate=1.0, warmup_steps=4, warmup_factor=0.2)
    got = numbers(rates(config))
    require(got.shape == (12,), "Your function must return one number.")
    first = got[:4]
    require_not(
        first,
        [0, 0.25, 0.5, 0.75],
        "Your warm-up begins at 0: the first step would teach nothing. It begins at "
        "warmup_factor times the rate.",
    )
    require_not(
        first, [0.4, 0.6, 0.8, 1.0], "Steps count from 0: the first one is at warmup_factor."
    )
    require_not(
        first, [0.2, 0.2, 0.2, 0.2], "A constant warm-up: the factor must rise step by step."
    )
    case("the cosine after it")
    require_not(
        got[4:],
        [0.5 * (1 + math.cos(math.pi * step / 12)) for step in range(4, 12)],
        "Your cosine counts from step 0, so it has fallen already when the warm-up ends. It spans "
        "the steps after the warm-up.",
    )
    compare(config, "Twelve steps, rate 1, four of warm-up from 0.2, cosine.")
    case("drops")
    steps = TrainConfig(
        steps=9, learning_rate=1.0, warmup_steps=2, schedule="steps", milestones=(2 / 3, 8 / 9)
    )
    got = numbers(rates(steps))[2:]
    require_not(
        got,
        [1, 1, 1, 1, 0.1, 0.1, 0.1],
        "The second milestone lowers the rate tenfold once more.",
    )
    require_not(
        got,
        [1, 1, 1, 1, 1, 0.1, 0.1],
        "A milestone of 2/3 of 9 steps is step 6: that step has the lower rate already.",
    )
    require_not(
        got,
        [1, 1, 1, 1, 0.9, 0.9, 0.8],
        "The rate is multiplied by 0.1 at a milestone, not lowered by a tenth.",
    ) if len(got) == 7 else None
    compare(steps, "Nine steps, drops at 2/3 and 8/9.")
    case("a milestone that floating point misses")
    many = TrainConfig(steps=100, warmup_steps=0, schedule="steps", milestones=(0.55,))
    require_equal(
        [answer(step, many) for step in (54, 55, 56)],
        [learning_rate(step, many) for step in (54, 55, 56)],
        "0.55 · 100 is 55.00000000000001 in floating point: round it.",
        1e-6,
    )
    case("no warm-up")
    compare(TrainConfig(steps=5, warmup_steps=0), "No warm-up: the first step has the full rate.")
    case("nothing after the warm-up")
    short = TrainConfig(steps=3, warmup_steps=3, learning_rate=0.5)
    compare(short, "Three steps, all of them warm-up.")
    require_equal(
        answer(3, short), learning_rate(3, short), "One step more than the run has.", 1e-6
    )
    for seed in range(6):
        case(f"random {seed}")
        generator = torch.Generator().manual_seed(seed)
        total, warm = (int(torch.randint(20, 60, (), generator=generator)) for _ in range(2))
        compare(
            TrainConfig(
                steps=total + warm,
                warmup_steps=warm,
                learning_rate=float(torch.rand((), generator=generator)),
                warmup_factor=float(torch.rand((), generator=generator)),
                schedule="steps" if seed % 2 else "cosine",
                milestones=(0.5, 0.75, 0.9),
            ),
            f"{total + warm} steps, {warm} of them warm-up.",
        )


def _part(values: Sequence[tuple[float, int]], scale: Tensor) -> dict[str, tuple[Tensor, int]]:
    """A part whose sums are `scale` times numbers: its gradient is seen in `scale`."""
    names = ("box_class", "box", "mask")
    return {name: (scale * v, n) for name, (v, n) in zip(names, values, strict=False)}


def _whole(parts: Sequence[Sums]) -> Tensor:
    """The loss of all images together, of parts that may be counted unequally."""
    total = torch.zeros(())
    for name in parts[0]:
        count = sum(part[name][1] for part in parts)
        total = total + sum(part[name][0].detach() for part in parts) / max(1, count)
    return total


@check("13.4")
def check_part_losses(answer: Callable[[list[Sums]], list[Tensor]]) -> None:
    """Check the losses of a step's parts, which must add up to the loss of all its images."""
    answer = inputs_kept(answer)

    def compare(rows: Sequence[Sequence[tuple[float, int]]], message: str) -> None:
        scales = [torch.ones((), requires_grad=True) for _ in rows]
        parts: list[Sums] = [_part(row, s) for row, s in zip(rows, scales, strict=True)]
        got = answer(parts)
        require(
            isinstance(got, list | tuple) and len(got) == len(parts),
            f"Return a list of {len(parts)} losses, one for each part.",
        )
        require(all(isinstance(g, Tensor) for g in got), "Each loss must be a tensor: it is what "
                "backward is called on.")  # fmt: skip
        found = torch.stack([g.detach() for g in got])
        whole = _whole(parts)
        own = [sum(float(s.detach()) / max(1, n) for s, n in part.values()) for part in parts]
        if not torch.isclose(whole, torch.tensor(own).mean()):
            require_not(
                found.sum(),
                torch.tensor(own).mean(),
                "Your losses add up to the mean of the parts' means: a RoI in a part with few of "
                "them then weighs more than one in a part with many.",
            )
        require_not(
            found.sum(),
            torch.tensor(own).sum(),
            "Each part is divided by its own count alone, so the step is as many times too long "
            "as there are parts.",
        ) if len(rows) > 1 else None
        require_equal(found.sum(), whole, message, 1e-6)
        for i, (g, part) in enumerate(zip(got, parts, strict=True)):
            require(g.requires_grad, "A loss has lost its gradient: no .item(), no .detach().")
            pulls = torch.autograd.grad(g, scales, retain_graph=True, allow_unused=True)
            wanted = [torch.zeros(())] * len(parts)
            totals = {name: max(1, sum(p[name][1] for p in parts)) for name in part}
            wanted[i] = torch.stack(
                [total.detach() / totals[k] for k, (total, _) in part.items()]
            ).sum()
            require_equal(
                torch.stack([torch.zeros(()) if pull is None else pull for pull in pulls]),
                torch.stack(wanted),
                f"The gradient of loss {i} reaches each part as below; it should hold that part's "
                "own sums alone, so that each part's memory is free before the next begins.",
                1e-5,
            )

    case("two parts, one loss")
    compare([[(6.0, 2)], [(2.0, 6)]], "Sums 6 and 2 of 2 and 6 RoIs: (6 + 2) / (2 + 6) = 1.")
    case("three losses with counts of their own")
    compare([[(6.0, 2), (4.0, 8), (1.0, 10)], [(2.0, 6), (4.0, 8), (3.0, 30)]], "Three losses.")
    case("one part")
    compare([[(6.0, 2), (4.0, 8)]], "One part is the whole.")
    case("a part without objects")
    compare([[(3.0, 12), (0.0, 0)], [(5.0, 4), (2.0, 1)]], "A part that counts no RoI.")
    case("no objects at all")
    compare([[(3.0, 12), (0.0, 0)], [(5.0, 4), (0.0, 0)]], "Nothing counted: a loss of 0.")
    for seed in range(5):
        case(f"random {seed}")
        generator = torch.Generator().manual_seed(seed)
        rows = [
            [
                (float(9 * torch.rand((), generator=generator)), n)
                for n in torch.randint(1, 30, (3,), generator=generator).tolist()
            ]
            for _ in range(2 + seed)
        ]
        compare(rows, f"{2 + seed} parts.")


@check("13.5")
def check_average(
    answer: Callable[[list[dict[str, Tensor]], float], dict[str, Tensor]],
) -> None:
    """Check a moving average over the weights of a run."""
    answer = inputs_kept(answer)

    def wanted(weights: list[dict[str, Tensor]], decay: float) -> dict[str, Tensor]:
        last = len(weights) - 1
        shares = [(1 - decay) * decay ** (last - i) for i in range(last + 1)]
        shares[0] = decay**last
        mixed = {}
        for name, value in weights[0].items():
            columns = torch.stack([w[name] for w in weights])  # [steps, …]
            if value.is_floating_point():
                mixed[name] = torch.tensordot(torch.tensor(shares), columns, 1)
            else:
                mixed[name] = columns[-1]
        return mixed

    def compare(weights: list[dict[str, Tensor]], decay: float, message: str) -> None:
        got = answer(weights, decay)
        require(isinstance(got, dict), "Return a dictionary like those of the list.")
        require(
            set(got) == set(weights[0]),
            f"Your names are {sorted(map(str, got))}, expected {sorted(weights[0])}.",
        )
        truth = wanted(weights, decay)
        for name, value in truth.items():
            require(
                isinstance(got[name], Tensor) and got[name].dtype == value.dtype,
                f"{name} is {getattr(got[name], 'dtype', type(got[name]).__name__)}, expected "
                f"{value.dtype}: counters are counted, not averaged.",
            )
            require_equal(got[name], value, f"{message} ({name})", 1e-5)
            require(
                all(got[name].data_ptr() != w[name].data_ptr() for w in weights),
                f"{name} is the very tensor that you were given: the next step of the optimiser "
                "would change your average. Copy it.",
            )

    def of(*values: float) -> list[dict[str, Tensor]]:
        return [
            {"w": torch.tensor([float(v)]), "count": torch.tensor(i)} for i, v in enumerate(values)
        ]

    case("three steps")
    got = answer(of(0, 8, 16), 0.5)
    require(isinstance(got, dict) and "w" in got, "Return a dictionary like those of the list.")
    require_not(got["w"], [8.0], "That is the plain mean: older weights must count less.")
    require_not(got["w"], [16.0], "Those are the last weights: nothing is averaged.")
    require_not(got["w"], [4.0], "The decay is the share of the old average, and the newest "
                "weights were left out.")  # fmt: skip
    compare(of(0, 8, 16), 0.5, "Weights 0, 8, 16, decay 0.5: 0 → 4 → 10.")
    case("a decay that is not a half")
    got = answer(of(0, 1), 0.9)
    require_not(
        got["w"], [0.9], "The decay is the share that the *old* average keeps, here nine tenths."
    )
    compare(of(0, 1), 0.9, "Weights 0, 1, decay 0.9: 0.1.")
    compare(of(4, 1), 0.9, "It begins with the first weights, not with zeros.")
    case("one step")
    compare(of(3), 0.9, "The average of one is itself.")
    case("no memory")
    compare(of(3, 5, 7), 0.0, "With a decay of 0 the newest weights are all.")
    for seed in range(4):
        case(f"random {seed}")
        generator = torch.Generator().manual_seed(seed)
        weights = [
            {
                "a": torch.randn(2, 3, generator=generator),
                "b": torch.randn(4, generator=generator),
                "batches": torch.tensor(10 * i),
            }
            for i in range(3 + seed)
        ]
        compare(weights, 0.3 + 0.2 * seed, f"{3 + seed} steps.")
