"""The forest widget: its JavaScript, its Python and the page of tables give one interval."""

import math
import statistics

import numpy as np
import pytest

pytest.importorskip("anywidget", reason="widgets need anywidget: pip install anywidget")

from mrcnn_edu.ablations.judge import judge, signed
from mrcnn_edu.ablations.profiles import PROFILES
from mrcnn_edu.ablations.tables import TABLES
from mrcnn_edu.widgets.forest import ForestPlot, claims_of
from tests.widgets.node import call, needs_node
from tools.notebooks import ROOT

RESULTS = ROOT / "results" / "ablations"


def random_claims(count: int) -> list[dict]:
    rng = np.random.default_rng(0)
    found = []
    for k in range(count):
        seeds, level = int(rng.integers(1, 9)), float(rng.choice([1.0, 30.0]))
        found.append(
            {
                "profile": "cpu",
                "table": str(rng.choice(["2a", "2c"])),
                "title": "a title",
                "data": str(rng.choice(["shapes", "nuclei"])),
                "metric": str(rng.choice(["mask AP", "box AP"])),
                "claim": f"claim {k}",
                "published": None if k % 3 else 2.0,
                "smallest": float(rng.choice([0.5, 1.0, 2.0])),
                "alike": bool(k % 2),
                "first": rng.normal(level, 1, seeds).round(3).tolist(),
                "second": rng.normal(level, 1, seeds).round(3).tolist(),
            }
        )
    return found


def test_its_claims_are_those_of_the_page():
    claims = claims_of(TABLES, [PROFILES["cpu"]], RESULTS)
    widget = ForestPlot(claims)
    expected = [
        (t.key, str(d), j.verdict, j.difference)
        for t in TABLES
        for d in t.data
        for j in judge(t, PROFILES["cpu"], d, RESULTS)
    ]
    assert len(claims) == len(expected) == 46
    for claim, (key, data, ruling, difference) in zip(claims, expected, strict=True):
        assert (claim["table"], claim["data"]) == (key, data)
        assert widget.verdict(claim) == ruling
        assert widget.difference(claim) == pytest.approx(difference)


def test_choices_leave_what_fits_and_fewer_seeds_are_the_first():
    claims = random_claims(40)
    widget = ForestPlot(claims, table="2a", metric="mask AP")
    assert widget.shown() == [c for c in claims if (c["table"], c["metric"]) == ("2a", "mask AP")]
    widget.seeds = 2
    claim = next(c for c in claims if len(c["first"]) > 3)
    d = widget.difference(claim)
    assert d.seeds == 2
    assert d.mean == pytest.approx(
        statistics.fmean(
            a - b for a, b in zip(claim["first"][:2], claim["second"][:2], strict=True)
        )
    )
    assert widget.verdict(claim) == "undecided", "two seeds decide nothing"
    assert widget.figure().axes
    assert ForestPlot([], unpaired=True).figure().axes


@needs_node
def test_javascript_judges_as_python_does():
    claims = random_claims(120)
    widget = ForestPlot(claims)
    for paired, name in ((True, "paired"), (False, "unpaired")):
        found = call("forest", name, [[c["first"], c["second"], widget.quantiles] for c in claims])
        for claim, got in zip(claims, found, strict=True):
            want = widget.difference(claim, paired)
            assert got["mean"] == pytest.approx(want.mean)
            if want.seeds == 1:
                assert got["low"] is got["high"] is None
                assert math.isinf(want.low)
            else:
                assert (got["low"], got["high"]) == pytest.approx((want.low, want.high))
    rule = {"quantiles": widget.quantiles, "fewest": widget.fewest, "floor": widget.floor}
    rulings = call(
        "forest",
        "verdict",
        [[c["first"], c["second"], c["smallest"], c["alike"], rule] for c in claims],
    )
    assert rulings == [widget.verdict(c) for c in claims]
    assert set(rulings) == {"reproduced", "not reproduced", "undecided"}


@needs_node
def test_javascript_chooses_and_writes_as_python_does():
    claims = random_claims(40)
    names = ("profile", "table", "data", "metric")
    choices = [("cpu", "all", "all", "all"), ("cpu", "2a", "shapes", "all"),
               ("calm", "all", "all", "all"), ("all", "2c", "all", "box AP")]  # fmt: skip
    found = call("forest", "chosen", [[claims, dict(zip(names, c, strict=True))] for c in choices])
    for choice, got in zip(choices, found, strict=True):
        widget = ForestPlot(claims, **dict(zip(names, choice, strict=True)))
        assert got == widget.shown()
    numbers = [1.26, -1.26, 0.04, -0.04, 0.004, -0.004, 0.0, 12.0, -0.06]
    assert call("forest", "signed", [[v] for v in numbers]) == [signed(v) for v in numbers]
