"""Every exercise of every notebook: its solution passes, and typical mistakes are named."""

import copy
import functools
import importlib
import inspect
import warnings
from collections import Counter
from random import Random

import numpy as np
import pytest
import torch

from mrcnn_edu.checks.common import CheckFailedError, Verdict, grade
from tests.checks.exercises import Exercise, exercises
from tests.checks.mutants import TimeUpError, mutants, time_limit

EXERCISES = exercises()
MOST = 100  # mutants of an exercise, the same at each run
SECONDS = 20  # more than any check takes by far


def name_of(exercise: Exercise) -> str:
    return f"{exercise.number}-{exercise.check_name}"


def told(exercise: Exercise, name: str) -> dict:
    """What `tests/checks/wrong_answers` says of an exercise.

    `WRONG`: {what is wrong: (function, a part of the message)}; `OTHER`: functions that must
    fail, with whatever message; `EQUIVALENT`: {a part of a mutant's line: why it is right}.
    """
    chapter = exercise.module.rsplit(".", 1)[1]
    module = importlib.import_module(f"tests.checks.wrong_answers.{chapter}")
    return getattr(module, name, {}).get(exercise.check_name, {})


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
    wrong = told(exercise, "WRONG")
    assert len(wrong) >= 4
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
    for function in told(exercise, "OTHER"):
        assert not grade(exercise.number, function).passed, function.__name__


@pytest.mark.parametrize("exercise", EXERCISES, ids=name_of)
def test_a_slip_in_the_solution_is_caught(exercise):
    exercise.check.verdict(exercise.solve())  # what is loaded or compiled once
    variants = mutants(exercise.solution)
    chosen = Random(exercise.number).sample(sorted(variants), min(MOST, len(variants)))
    passing = [line for line in chosen if passes(exercise, variants[line])]
    right = told(exercise, "EQUIVALENT")
    missed = [line for line in passing if not any(part in line for part in right)]
    assert not missed, "the check passes these, and no reason says that they are right"
    unused = [part for part in right if not any(part in line for line in passing)]
    assert not unused or len(variants) > MOST, f"no mutant that passes holds {unused}"


def passes(exercise: Exercise, source: str) -> bool:
    """Whether the check takes an answer; one that does not come to an end is not taken."""
    try:
        answer = exercise.solve(source)
    except Exception:  # a mutant need not even be a function
        return False
    try:
        with time_limit(SECONDS), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return exercise.check.verdict(answer).passed
    except TimeUpError:
        return False


@pytest.mark.parametrize("exercise", EXERCISES, ids=name_of)
def test_a_check_sees_that_its_input_was_changed(exercise):
    answer, given_away = exercise.solve(), []

    @functools.wraps(answer)
    def destroys(*given, **options):
        result = copy.deepcopy(answer(*given, **options))
        for value in given:
            if isinstance(value, torch.Tensor | np.ndarray):
                with torch.no_grad():
                    value[...] = 77
                given_away.append(value)
            elif isinstance(value, list):
                value.append(77)
                given_away.append(value)
        return result

    if "out" in inspect.signature(answer).parameters:
        return  # to write into it is the exercise
    found = grade(exercise.number, destroys)
    assert "writes into its input" in found.message or not given_away


def test_a_chapter_has_three_to_six_exercises():
    for notebook, count in Counter(e.notebook.name for e in EXERCISES).items():
        assert 3 <= count <= 6, f"{notebook} has {count}"


def test_exercises_are_numbered_through():
    assert len({e.number for e in EXERCISES}) == len(EXERCISES)
    for exercise in EXERCISES:
        assert exercise.check.exercise == exercise.number, exercise.check_name
