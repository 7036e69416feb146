"""Plan an experiment, leave out what is done, and carry out the rest within a budget of time.

Runs are ordered seed by seed, so that what is finished first can be compared already. Several run
at once, each in a process with one thread: on a CPU as many as it has cores, on a GPU as many as
its memory holds. Whoever is killed goes on where it was. Chapter 15.
"""

import dataclasses
import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mrcnn_edu.ablations.profiles import Profile
from mrcnn_edu.ablations.run import Run, execute
from mrcnn_edu.ablations.table import Arm, DataName, Table
from mrcnn_edu.errors import UserError
from mrcnn_edu.training.stop import TrainingInterruptedError, stop_signals


@dataclass(frozen=True)
class Plan:
    """What is done and what is left of an experiment."""

    done: tuple[Run, ...]
    left: tuple[Run, ...]  # in the order in which they will run
    seconds: float | None  # a run took on one process where it was measured; None: nowhere yet
    labels: Mapping[str, str]  # a run's name -> the first table, arm and data that need it

    def fits(self, budget: float, processes: int) -> tuple[Run, ...]:
        """The runs that should end within a budget of seconds, so many at a time."""
        if self.seconds is None:
            return ()
        return self.left[: int(budget // self.seconds) * processes]


def make_run(table: Table, arm: Arm, profile: Profile, data: DataName, seed: int) -> Run:
    """The run of one arm with one seed.

    Args:
        table: the table that the arm belongs to.
        arm: what differs from the table's other arms.
        profile: how large model, data and training are.
        data: the set to train on.
        seed: of weights, order and augmentation, from 0.

    Returns:
        the run; where the table's arms share proposals, with the run of backbone and RPN as its
        `first`.
    """
    model = profile.model(arm.config(), data)
    train = profile.schedule(data, seed)
    rest = (profile.training_images, profile.validation_images, profile.shapes_for(data))
    if not table.shared_proposals:
        return Run(data, model, train, *rest)
    # First backbone and RPN alone: without RoIs there is no gradient from any head. Then the
    # backbone stays, and with no clipping over all gradients the RPN learns the same whatever the
    # heads do.
    train = dataclasses.replace(train, clip_gradient_norm=0.0)
    rpn_only = dataclasses.replace(profile.model(table.arms[0].config(), data), box_samples=0)
    first = Run(data, rpn_only, train, *rest)
    return Run(data, dataclasses.replace(model, frozen_stages=5), train, *rest, first=first)


def plan(
    tables: Sequence[Table],
    profile: Profile,
    data: Sequence[DataName],
    results: Path,
    timings: Path | None = None,
) -> Plan:
    """Which runs the tables need, without repetition, and which of them are there.

    Args:
        tables: what is to be filled.
        profile: at which size.
        data: only these data sets, of those that a table is meant for.
        results: folder of finished runs.
        timings: another such folder, which tells how long runs take that are not in `results`.
    """
    pairs = [(table, name) for table in tables for name in table.data if name in data]
    most = max((profile.seeds_for(table.key) for table, _ in pairs), default=0)
    runs, labels = dict[str, Run](), dict[str, str]()
    for seed in range(most):  # seed by seed, so that arms can be compared early
        for table, name in pairs:
            if seed < profile.seeds_for(table.key):
                for arm, run in zip(table.arms, seed_of(table, profile, name, seed), strict=True):
                    runs.setdefault(run.name, run)
                    labels.setdefault(run.name, f"{table.key}, {arm.name}, {name}, seed {seed}")
    done, left, times = list[Run](), list[Run](), list[float]()
    for run in runs.values():
        found = read(run, results)
        (left if found is None else done).append(run)
        known = found or (read(run, timings) if timings else None)
        if known is not None:
            times.append(known["step_seconds"] * run.train.steps + known["evaluate_seconds"])
    return Plan(tuple(done), tuple(left), sum(times) / len(times) if times else None, labels)


def seed_of(table: Table, profile: Profile, data: DataName, seed: int) -> list[Run]:
    """The runs of all arms with one seed.

    Args:
        table: the table, with its arms.
        profile: how large model, data and training are.
        data: the set to train on.
        seed: the same for every arm, so that they can be compared in pairs.

    Returns:
        one run for each arm, in the table's order.
    """
    return [make_run(table, arm, profile, data, seed) for arm in table.arms]


def complete_seeds(
    table: Table, profile: Profile, data: DataName, made: Collection[Run]
) -> tuple[int, int]:
    """How many seeds of a table are complete: all its arms were run with them.

    Args:
        table: the table, with its arms.
        profile: how large the runs are, and with how many seeds.
        data: the set to train on.
        made: the runs whose results are there.

    Returns:
        how many seeds are complete, and how many there should be.
    """
    names = {run.name for run in made}
    wanted = range(profile.seeds_for(table.key))
    complete = [
        all(run.name in names for run in seed_of(table, profile, data, seed)) for seed in wanted
    ]
    return sum(complete), len(wanted)


def read(run: Run, results: Path) -> dict[str, Any] | None:
    """The result of a run, or None if it is not there.

    Raises:
        UserError: the file is not a result.
    """
    paths = [results / f"{name}.json" for name in run.names]
    path = next((path for path in paths if path.exists()), None)
    if path is None:
        return None
    try:
        found = json.loads(path.read_text())
        mine = run.is_described_by(found["config"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is damaged ({error}). Delete it, and the run is made again."
        ) from error
    return found if mine else None


def carry_out(
    runs: Sequence[Run],
    results: Path,
    work: Path,
    device: str = "cpu",
    processes: int = 1,
    budget: float | None = None,
    nuclei: Path | None = None,
    say: Callable[[str], None] = print,
    expected: float | None = None,
    labels: Mapping[str, str] | None = None,
) -> int:
    """Make the runs, several at a time, until all are done or the time is over.

    A run is begun only if it should end within the budget, judged by the longest so far and by
    `expected`; where neither is known, the first ones are begun in any case. One that fails does
    not stop the others.

    Args:
        runs: in order of importance.
        results: folder for their files.
        work: folder for checkpoints.
        device: "cpu" or "cuda".
        processes: runs at a time.
        budget: seconds; None: as long as it takes.
        nuclei: folder of the nuclei set.
        say: told about each run that ends.
        expected: seconds that a run should take, if that is known.
        labels: what to call a run, by its name.

    Returns:
        how many runs were finished.

    Raises:
        UserError: what runs raised, in the end.
        TrainingInterruptedError: Ctrl-C or SIGTERM, after the runs under way have saved.
    """
    start, longest, finished = time.monotonic(), expected or 0.0, 0
    waiting, running = list(runs), dict[Future, tuple[Run, float]]()
    closed, failures = False, list[str]()  # closed: nothing more is begun
    context = multiprocessing.get_context("spawn")  # a fork would share locks and a GPU
    with ProcessPoolExecutor(processes, context, initializer=_begin_process) as pool:
        try:
            with stop_signals("Stopping; runs that are under way save themselves …") as stop:
                while running or (waiting and not closed):
                    now = time.monotonic() - start
                    closed = budget is not None and longest > 0 and now + longest > budget
                    while len(running) < processes and not closed:
                        run = next_run(waiting, [r for r, _ in running.values()])
                        if run is None:
                            break
                        waiting.remove(run)
                        future = pool.submit(execute, run, results, work, device, nuclei)
                        running[future] = (run, time.monotonic())
                    if not running:
                        continue  # closed: the time is over
                    ended, _ = wait(running, timeout=0.5, return_when=FIRST_COMPLETED)
                    if stop.requested:
                        raise TrainingInterruptedError(
                            f"Stopped after {finished} of {len(runs)} runs. Those under way "
                            f"are saved in {work}; the same command goes on."
                        )
                    for future in ended:
                        run, began = running.pop(future)
                        label = (labels or {}).get(run.name, run.name)
                        try:
                            future.result()
                        except UserError as error:
                            failures.append(f"{label}: {error}")
                            continue
                        seconds = time.monotonic() - began
                        longest = max(longest, seconds)
                        finished += 1
                        left = len(waiting) + len(running)
                        say(f"{label}: {seconds:.0f} s; {left} left")
        except BaseException:
            for process in multiprocessing.active_children():
                process.terminate()  # SIGTERM: a run saves and stops
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    if failures:
        raise UserError("\n".join([f"{len(failures)} of {len(runs)} runs failed:", *failures]))
    return finished


def next_run(waiting: Sequence[Run], running: Sequence[Run]) -> Run | None:
    """The first run that does not need what another is just making: a shared first stage."""
    busy = {run.first.name for run in running if run.first}
    return next((run for run in waiting if not (run.first and run.first.name in busy)), None)


def _begin_process() -> None:
    """Runs beside each other share the cores by taking one each, and end with who began them."""
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)  # a run saves and stops
    time.sleep(30)
    os._exit(1)
