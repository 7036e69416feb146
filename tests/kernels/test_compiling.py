"""Who waits for a compiler is told so, once, and how long it took; who does not hears nothing."""

import pytest
from numba import njit

from mrcnn_edu.kernels.compiling import told


def fresh():
    """A function that calls another, neither of them compiled yet."""

    @njit(fastmath=False)
    def inner(x):  # type: ignore[no-untyped-def]
        return x + 1

    @njit(fastmath=False)
    def outer(x):  # type: ignore[no-untyped-def]
        return inner(x) * 2

    return outer


def test_it_says_when_it_begins_and_how_long_it_took():
    said: list[str] = []
    first, second = fresh(), fresh()
    with told(said.append):
        first(1)
        assert said == ["Compiling kernels, once on this machine …"]
        second(1)
        assert len(said) == 1
    ends = said[1]
    assert ends.startswith("Kernels compiled in ")
    assert ends.endswith(" s.")
    assert 0.0 <= float(ends.split()[3]) < 120


def test_nothing_is_said_of_what_is_compiled_already():
    said: list[str] = []
    function = fresh()
    function(1)
    with told(said.append):
        function(2)
    assert said == []


def test_an_error_within_ends_the_listening():
    said: list[str] = []
    with pytest.raises(ZeroDivisionError), told(said.append):
        raise ZeroDivisionError
    fresh()(1)
    assert said == []
