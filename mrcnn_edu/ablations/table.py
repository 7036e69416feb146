"""What a table of ablations is: a claim, arms that differ in configuration, effects to judge.

A table is data, not code. Everything that decides about a verdict, above all the smallest effect
that would matter, stands in it before anything is run; where it was added later, its note says so.
Chapter 15.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from mrcnn_edu.config import ModelConfig
from mrcnn_edu.presets import preset

DataName = Literal["shapes", "persons", "nuclei"]
# What is measured, in AP points: which results, which number of them.
COLUMNS = {
    "box AP": ("box", "AP"),
    "box AP75": ("box", "AP75"),
    "mask AP": ("mask", "AP"),
    "mask AP50": ("mask", "AP50"),
    "mask AP75": ("mask", "AP75"),
    "keypoint AP": ("keypoints", "AP"),
}


@dataclass(frozen=True)
class Arm:
    """One row of a table: a preset and what is changed in it."""

    name: str
    base: str  # a preset
    changes: Mapping[str, Any] = field(default_factory=dict)  # fields of ModelConfig
    published: Mapping[str, float] = field(default_factory=dict)  # metric -> AP, from the source

    def config(self) -> ModelConfig:
        """The model of this arm, before a profile sets its size."""
        return dataclasses.replace(preset(self.base), **self.changes)


@dataclass(frozen=True)
class Effect:
    """A claimed difference: `first` is above `second` in `metric`, or, if `alike`, near it.

    `smallest` is the least difference, in AP points, that would matter. It is not chosen by the
    outcome: a claim that one arm is better is refuted only when the interval excludes even half of
    it, and two arms are alike only when the interval excludes all of it.
    """

    first: str
    second: str
    metric: str
    smallest: float
    alike: bool = False

    def __str__(self) -> str:
        return f"{self.first} {'like' if self.alike else 'over'} {self.second}"


@dataclass(frozen=True)
class Table:
    """A table of the paper, or one of our own, as an experiment."""

    key: str  # "2c"
    title: str
    claim: str
    arms: tuple[Arm, ...]
    effects: tuple[Effect, ...]
    columns: tuple[str, ...]  # to show, of COLUMNS
    data: tuple[DataName, ...] = ("shapes",)
    source: str = ""  # of the published numbers; empty where there are none
    note: str = ""  # how our experiment differs
    shared_proposals: bool = False  # backbone and RPN are trained first, the same for all arms

    def __post_init__(self) -> None:
        """Refuse effects on arms or metrics that do not exist."""
        names = [arm.name for arm in self.arms]
        if len(set(names)) < len(names):
            raise ValueError(f"Table {self.key} has two arms of one name: {names}.")
        for effect in self.effects:
            for name in (effect.first, effect.second):
                if name not in names:
                    raise ValueError(f"Table {self.key} has no arm {name!r}; it has {names}.")
            if effect.metric not in self.columns or effect.smallest <= 0:
                raise ValueError(
                    f"Table {self.key}: the effect on {effect.metric} needs a column of that name "
                    f"and a smallest effect above 0, not {effect.smallest}."
                )
        for metric in self.columns:
            if metric not in COLUMNS:
                raise ValueError(f"Table {self.key}: there is no metric {metric!r}.")

    def arm(self, name: str) -> Arm:
        """The arm of that name."""
        return next(arm for arm in self.arms if arm.name == name)
