"""What every check stands on: verdicts, cases, and how errors and differences are told."""

import functools

import numpy as np
import pytest
import torch

from mrcnn_edu.checks.common import (
    CheckFailedError,
    Verdict,
    case,
    check,
    grade,
    inputs_kept,
    numbers,
    parts,
    require,
    require_equal,
    require_not,
    tensor,
)
from mrcnn_edu.errors import UserError


@check("9.9")
def check_double(answer):
    answer = inputs_kept(answer)
    case("small")
    require_not(answer(torch.ones(2)), torch.ones(2), "Nothing was doubled.")
    require_equal(answer(torch.ones(2)), [2.0, 2.0], "Two ones.")
    case("empty")
    require_equal(answer(torch.zeros(0)), torch.zeros(0), "Nothing.")
    case("negative")
    require(float(answer(torch.tensor([-1.0]))[0]) == -2, "Minus one.")


def double(x):
    return 2 * x


def test_a_right_answer_passes_and_is_told_so(capsys):
    assert check_double.verdict(double) == Verdict(passed=True, case="", message="")
    check_double(double)
    assert capsys.readouterr().out == "✓ double: all checks passed.\n"


def test_a_wrong_answer_is_told_with_the_case_that_failed():
    assert check_double.verdict(lambda x: x) == Verdict(False, "small", "Nothing was doubled.")
    assert check_double.verdict(lambda x: 2 * x.abs()) == Verdict(False, "negative", "Minus one.")
    with pytest.raises(CheckFailedError, match="Minus one") as caught:
        check_double(lambda x: 2 * x.abs())
    assert caught.value._render_traceback_() == [f"✗ {caught.value}"]


def test_an_answer_that_is_not_written_is_unfinished_not_wrong(capsys):
    def later(x):
        """Twice x."""
        raise NotImplementedError

    assert check_double.verdict(later) == Verdict(False, "", "later is not written yet.", True)
    check_double(later)
    assert capsys.readouterr().out.startswith("… later is not written yet.")


def test_a_class_that_is_not_written_is_unfinished():
    class Later(torch.nn.Module):
        def forward(self, x):
            raise NotImplementedError

    assert check_double.verdict(Later()).unfinished
    assert check_double.verdict(functools.partial(Later().forward)).unfinished


def test_what_torch_has_not_implemented_is_an_error_of_the_answer():
    def whole(x):
        return torch.linalg.det(torch.eye(2, dtype=torch.long))

    def deeper(x):
        return torch.nn.Module()(x)  # raises NotImplementedError in torch's own file

    for answer in (whole, deeper):
        found = check_double.verdict(answer)
        assert not found.passed
        assert not found.unfinished
        assert found.case == "small"
        assert "return torch." in found.message


def test_an_error_names_the_readers_line():
    def broken(x):
        y = 2 * x
        return y[7]

    found = check_double.verdict(broken)
    said = "Your function stopped with an error in the case “small”, on the line `return y[7]`"
    assert found.message.startswith(said)
    assert "IndexError: index 7 is out of bounds" in found.message


def test_an_answer_with_other_parameters_is_told_how_it_is_called():
    def twice(x, factor):
        return factor * x

    found = check_double.verdict(twice)
    assert "missing 1 required positional argument: 'factor'" in found.message
    assert found.message.startswith("The check calls your function as the text says")


def test_exit_is_an_error_of_the_answer():
    assert "SystemExit" in check_double.verdict(lambda x: exit()).message


def test_what_the_check_cannot_use_is_said_so():
    found = check_double.verdict(lambda x: 2 * x if len(x) != 1 else object())
    assert found.case == "negative"
    assert "shape that the docstring asks for" in found.message
    found = check_double.verdict("double")
    assert not found.passed


def test_an_answer_that_writes_into_its_input_is_told_so():
    def in_place(x):
        x *= 2
        return x

    found = check_double.verdict(in_place)
    assert "writes into its input `x`" in found.message
    kept = inputs_kept(lambda things: things[0].sort())
    with pytest.raises(CheckFailedError, match="`things`"):
        kept([[3, 1, 2]])
    kept = inputs_kept(lambda a: a.fill(0))
    with pytest.raises(CheckFailedError, match="`a`"):
        kept(np.ones(3))
    inputs_kept(lambda a, b: None)(np.full(2, np.nan), [torch.full((2,), np.nan), 3, "x", None])


@pytest.mark.parametrize(
    ("number", "part"),
    [
        ("3", "a number such as 3.2"),
        ("99.1", "no checks of that chapter"),
        ("3.9", "has no check of exercise 3.9"),
        ("A.1", "no checks of that chapter"),
    ],
)
def test_an_exercise_that_is_not_there_is_refused(number, part):
    with pytest.raises(UserError, match=part):
        grade(number, double)


@pytest.mark.parametrize(
    ("got", "part"),
    [
        (None, "end with a return"),
        ("text", "returned a str"),
        ([1.0, 2.0], "shape [2], expected [3]"),
        ([1.0, 2.0, 4.0], "Expected: [1.0, 2.0, 3.0]"),
    ],
)
def test_an_unequal_answer_is_described(got, part):
    with pytest.raises(CheckFailedError) as caught:
        require_equal(got, [1.0, 2.0, 3.0], "Why.")
    assert part in str(caught.value)


def test_a_large_answer_is_compared_as_well():
    require_equal(list(range(100)), list(range(100)), "Why.")
    with pytest.raises(CheckFailedError, match=r"1 of 100 values differ. At \[7\] yours is 0"):
        require_equal([i * (i != 7) for i in range(100)], list(range(100)), "Why.")


def test_types_are_asked_for_in_words():
    with pytest.raises(CheckFailedError, match="returned a list; a tensor was expected"):
        tensor([1.0])
    with pytest.raises(CheckFailedError, match=r"is torch.float32, expected torch.int64"):
        tensor(torch.ones(1), torch.int64)
    with pytest.raises(CheckFailedError, match="expected 2 values, labels and scores"):
        parts(torch.ones(2), "labels", "scores")
    with pytest.raises(CheckFailedError, match="returned 3 values; expected 2"):
        parts((1, 2, 3), "labels", "scores")
    assert numbers([1, 2]).tolist() == [1, 2]
