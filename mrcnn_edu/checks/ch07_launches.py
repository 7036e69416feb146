"""What the checks of chapters 07a and 07b share: launches under the recorder, and what it saw."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import cuda

from mrcnn_edu.checks.common import require
from mrcnn_edu.pictures.threads import Trace, trace
from mrcnn_edu.roi.cuda.device import sample, sample_position


def launch(answer: Callable, blocks: Any, threads: Any, out: np.ndarray, *given: Any) -> Trace:
    """Trace a launch with `out` as its last argument, and compare the others after it."""
    before = [np.copy(a) for a in given]
    found = trace(answer, blocks, threads, *given, out)
    for was, now in zip(before, given, strict=True):
        require(np.array_equal(was, now), "The kernel changed its input; it may write out alone.")
    return found


def stays_inside(found: Trace, why: str) -> None:
    """Fail if a thread used what does not exist."""
    outside = found.outside()
    if outside:
        first = outside[0]
        verb = "reads" if first.kind == "read" else "writes"
        require(
            False,
            f"Thread {first.lane} of block {first.block} {verb} {first.array}{list(first.index)}, "
            f"which does not exist. {why}",
        )


def does_not_race(found: Trace, why: str) -> None:
    """Fail if threads use a number that one of them writes plainly."""
    for (name, index), threads in found.races().items():
        require(False, f"{threads} threads use {name}{list(index)} and write it plainly. {why}")


def share_the_work(found: Trace, name: str, wanted: int, why: str) -> None:
    """Fail unless `wanted` threads changed the array, each once."""
    times = Counter(a.who for a in found.accesses if a.array == name and a.kind != "read")
    require(
        len(times) == wanted,
        f"{len(times)} threads did the work where {wanted} could do it side by side. {why}",
    )
    most = max(times.values(), default=1)
    require(most == 1, f"A thread wrote {most} times to {name}; once is enough. {why}")


def does_not_race_in_memory(found: Trace) -> None:
    """As `does_not_race`, for all arrays but the shared ones, which have barriers."""
    for (name, index), threads in found.races().items():
        require(
            name.startswith("shared"), f"{threads} threads use {name}{list(index)} and write it."
        )


class Launched:
    """What a launch needs of a kernel; runs the true one under the recorder."""

    def __init__(self) -> None:
        self.launches = self.count = 0
        self.threads: tuple[int, ...] = (0, 0)

    def __getitem__(self, how: tuple) -> Callable:
        blocks, threads = (n if isinstance(n, tuple) else (n, 1) for n in how[:2])
        self.threads = threads

        def run(feature: Any, width: int, box: Any, bins: int, samples: int, out: Any) -> None:
            for name, array in (("feature", feature), ("box", box), ("out", out)):
                require(
                    isinstance(array, np.ndarray),
                    f"The kernel gets {name} as a {type(array).__name__}: hand it the tensor's "
                    "memory, tensor.numpy().",
                )
            require(
                feature.ndim == 2 and feature.shape[1] == out.shape[1],
                f"The kernel reads feature [H · W, C] and writes out [bins · bins, C]; it got "
                f"{list(feature.shape)} and {list(out.shape)}.",
            )
            found = trace(
                _one_thread_per_output, blocks, threads, feature, width, box, bins, samples, out
            )
            self.launches, self.count = self.launches + 1, len(found.threads)

        return run


def _one_thread_per_output(
    feature: Any, width: int, box: Any, bins: int, samples: int, out: Any
) -> None:
    c, b = cuda.grid(2)
    real = box.dtype.type
    if b >= out.shape[0] or c >= out.shape[1]:
        return
    total = real(0)
    for k in range(samples * samples):
        y = sample_position(box[0], box[2], samples, b // bins, k // samples, real)
        x = sample_position(box[1], box[3], samples, b % bins, k % samples, real)
        top, bottom, below = sample(y, feature.shape[0] // width, real)
        left, right, beside = sample(x, width, real)
        upper = (1 - beside) * feature[top * width + left, c]
        upper += beside * feature[top * width + right, c]
        lower = (1 - beside) * feature[bottom * width + left, c]
        lower += beside * feature[bottom * width + right, c]
        total += (1 - below) * upper + below * lower
    out[b, c] = total / real(samples * samples)
