"""Every exercise of every notebook: its solution passes, and typical mistakes are named."""

import importlib
from collections import Counter

import pytest

from mrcnn_edu.checks.common import CheckFailedError, check, require, require_equal
from tests.checks.exercises import Exercise, exercises

EXERCISES = exercises()


def name_of(exercise: Exercise) -> str:
    return f"{exercise.chapter}-{exercise.check_name}"


def wrong_answers(exercise: Exercise) -> dict:
    """Wrong answers of an exercise: {what is wrong: (function, a part of the message)}."""
    module = importlib.import_module(f"tests.checks.wrong_answers.ch{exercise.chapter}")
    return module.WRONG[exercise.check_name]


@pytest.mark.parametrize("exercise", EXERCISES, ids=name_of)
def test_the_solution_that_a_reader_unfolds_passes(exercise, capsys):
    assert exercise.solution, f"no folded solution defines {exercise.answer_name}"
    exercise.check(exercise.solve())
    assert capsys.readouterr().out == f"✓ {exercise.answer_name}: all checks passed.\n"


@pytest.mark.parametrize("exercise", EXERCISES, ids=name_of)
def test_an_unfinished_answer_is_told_so(exercise, capsys):
    assert "raise NotImplementedError" in exercise.stub

    def unfinished(*_args, **_kwargs):
        raise NotImplementedError

    exercise.check(unfinished)
    assert "not written yet" in capsys.readouterr().out


@pytest.mark.parametrize("exercise", EXERCISES, ids=name_of)
def test_typical_mistakes_are_caught_each_with_its_own_message(exercise):
    wrong = wrong_answers(exercise)
    assert len(wrong) >= 2
    for function, part in wrong.values():
        with pytest.raises(CheckFailedError) as caught:
            exercise.check(function)
        assert part in str(caught.value)
    parts = Counter(part for _, part in wrong.values())
    assert max(parts.values()) == 1, "each mistake has a message of its own"


def test_a_chapter_has_three_to_five_exercises():
    for chapter, count in Counter(e.chapter for e in EXERCISES).items():
        assert 3 <= count <= 5, f"chapter {chapter} has {count}"


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
    assert caught.value._render_traceback_() == [f"✗ {caught.value}"]


def test_a_large_answer_is_compared_as_well():
    require_equal(list(range(100)), list(range(100)), "Why.")
    with pytest.raises(CheckFailedError, match=r"1 of 100 values differ. At \[7\] yours is 0"):
        require_equal([i * (i != 7) for i in range(100)], list(range(100)), "Why.")


def test_a_check_passes_on_what_is_wrong(capsys):
    @check
    def check_two(answer):
        require(answer() == 2, "It is two.")

    with pytest.raises(CheckFailedError, match="It is two"):
        check_two(lambda: 3)
    check_two(lambda: 2)
    assert "all checks passed" in capsys.readouterr().out
