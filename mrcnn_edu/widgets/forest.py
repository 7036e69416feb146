"""Every claim of the paper's tables on one axis: published, measured, judged. Chapter 15."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import traitlets
from matplotlib.figure import Figure

from mrcnn_edu.ablations.intervals import (
    FEWEST,
    FLOOR,
    T_95,
    Difference,
    Verdict,
    paired_difference,
    unpaired_difference,
    verdict,
)
from mrcnn_edu.ablations.judge import collect, interval_text, judge, values
from mrcnn_edu.ablations.profiles import Profile
from mrcnn_edu.ablations.table import Table
from mrcnn_edu.pictures.show import BLUE, GREEN, RED
from mrcnn_edu.widgets.common import Widget, bundle

ALL = "all"
COLOURS: dict[Verdict, str] = {"reproduced": GREEN, "not reproduced": RED, "undecided": "0.55"}
Claim = dict[str, Any]


class ForestPlot(Widget):
    """Claims to choose from: by profile, table, data and metric.

    Args:
        claims: what `claims_of` found.
        traits: `profile`, `table`, `data`, `metric`, each one of the values that occur or "all";
            `seeds`, of how many the interval is computed, 0 for all; `unpaired`, whether the
            interval without pairs is drawn, too.
    """

    _esm = bundle("forest")
    claims: Any = traitlets.List().tag(sync=True)
    quantiles = traitlets.List(list(T_95)).tag(sync=True)
    fewest = traitlets.Int(FEWEST).tag(sync=True)
    floor = traitlets.Float(FLOOR).tag(sync=True)
    profile = traitlets.Unicode("cpu").tag(sync=True)
    table = traitlets.Unicode(ALL).tag(sync=True)
    data = traitlets.Unicode(ALL).tag(sync=True)
    metric = traitlets.Unicode(ALL).tag(sync=True)
    seeds = traitlets.Int(0).tag(sync=True)
    unpaired = traitlets.Bool(False).tag(sync=True)

    def __init__(self, claims: Sequence[Claim], **traits: Any) -> None:
        super().__init__(claims=list(claims), **traits)

    def shown(self) -> list[Claim]:
        """The claims that the choices leave."""
        names = ("profile", "table", "data", "metric")
        return [
            c for c in self.claims if all(getattr(self, n) in (ALL, c[n]) for n in names)
        ]  # fmt: skip

    def difference(self, claim: Claim, paired: bool = True) -> Difference:
        """Mean and interval of a claim, from the first `seeds` seeds."""
        first, second = (dict(enumerate(arm)) for arm in self._arms(claim))
        return (paired_difference if paired else unpaired_difference)(first, second)

    def verdict(self, claim: Claim) -> Verdict:
        """What the rule says of the claim, judged as if these were all its seeds."""
        level = max(statistics.fmean(arm) for arm in self._arms(claim))
        return verdict(self.difference(claim), claim["smallest"], claim["alike"], level)

    def figure(self) -> Figure:
        """The chosen claims, one under the other."""
        claims = self.shown()
        figure = Figure(figsize=(7.2, 0.8 + 0.24 * max(1, len(claims))), layout="constrained")
        axis = figure.subplots()
        for y, claim in enumerate(claims):
            d, colour = self.difference(claim), COLOURS[self.verdict(claim)]
            if claim["alike"]:
                side = claim["smallest"]
                axis.fill_betweenx([y - 0.4, y + 0.4], -side, side, color=BLUE, alpha=0.15)
            if self.unpaired:
                wide = self.difference(claim, paired=False)
                axis.plot([wide.low, wide.high], [y + 0.22, y + 0.22], color="0.75", linewidth=1)
            axis.plot([d.low, d.high], [y, y], color=colour, linewidth=1.6)
            axis.plot(d.mean, y, "o", color=colour, markersize=4.5)
            if claim["published"] is not None:
                axis.plot(claim["published"], y, "|", color=BLUE, markersize=9, markeredgewidth=1.8)
            axis.text(
                1.02, y, interval_text(d), transform=axis.get_yaxis_transform(), va="center",
                fontsize=7,
            )  # fmt: skip
        axis.axvline(0, color="0.3", linewidth=0.8, zorder=0)
        axis.set_yticks(range(len(claims)), [heading(c) for c in claims], fontsize=7)
        axis.set(ylim=(len(claims) - 0.4, -0.6), xlabel="difference in AP points, 95 % interval")
        return figure

    def _arms(self, claim: Claim) -> tuple[list[float], list[float]]:
        count = self.seeds or len(claim["first"])
        return claim["first"][:count], claim["second"][:count]


def heading(claim: Claim) -> str:
    """A claim in a few words."""
    return f"{claim['table']}, {claim['data']}: {claim['claim']}, {claim['metric']}"


def claims_of(tables: Sequence[Table], profiles: Sequence[Profile], results: Path) -> list[Claim]:
    """The claims of all tables that were run with all their seeds.

    Args:
        tables: in the order in which they are to stand.
        profiles: of what size.
        results: the folder of the runs' JSON files.

    Returns:
        for each claim what it says, what is published of it, and the values of both arms by seed.
    """
    found: list[Claim] = []
    for profile in profiles:
        for table in tables:
            for data in table.data:
                runs = collect(table, profile, data, results)
                for j in judge(table, profile, data, results):
                    if not j.complete:
                        continue
                    first, second = (
                        values(runs[name], j.effect.metric)
                        for name in (j.effect.first, j.effect.second)
                    )
                    found.append(
                        {
                            "profile": profile.name,
                            "table": table.key,
                            "title": table.title,
                            "data": str(data),
                            "metric": j.effect.metric,
                            "claim": str(j.effect),
                            "published": None if j.published is None else j.published[0],
                            "smallest": j.effect.smallest,
                            "alike": j.effect.alike,
                            "first": [first[seed] for seed in sorted(first)],
                            "second": [second[seed] for seed in sorted(second)],
                        }
                    )
    return found
