"""Checks of chapter 17 that need no clock: a trace's own time, the roofline, Amdahl's law."""

import math
from collections.abc import Callable
from random import Random
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mrcnn_edu.checks.ch17_masks import check_complete
from mrcnn_edu.checks.ch17_timing import check_benchmark
from mrcnn_edu.checks.common import (
    case,
    check,
    inputs_kept,
    parts,
    require,
    require_equal,
    require_not,
)

__all__ = [
    "check_benchmark",
    "check_complete",
    "check_roofline",
    "check_self_seconds",
    "check_speedup",
]

# ---------------------------------------------------------------- 17.1

Event = tuple[str, float, float]


def _self_seconds(events: list[Event]) -> dict[str, float]:
    """Slowly: a call's time without that of the calls directly within it."""
    found: dict[str, float] = {}
    for i, (name, start, end) in enumerate(events):
        inside = [j for j in range(i + 1, len(events)) if events[j][1] < end]
        direct = [
            j for j in inside if not any(k != j and k < j and events[k][2] > events[j][1]
                                         for k in inside)
        ]  # fmt: skip
        below = sum(events[j][2] - events[j][1] for j in direct)
        found[name] = found.get(name, 0.0) + (end - start) - below
    return found


def _random_events(random: Random, start: float, end: float, depth: int) -> list[Event]:
    events: list[Event] = [(random.choice("abcd"), start, end)]
    at = start
    while depth and random.random() < 0.75:
        at += random.choice((0.0, 1.0)) * (end - at) * random.uniform(0.05, 0.3)
        stop = at + (end - at) * random.uniform(0.2, 0.7)
        events += _random_events(random, at, stop, depth - 1)
        at = stop
    return events


def _compare(got: Any, want: dict[str, float], message: str) -> None:
    require(isinstance(got, dict), "Return a dictionary: name to seconds.")
    require(
        set(got) == set(want),
        f"Your names are {sorted(map(str, got))}, expected {sorted(want)}.",
    )
    require_equal([got[n] for n in sorted(want)], [want[n] for n in sorted(want)], message, 1e-6)


@check("17.1")
def check_self_seconds(answer: Callable[[list[Event]], dict[str, float]]) -> None:
    """Check that a trace's time is given to the call that spent it."""
    answer = inputs_kept(answer)

    case("one call in another")
    events: list[Event] = [("model", 0.0, 10.0), ("conv", 2.0, 6.0)]
    got = answer(events)
    require(isinstance(got, dict), "Return a dictionary: name to seconds.")
    if set(got) == {"model", "conv"}:
        both = [got["model"], got["conv"]]
        require_not(
            both, [10.0, 4.0], "The 4 seconds of conv were given to model as well: 14 of 10."
        )
        require_not(both, [0.0, 4.0], "model has time of its own: what it does outside conv.")
    _compare(got, {"model": 6.0, "conv": 4.0}, "model calls conv for 4 of its 10 seconds.")

    case("two in one, one of them twice")
    events = [("model", 0, 10), ("conv", 1, 3), ("relu", 3, 4), ("conv", 6, 9)]
    got = answer(events)
    if isinstance(got, dict) and "conv" in got:
        require_not(got["conv"], 3.0, "conv ran twice: 2 s and 3 s, add them up.", 1e-9)
    if isinstance(got, dict) and "relu" in got and "conv" in got:
        require_not(
            [got["conv"], got["relu"]],
            [4.0, 1.0],
            "relu begins when conv ends: it is beside conv, not within.",
        )
    _compare(got, {"model": 4.0, "conv": 5.0, "relu": 1.0}, "3 calls within one, in a row.")

    case("three deep")
    events = [("model", 0, 10), ("block", 1, 9), ("conv", 2, 7)]
    got = answer(events)
    if isinstance(got, dict) and "model" in got:
        require_not(
            got["model"],
            10 - 8 - 5,
            "conv's time was taken off model twice: once on its own, once within block.",
        )
        require_not(got["model"], 10 - 5, "block's own 3 seconds stayed with model.")
    _compare(got, {"model": 2.0, "block": 3.0, "conv": 5.0}, "model calls block calls conv.")

    case("a function that calls itself")
    got = answer([("f", 0, 8), ("f", 1, 5), ("g", 2, 3)])
    if isinstance(got, dict) and "f" in got:
        require_not(got["f"], 4 + 3 + 4, "The inner f was counted twice.")
    _compare(got, {"f": 7.0, "g": 1.0}, "f calls f, which calls g.")

    case("two roots, and a call that takes no time")
    got = answer([("a", 0, 2), ("b", 1, 1), ("a", 2, 5), ("c", 3, 5)])
    _compare(got, {"a": 3.0, "b": 0.0, "c": 2.0}, "Two calls of a, one after the other.")

    case("no events")
    _compare(answer([]), {}, "Nothing ran.")

    random = Random(172)
    for trial in range(25):
        case(f"random {trial}")
        events = _random_events(random, 0.0, 100.0, 4)
        events += _random_events(random, 100.0, 150.0, 3)
        _compare(answer(events), _self_seconds(events), f"{len(events)} calls.")


# ---------------------------------------------------------------- 17.2

Shape = tuple[int, int, int, int]


def _roofline(
    x: Shape, weight: Shape, stride: int, padding: int, peak: float, bandwidth: float
) -> tuple[float, float, float]:
    """By running the convolution: PyTorch's counter, and the sizes of its tensors."""
    a, w = torch.zeros(x), torch.zeros(weight)
    with FlopCounterMode(display=False) as counter:
        out = nn.functional.conv2d(a, w, None, stride, padding, 1, x[1] // weight[1])
    work, moved = counter.get_total_flops() / 2, a.nbytes + w.nbytes + out.nbytes
    return work, moved, max(work / peak, moved / bandwidth)


@check("17.2")
def check_roofline(answer: Callable[..., Any]) -> None:
    """Check what a convolution computes, moves, and takes at least."""
    names = ("multiply-adds", "bytes", "seconds")
    given: tuple[Any, ...]

    case("two channels, 3 × 3")
    given = ((1, 2, 4, 5), (3, 2, 3, 3), 1, 1)
    work, moved, seconds = parts(answer(*given, 1000.0, 100.0), *names)
    require_not(work, 2160, "That counts multiplications and additions apart: one pair is 1.")
    require_not(work, 360, "Each output sums over the pixels of the kernel *and* the channels.")
    require_not(work, 120, "Each of the 60 outputs costs one multiply-add per weight of a filter.")
    require_not(work, 3 * 2 * 9, "Those are the weights. Each is used once per output pixel.")
    require_not(work, 3 * 2 * 9 * 6, "The padding is missing: 1 on each side keeps 4 × 5.")
    require_equal(work, 1080, "20 pixels × 3 channels of 2 · 9 weights each.")
    require_not(moved, 40 + 60 + 54, "Those are numbers; a float32 has 4 bytes.")
    require_not(moved, 4 * (40 + 60), "The weight must be read, too.")
    require_not(moved, 4 * (40 + 54), "The output must be written, too.")
    require_not(moved, 4 * (60 + 54), "The input must be read, too.")
    require_equal(moved, 616, "4 bytes for each number of input, weight and output.")
    require_not(
        seconds,
        1080 / 1000 + 616 / 100,
        "That is the sum. A machine computes and moves at the same time: the longer one counts.",
    )
    require_not(seconds, 1080 / 1000, "That is the shorter time: 1.08 s to compute, 6.16 to move.")
    require_equal(seconds, 6.16, "1,080 multiply-adds at 1,000/s, 616 bytes at 100/s.")

    case("a faster memory")
    *_, seconds = parts(answer(*given, 1000.0, 1e6), *names)
    require_not(seconds, 616e-6, "Now the multiply-adds take longer than the bytes.")
    require_equal(seconds, 1.08, "1,080 multiply-adds at 1,000/s, 616 bytes at 1,000,000/s.")

    case("stride 2")
    given = ((1, 4, 9, 12), (8, 4, 3, 3), 2, 1)
    work, moved, _ = parts(answer(*given, 1e3, 1e9), *names)
    require_not(work, 8 * 36 * 5 * 7, "The output is 5 × 6: floor((H + 2p − k) / stride) + 1.")
    require_not(work, 8 * 36 * 4 * 6, "9 rows at stride 2, padded by 1: 5 outputs, not 4.")
    require_not(work, 8 * 36 * 9 * 12, "The stride is missing: fewer outputs, fewer products.")
    require_equal(work, 8 * 36 * 30, "30 output pixels of 8 channels, 36 weights each.")
    require_equal(moved, 4 * (432 + 288 + 240), "Input 432, weight 288, output 240 numbers.")

    case("groups")
    given = ((1, 8, 5, 5), (12, 2, 3, 3), 1, 1)
    work, moved, _ = parts(answer(*given, 1e3, 1e9), *names)
    require_not(
        work,
        12 * 25 * 8 * 9,
        "In four groups a filter sees 2 channels, not 8: the weight says so, [12, 2, 3, 3].",
    )
    require_equal(work, 12 * 25 * 2 * 9, "25 pixels × 12 channels of 2 · 9 weights.")

    case("a batch of 3")
    given = ((3, 2, 4, 5), (3, 2, 1, 1), 1, 0)
    work, moved, _ = parts(answer(*given, 1e3, 1e9), *names)
    require_not(work, 120, "Three images cost three times as much as one.")
    require_not(
        moved,
        4 * 3 * (40 + 6 + 60),
        "The weight is read once, not once per image: that is what a batch is for.",
    )
    require_equal(work, 360, "3 images.")
    require_equal(moved, 4 * (120 + 6 + 180), "Input and output of 3 images, the weight once.")

    random = Random(17)
    for trial in range(20):
        case(f"random {trial}")
        groups = random.choice((1, 1, 2, 4))
        height, width = random.randint(1, 4), random.randint(1, 4)  # of the kernel
        x = (random.randint(1, 3), 4 * random.randint(1, 4), *(random.randint(5, 12),) * 2)
        x = (*x[:3], random.randint(5, 12))
        weight = (4 * random.randint(1, 5), x[1] // groups, height, width)
        given = (x, weight, random.randint(1, 3), random.randint(0, 2))
        peak, bandwidth = 10 ** random.uniform(3, 6), 10 ** random.uniform(3, 6)
        want = _roofline(*given, peak, bandwidth)
        got = parts(answer(*given, peak, bandwidth), *names)
        told = f"x {x}, weight {weight}, stride {given[2]}, padding {given[3]}"
        for mine, right, name in zip(got, want, names, strict=True):
            require_equal(mine, right, f"{name} of {told}.", 1e-6)


# ---------------------------------------------------------------- 17.3


def _speedup(seconds: dict[str, float], factors: dict[str, float]) -> float:
    after = sum(s / factors.get(name, 1.0) for name, s in seconds.items())
    return sum(seconds.values()) / after if after > 0 else math.inf


@check("17.3")
def check_speedup(answer: Callable[[dict[str, float], dict[str, float]], tuple]) -> None:
    """Check Amdahl's law, and which offer saves the most on its own."""
    answer = inputs_kept(answer)
    names = ("speed-up", "best")

    case("half of it twice as fast")
    seconds = {"backbone": 6.0, "masks": 6.0}
    got, best = parts(answer(seconds, {"masks": 2.0}), *names)
    require_not(got, 1.5, "Shares of time do not average factors: 12 seconds become 6 + 3.")
    require_not(got, 2.0, "Only the masks are faster; the backbone takes its 6 seconds.")
    require_not(got, 9 / 12, "That is the time that is left; the speed-up is its inverse.")
    require_not(got, 9.0, "Those are the seconds that are left, not how many times faster.")
    require_equal(got, 12 / 9, "12 seconds become 9.", 1e-6)
    require(best == "masks", f"Only masks has an offer; you chose {best!r}.")

    case("the largest factor is not the best")
    seconds = {"backbone": 80.0, "NMS": 2.0, "masks": 18.0}
    offers = {"NMS": 50.0, "backbone": 1.25, "masks": 3.0}
    got, best = parts(answer(seconds, offers), *names)
    require_equal(got, 100 / (64 + 0.04 + 6), "All three offers taken together.", 1e-6)
    require(best != "NMS", "NMS ×50 saves less than two seconds of a hundred.")
    require(
        best == "backbone",
        f"backbone ×1.25 saves 16 seconds, masks ×3 saves 12, NMS ×50 1.96; you chose {best!r}.",
    )

    case("the longest stage is not the best")
    got, best = parts(answer(seconds, offers | {"backbone": 1.1}), *names)
    require(best == "masks", f"backbone ×1.1 saves 7.3 seconds, masks ×3 12; you chose {best!r}.")
    require_equal(got, 100 / (80 / 1.1 + 0.04 + 6), "All three offers taken together.", 1e-6)

    case("milliseconds")
    got, best = parts(answer({"a": 0.003, "b": 0.001}, {"b": 2.0}), *names)
    require_equal(got, 4 / 3.5, "4 ms become 3.5.", 1e-6)

    case("a stage for nothing")
    got, best = parts(answer({"a": 3.0, "b": 1.0}, {"b": math.inf}), *names)
    require_equal(got, 4 / 3, "b takes no time at all, a its 3 seconds.", 1e-6)
    require(best == "b", f"b is the only offer; you chose {best!r}.")

    case("everything for nothing")
    got, best = parts(answer({"a": 3.0}, {"a": math.inf}), *names)
    require(got == math.inf, f"No time is left: infinitely faster. Yours: {got}.")

    case("an offer that is slower")
    got, best = parts(answer({"a": 4.0, "b": 4.0}, {"a": 0.5, "b": 1.0}), *names)
    require_equal(got, 8 / 12, "4 seconds become 8.", 1e-6)
    require(best == "b", f"a would be slower; b saves nothing, which is more. You chose {best!r}.")

    random = Random(173)
    for trial in range(20):
        case(f"random {trial}")
        seconds = {n: random.uniform(0.1, 9) for n in "abcdef"}
        offers = {n: random.uniform(0.6, 5) for n in random.sample("abcdef", 4)}
        got, best = parts(answer(seconds, offers), *names)
        require_equal(got, _speedup(seconds, offers), f"{seconds}, {offers}", 1e-6)
        right = max(offers, key=lambda n: seconds[n] - seconds[n] / offers[n])
        require(best == right, f"{seconds}, {offers}: {right} saves most; you chose {best!r}.")
