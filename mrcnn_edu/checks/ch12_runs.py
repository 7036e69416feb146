"""Checks of chapter 12, exercises 12.1 and 12.2: run lengths and COCO's compressed string."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mrcnn_edu import masks as mask_ops
from mrcnn_edu.checks.common import CheckFailedError, case, check, inputs_kept, require


def _whole_numbers(got: Any, what: str) -> list[int]:
    """A list of whole numbers, from a list, a tuple, an array or a tensor."""
    require(got is not None, "Your function returned None. Does it end with a return?")
    values = got.tolist() if hasattr(got, "tolist") else got
    kind = type(got).__name__
    require(isinstance(values, list | tuple), f"Your function returned a {kind}, not {what}.")
    try:
        whole = [int(v) for v in values]
    except (TypeError, ValueError) as error:
        raise CheckFailedError(f"Your list holds something else than numbers: {values}.") from error
    require(whole == list(values), f"Run lengths are whole numbers; yours: {list(values)}.")
    return whole


def _random_mask(seed: int) -> Tensor:
    """A blob or two on a small bitmap that is not square: [H, W]."""
    generator = torch.Generator().manual_seed(seed)
    height, width = torch.randint(2, 30, (2,), generator=generator).tolist()
    return (torch.rand(height, width, generator=generator) < 0.4).to(torch.uint8)


@check("12.1")
def check_runs(answer: Callable[[Tensor], list[int]]) -> None:
    """Check the run lengths of a bitmap [H, W]: down the columns, background first."""
    answer = inputs_kept(answer)

    def runs(mask: Tensor) -> list[int]:
        return _whole_numbers(answer(mask), "a list of run lengths")

    case("3 × 4 pixels")
    mask = torch.tensor([[0, 0, 1, 1], [0, 1, 1, 0], [0, 1, 0, 0]], dtype=torch.uint8)
    got, wanted = runs(mask), [4, 4, 1, 1, 2]
    shown = f"\nYours:    {got}\nExpected: {wanted}"
    require(
        got != [2, 2, 1, 2, 2, 1, 2],
        "Your runs go along the rows. COCO's go down the first column, then down the second."
        + shown,
    )
    require(got != [4, 4, 1, 1], "The last run is missing, the background at the end." + shown)
    require(got != [4, 8, 9, 10, 12], "Those are the places where runs end, not lengths." + shown)
    require(
        got != [4, 4, 9, 1] and got != [5, 4, 10, 1],
        "Those are pairs of start and length. Here starts are left out: runs take turns." + shown,
    )
    require(got == wanted, "The columns are 000, 011, 110, 100." + shown)
    case("the first pixel is the object's")
    got = runs(1 - mask)
    require(
        got == [0, *wanted],
        "The first run is always background, and so it has length 0 when the first pixel is the "
        f"object's.\nYours:    {got}\nExpected: {[0, *wanted]}",
    )
    case("only background")
    require(runs(torch.zeros(3, 4, dtype=torch.uint8)) == [12], "An empty mask is one run, [12].")
    case("only object")
    got = runs(torch.ones(3, 4, dtype=torch.uint8))
    require(got == [0, 12], f"A full mask is [0, 12]; yours: {got}.")
    case("one pixel")
    require(runs(torch.ones(1, 1, dtype=torch.uint8)) == [0, 1], "One pixel of object: [0, 1].")
    case("bool")
    require(runs(mask.bool()) == wanted, "A mask of True and False has the same runs as 1 and 0.")
    case("not contiguous")
    require(runs(mask.T.contiguous().T) == wanted, "The same mask, laid out otherwise in memory.")
    for seed in range(20):
        case(f"random {seed}")
        mask = _random_mask(seed)
        got, wanted = runs(mask), mask_ops.to_runs(mask)
        size = f"{mask.shape[0]} × {mask.shape[1]}"
        require(
            got == wanted,
            f"A random mask of {size}: your runs begin {got[:6]}, expected {wanted[:6]}; they add "
            f"up to {sum(got)} of {mask.numel()} pixels.",
        )


def _decoded(text: str, sign: bool = True, back: int = 2, first: int = 3) -> list[int]:
    """COCO's string to run lengths, and what comes out where a rule is forgotten."""
    runs: list[int] = []
    value = shift = 0
    for char in text:
        code = ord(char) - 48
        value |= (code & 31) << shift
        shift += 5
        if code & 32:
            continue
        if sign and code & 16:
            value -= 1 << shift
        runs.append(value + (runs[-back] if back and len(runs) >= first else 0))
        value = shift = 0
    return runs


@check("12.2")
def check_read_counts(answer: Callable[[str], list[int]]) -> None:
    """Check the decoding of COCO's compressed string into run lengths."""

    def read(text: str) -> list[int]:
        return _whole_numbers(answer(text), "a list of run lengths")

    case("one small run")
    require(read("5") == [5], f"'5' is character 53, and 53 − 48 = 5; yours: {read('5')}.")
    case("a run of two characters")
    got = read("T3")
    require(got not in ([4, 3], [36, 3]), "'T' says that the number goes on: it adds 32.")
    require(got != [4 * 32 + 3], "The first character holds the *low* five bits.")
    require(got == [100], f"'T3': 4 + 32 · 3 = 100; yours: {got}.")
    case("the fourth run is a difference")
    text = "5321"  # 5, 3, 2, then 3 + 1
    got = read(text)
    for wrong, message in (
        (_decoded(text, back=0), "The fourth run is told as a difference; you took it as it is."),
        (_decoded(text, back=1), "The difference is to the run two before, not to the last one."),
        (
            _decoded(text, first=2),
            "The third run is still written as it is: differences begin with the fourth.",
        ),
    ):
        require(got != wrong, message)
    require(got == [5, 3, 2, 4], f"'5321' is 5, 3, 2 and 3 + 1 = 4; yours: {got}.")
    case("a negative difference")
    got = read("5:2O")  # O is 79: 31, the sign bit set, so −1
    require(
        got != _decoded("5:2O", sign=False),
        "'O' is 31, of which bit 16 is set: a number that ends so is negative, here 31 − 32 = −1.",
    )
    require(got == [5, 10, 2, 9], f"'5:2O' is 5, 10, 2 and 10 − 1 = 9; yours: {got}.")
    case("a negative difference of two characters")
    got = read("0T32aN")  # 100 − 47
    require(got == [0, 100, 2, 53], f"'0T32aN' is 0, 100, 2 and 100 − 47; yours: {got}.")
    case("no characters")
    require(read("") == [], "An empty string holds no runs.")
    for seed in range(20):
        case(f"random {seed}")
        rle = mask_ops.encode(_random_mask(seed))
        text = rle["counts"].decode()
        got, wanted = read(text), _decoded(text)
        require(got == wanted, f"'{text[:20]}…' begins {wanted[:8]}; yours {got[:8]}.")
    case("a long run")
    big = torch.zeros(500, 700, dtype=torch.uint8)
    big[3:490, 10:600] = 1
    text = mask_ops.encode(big)["counts"].decode()
    require(read(text) == _decoded(text), "A mask of 500 × 700: some numbers take four characters.")
