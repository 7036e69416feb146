"""`mrcnn-edu ablate`: the paper's tables as experiments."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from mrcnn_edu.ablations.table import DataName, Table
from mrcnn_edu.ablations.tables import TABLES, table
from mrcnn_edu.cli.common import Device, find_device
from mrcnn_edu.cli.terminal import say
from mrcnn_edu.errors import UserError

if TYPE_CHECKING:
    from mrcnn_edu.ablations.engine import Plan
    from mrcnn_edu.ablations.profiles import Profile

RESULTS = Path("results/ablations")  # those that come with the course


@dataclass
class Ablate:
    """Run arms and seeds of the paper's tables, go on where it stopped, and write the tables."""

    table: tuple[str, ...] = ()
    """Which: 2a 2b 2c 2c-shared 2d 2e 3 5 6 code. None named means all."""
    profile: str = "cpu"
    """How large: smoke, cpu or calm (a laptop), or gpu."""
    data: tuple[Literal["shapes", "persons", "nuclei"], ...] = ("shapes", "persons")
    """On what; a table runs on those of these that it is meant for. Nuclei need --nuclei."""
    nuclei: Path | None = None
    """Folder that `mrcnn-edu data nuclei` wrote."""
    budget: str | None = None
    """Begin no run that would not end in this time: 20m, 1.5h, 600s. Without it everything runs."""
    processes: int = 0
    """Runs at a time; 0 takes one a CPU core, or four on a GPU."""
    results: Path = RESULTS
    """Where each run's JSON, the table and the plot go."""
    work: Path = Path("runs/ablations")
    """Where checkpoints go."""
    render: bool = False
    """Only write table and plot from the results that are there."""
    device: Device = "cpu"

    def run(self) -> None:
        """Run the command."""
        from mrcnn_edu.ablations import report
        from mrcnn_edu.ablations.engine import carry_out, plan
        from mrcnn_edu.ablations.profiles import profile

        tables = [table(key) for key in self.table] if self.table else list(TABLES)
        size = profile(self.profile)
        names: list[DataName] = list(self.data)
        if self.processes < 0:
            raise UserError(
                f"--processes is {self.processes}; give 1 or more, or 0 for the default."
            )
        if "nuclei" in names and self.nuclei is None and not self.render:
            raise UserError("Name the folder of the nuclei set with --nuclei.")
        found = plan(tables, size, names, self.results, timings=RESULTS)
        if not found.done and not found.left:
            meant = ", ".join(f"table {t.key} on {' and '.join(t.data)}" for t in tables)
            raise UserError(f"Nothing to run on {', '.join(names)}: {meant}. Choose with --data.")
        at_once = self.processes or (4 if self.device != "cpu" else len(os.sched_getaffinity(0)))
        say(f"{len(found.done)} of {len(found.done) + len(found.left)} runs are done.")
        if found.done and not found.left and not self.render:
            say("Another folder as --results measures them again.")
        if found.left and not self.render:
            budget = seconds(self.budget) if self.budget else None
            say(_outlook(found, tables, size, names, at_once, self.budget))
            device = find_device(self.device)
            finished = carry_out(
                found.left, self.results, self.work, device, at_once, budget, self.nuclei,
                say, found.seconds, found.labels,
            )  # fmt: skip
            more = "; the same command goes on" if finished < len(found.left) else ""
            say(f"Finished {finished} of {len(found.left)} runs{more}.")
        # The page is of all that is there, not of what was asked for this time.
        written = report.write(TABLES, size, get_args(DataName), self.results)
        for path in written:
            say(f"Wrote {path}")
        if not written:
            say(f"No table yet: {self.results} does not hold two arms of one, profile {size.name}.")


def _outlook(
    found: "Plan",
    tables: Sequence[Table],
    size: "Profile",
    names: Sequence[DataName],
    at_once: int,
    budget: str | None,
) -> str:
    """How long it will take, and what a budget is enough for."""
    from mrcnn_edu.ablations.engine import complete_seeds

    if found.seconds is None:
        return "How long a run takes is known after the first ones."
    hours = found.seconds * len(found.left) / at_once / 3600
    text = f"At {found.seconds:.0f} s a run, {at_once} at a time, all take {hours:.1f} h."
    if budget is None:
        return text
    fitting = found.fits(seconds(budget), at_once)
    parts = []
    for which, data in ((t, d) for t in tables for d in t.data if d in names):
        count, wanted = complete_seeds(which, size, data, (*found.done, *fitting))
        on = f" on {data}" if len(which.data) > 1 else ""
        parts.append(f"{which.key}{on} {count} of {wanted}")
    enough = f"{budget} are enough for {len(fitting)} of {len(found.left)}"
    return f"{text} {enough}. Seeds: {', '.join(parts)}."


def seconds(text: str) -> float:
    """A length of time such as 20m, 1.5h, 600s or 600, in seconds.

    Raises:
        UserError: it is none of these.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
    if match is None:
        raise UserError(f"{text!r} is no length of time; write 20m, 1.5h or 600s.")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]
