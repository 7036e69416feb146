"""The budget calculator: GPUs, their speed, the loader and a price become hours and money.

Chapter 14.
"""

from typing import Any

import numpy as np
import traitlets
from matplotlib.figure import Figure

from mrcnn_edu.pictures.show import BLUE, ORANGE
from mrcnn_edu.training.budget import Bill, Machine, bill
from mrcnn_edu.training.config import RECIPES
from mrcnn_edu.widgets.common import Widget, bundle

MOST_GPUS = 64
SCHEDULES = ("1x", "2x", "3x", "paper")
# Images a second of one GPU, efficiency of many, price of an hour. Speeds are published
# (`mrcnn_edu.training.budget.PUBLISHED`; where only eight GPUs were, an eighth with efficiency 1),
# prices are examples of May 2026: aimultiple.com/gpu-index (V100) and, between its two cheaper
# tiers, mercatus-ai.com/blog/cloud-gpu-pricing (A100).
CARDS: dict[str, tuple[float, float, float]] = {
    "A100": (28.0, 0.78, 1.5),
    "V100, float32": (7.75, 1.0, 0.97),
    "V100, float16": (22.5, 1.0, 0.97),
}


class Budget(Widget):
    """What a schedule takes on a machine, over the number of its GPUs.

    Choosing a card sets speed, efficiency and price; each can then be moved by itself.
    """

    _esm = bundle("budget")
    schedule = traitlets.Enum(list(SCHEDULES), default_value="1x").tag(sync=True)
    card = traitlets.Enum(list(CARDS), default_value="A100").tag(sync=True)
    gpus = traitlets.Int(8).tag(sync=True)
    images_s = traitlets.Float(28.0).tag(sync=True)  # of one GPU alone
    efficiency = traitlets.Float(0.78).tag(sync=True)  # of many
    workers = traitlets.Int(16).tag(sync=True)  # processes that load images
    worker_images_s = traitlets.Float(138.0).tag(sync=True)  # of one of them
    price = traitlets.Float(1.5).tag(sync=True)  # dollars for a GPU and an hour
    steps = traitlets.Dict().tag(sync=True)  # by schedule: [steps, images a step]
    cards = traitlets.Dict().tag(sync=True)  # by card: speed, efficiency, price

    def __init__(self, **traits: Any) -> None:
        steps = {name: [RECIPES[name].steps, RECIPES[name].batch_size] for name in SCHEDULES}
        chosen = CARDS.get(traits.get("card", "A100"), CARDS["A100"])
        given = dict(zip(("images_s", "efficiency", "price"), chosen, strict=True))
        cards = {name: list(values) for name, values in CARDS.items()}
        super().__init__(**{**given, "steps": steps, "cards": cards, **traits})

    def machine(self, gpus: int | None = None) -> Machine:
        """The machine that the controls describe, with another number of GPUs where given."""
        return Machine(
            gpus=gpus or self.gpus,
            images_s=self.images_s,
            efficiency=self.efficiency,
            workers=self.workers,
            worker_images_s=self.worker_images_s,
            price=self.price,
        )

    def images(self) -> int:
        """Images of the whole schedule."""
        steps, batch = self.steps[self.schedule]
        return steps * batch

    def bill(self) -> Bill:
        """What the run takes."""
        return bill(self.images(), self.machine())

    def figure(self) -> Figure:
        """Hours over GPUs, the loader's limit, and this machine."""
        counts = np.unique(np.round(np.geomspace(1, MOST_GPUS, 60))).astype(int)
        hours = [bill(self.images(), self.machine(int(n))).hours for n in counts]
        alone = self.images() / (self.workers * self.worker_images_s) / 3600
        found = self.bill()
        figure = Figure(figsize=(5.2, 2.7), layout="constrained")
        axis = figure.subplots()
        axis.loglog(counts, hours, color=BLUE, label="this run")
        axis.axhline(alone, color=ORANGE, linestyle="--", linewidth=1.2, label="loader alone")
        axis.plot(self.gpus, found.hours, "o", color=BLUE, markersize=9)
        ticks = [1, 2, 4, 8, 16, 32, 64]
        axis.set(xlabel="GPUs", ylabel="hours", xticks=ticks, xticklabels=ticks)
        axis.minorticks_off()
        axis.set_title(
            f"{self.schedule} on {self.gpus} GPUs: {found.rate:.0f} images/s "
            f"({found.limit} limit), {found.hours:.1f} h, ${found.money:,.0f}"
        )
        axis.legend()
        return figure
