"""Every exercise of every notebook: its solution passes, and typical mistakes are named."""

import importlib
from collections import Counter

import pytest

from mrcnn_edu.checks.common import CheckFailedError, Verdict, grade
from tests.checks.exercises import Exercise, exercises

EXERCISES = exercises()


def name_of(exercise: Exercise) -> str:
    return f"{exercise.number}-{exercise.check_name}"


def wrong_answers(exercise: Exercise) -> dict:
    """Wrong answers of an exercise: {what is wrong: (function, a part of the message)}."""
    chapter = exercise.module.rsplit(".", 1)[1]
    module = importlib.import_module(f"tests.checks.wrong_answers.{chapter}")
    return module.WRONG[exercise.check_name]


@pytest.mark.parametrize("exercise", EXERCISES, ids=name_of)
def test_the_solution_that_a_reader_unfolds_passes(exercise, capsys):
    assert exercise.solution, f"no folded solution defines {exercise.answer_name}"
    exercise.check(exercise.solve())
    assert capsys.readouterr().out == f"✓ {exercise.answer_name}: all checks passed.\n"


@pytest.mark.parametrize("exercise", EXERCISES, ids=name_of)
def test_an_exercise_is_graded_by_the_number_in_its_title(exercise):
    assert grade(exercise.number, exercise.solve()) == Verdict(True, "", "")


@pytest.mark.parametrize("exercise", EXERCISES, ids=name_of)
def test_an_unfinished_answer_is_told_so(exercise, capsys):
    assert "raise NotImplementedError" in exercise.stub
    imports = exercise.stub.replace(f"{exercise.check_name}({exercise.answer_name})", "")
    unfinished = exercise.solve(imports)
    assert grade(exercise.number, unfinished).unfinished
    exercise.check(unfinished)
    assert "not written yet" in capsys.readouterr().out


@pytest.mark.parametrize("exercise", EXERCISES, ids=name_of)
def test_typical_mistakes_are_caught_each_with_its_own_message(exercise):
    wrong = wrong_answers(exercise)
    assert len(wrong) >= 2
    for what, (function, part) in wrong.items():
        found = grade(exercise.number, function)
        assert not found.passed, what
        assert not found.unfinished, what
        assert part in found.message, what
    parts = Counter(part for _, part in wrong.values())
    assert max(parts.values()) == 1, "each mistake has a message of its own"
    function, _ = next(iter(wrong.values()))
    with pytest.raises(CheckFailedError):
        exercise.check(function)


def test_a_chapter_has_three_to_six_exercises():
    for notebook, count in Counter(e.notebook.name for e in EXERCISES).items():
        assert 3 <= count <= 6, f"{notebook} has {count}"


def test_exercises_are_numbered_through():
    assert len({e.number for e in EXERCISES}) == len(EXERCISES)
    for exercise in EXERCISES:
        assert exercise.check.exercise == exercise.number, exercise.check_name
