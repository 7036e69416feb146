"""Every figure has its script, redrawing gives the same, and none is too large for a page."""

import sys
from types import SimpleNamespace

import pytest
import torch

import figures

NAMES = figures.names()


def test_each_figure_has_its_script_and_each_script_its_figure():
    drawn = sorted(p.stem for p in figures.HERE.glob("*.svg"))
    assert drawn == NAMES, "run `make figures`, or remove what is left over"


@pytest.mark.parametrize("name", NAMES)
def test_redrawing_gives_the_same_figure(name):
    path = figures.HERE / f"{name}.svg"
    assert figures.same(path.read_text(), figures.render(name).decode()), "run `make figures`"
    assert path.stat().st_size < 1_000_000, "draw images smaller, or fewer lines"


def svg_of(draw, monkeypatch) -> str:
    monkeypatch.setitem(sys.modules, "figures.any", SimpleNamespace(draw=draw))
    return figures.render("any").decode()


def plot(values, picture):
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2)
    left.plot(values)
    right.imshow(picture)
    return figure


def test_a_figure_is_the_same_up_to_rounding_and_not_beyond(monkeypatch):
    picture = torch.rand(8, 8, generator=torch.Generator().manual_seed(0)).numpy()
    first = svg_of(lambda: plot([0, 1, 4], picture), monkeypatch)
    assert svg_of(lambda: plot([0, 1, 4], picture), monkeypatch) == first
    nearly = svg_of(lambda: plot([0, 1.0001, 4], picture + 1e-6), monkeypatch)
    assert nearly != first
    assert figures.same(first, nearly)
    assert not figures.same(first, svg_of(lambda: plot([0, 1.5, 4], picture), monkeypatch))
    assert not figures.same(first, svg_of(lambda: plot([0, 1, 4], picture.T), monkeypatch))
    assert not figures.same(first, svg_of(lambda: plot([0, 1, 2, 4], picture), monkeypatch))
