"""A machine whose time is told, not measured, and the check of a benchmark on it (chapter 17).

Real clocks give another number each time. `ToyMachine` has the four habits that mislead a
benchmark, each as an option: the first call of each function compiles, calls return before their
work is done, the machine gets slower as time goes by, and now and then something else runs.
"""

import statistics
from collections.abc import Callable, Mapping
from typing import Any

from mrcnn_edu.checks.common import case, check, inputs_kept, require, require_equal

Calls = Mapping[str, Callable[[], None]]
LAUNCH = 0.001  # seconds that an asynchronous call takes to return


class ToyMachine:
    """Functions that take as long as they are told to, and the clock that goes with them.

    Args:
        work: seconds of each function on an undisturbed machine.
        compiling: seconds that the first call of each takes in addition.
        asynchronous: a call returns at once; its work is done behind those that came before.
        slowing: after so many seconds everything takes twice as long, after twice as many three
            times, and so on evenly. 0: never.
        hiccups: numbers of calls, from 1, that take twenty times as long.
        lucky: numbers of calls that take a quarter.
    """

    def __init__(
        self,
        work: Mapping[str, float],
        *,
        compiling: float = 0.0,
        asynchronous: bool = False,
        slowing: float = 0.0,
        hiccups: tuple[int, ...] = (),
        lucky: tuple[int, ...] = (),
    ) -> None:
        self.work, self.compiling, self.asynchronous = dict(work), compiling, asynchronous
        self.slowing, self.hiccups, self.lucky = slowing, hiccups, lucky
        self.now = self.done = 0.0  # the clock; when the work of all calls so far is done
        self.log: list[str] = []

    def clock(self) -> float:
        """Seconds since the machine was switched on, as `time.perf_counter` gives them."""
        return self.now

    def wait(self) -> None:
        """Let time pass until all work is done, as `torch.cuda.synchronize` does."""
        self.now = self.done = max(self.now, self.done)

    def calls(self) -> dict[str, Callable[[], None]]:
        """The functions by their names."""
        return {name: (lambda name=name: self._call(name)) for name in self.work}  # type: ignore[misc]

    def _call(self, name: str) -> None:
        begin = max(self.now, self.done)
        seconds = self.work[name]
        if name not in self.log:
            seconds += self.compiling
        self.log.append(name)
        if self.slowing:
            seconds *= 1 + begin / self.slowing
        if len(self.log) in self.hiccups:
            seconds *= 20
        if len(self.log) in self.lucky:
            seconds /= 4
        self.done = begin + seconds
        self.now = self.now + LAUNCH if self.asynchronous else self.done


WORK = {"old": 3.0, "new": 2.0}


@check("17.4")
def check_benchmark(answer: Callable[..., dict[str, float]]) -> None:
    """Check a benchmark on machines whose times are known."""
    answer = inputs_kept(answer)

    def run(repeats: int, **habits: Any) -> tuple[dict[str, float], ToyMachine]:
        machine = ToyMachine(WORK, **habits)
        got = answer(machine.calls(), repeats, machine.clock, machine.wait)
        require(isinstance(got, dict), "Return a dictionary: name to seconds.")
        require(set(got) == set(WORK), f"Names are old and new; yours are {sorted(got)}.")
        return got, machine

    def told(got: dict[str, float]) -> str:
        return f"Your times: old {got['old']:.3g}, new {got['new']:.3g}; true: 3 and 2."

    case("a machine without habits")
    got, machine = run(4)
    require_equal([got["old"], got["new"]], [3.0, 2.0], "Seconds per call of old and new.")
    least = min(machine.log.count(name) for name in WORK)
    require(least >= 4, f"Each is timed `repeats` = 4 times; you made {least} calls.")

    case("the first call compiles")
    got, _ = run(1, compiling=10.0)
    require(
        got["old"] < 12,
        f"The first call compiles, and that was timed. {told(got)}",
    )
    require_equal([got["old"], got["new"]], [3.0, 2.0], "After one call that is not timed.")

    case("calls return before their work is done")
    got, _ = run(5, asynchronous=True)
    require(
        got["old"] > 0.1,
        f"That is how long it takes to *ask* for the work. Wait for it. {told(got)}",
    )
    got, _ = run(1, asynchronous=True, compiling=10.0)
    require(
        max(got.values()) < 3.5,
        "The clock started while the call before was still at work: wait before you start it, "
        f"too. {told(got)}",
    )
    require_equal([got["old"], got["new"]], [3.0, 2.0], "An asynchronous machine.", 0.01)

    case("something else runs now and then")
    got, _ = run(9, hiccups=(5, 6, 14, 15))
    require(
        max(got.values()) < 4,
        f"Two calls that were disturbed pull a mean up; a median does not see them. {told(got)}",
    )
    got, _ = run(9, lucky=(7, 8, 9, 10))
    require(
        min(got["old"] / 3, got["new"] / 2) > 0.5,
        f"That is the fastest call: luck. The task asks for the median. {told(got)}",
    )
    require_equal([got["old"], got["new"]], [3.0, 2.0], "Some calls were lucky.")

    case("the machine gets slower")
    got, machine = run(15, slowing=60.0)
    ratio = got["old"] / got["new"]
    blocks = "".join(n[0] for n in machine.log[-30:])
    require(
        ratio > 1.3,
        f"old takes 1.5 times as long as new; you say {ratio:.2f}. All calls of one came first "
        f"({blocks}), when the machine was faster: take turns.",
    )
    require(
        abs(ratio - 1.5) < 0.15,
        f"old takes 1.5 times as long as new; you say {ratio:.2f}, in the order {blocks}.",
    )

    case("an even number of repeats")
    got, _ = run(2, lucky=(3,))
    require_equal(
        got["old"], statistics.median([0.75, 3.0]), "The median of two is their mean.", 1e-6
    )

    case("nothing to time")
    require(answer({}, 3, lambda: 0.0, lambda: None) == {}, "No calls: an empty dictionary.")
