"""The RoI operators of this checkout against those of another one, in one interleaved run on a CPU.

    python -m benchmarks.roi_against PATH [--repeats 15] [--only P2 ...] [--out results/FILE.json]

PATH is a checkout of another commit, with its own `mrcnn_edu`. Each of the two runs in a process of
its own; the two take turns, call by call, on the same maps, boxes and gradients, and must compute
the same. A ratio is the other's time divided by ours, medians: above 1 this checkout is faster.
`best_ratio` is that of the shortest times, which other programs on the machine disturb least.
Both use only what `mrcnn_edu.roi` offers to everybody, so any two commits can be compared.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from benchmarks.roi import CASES, SEED, Case, make_boxes
from mrcnn_edu.roi import roi_align, roi_pool, roi_warp

ROOT = Path(__file__).resolve().parent.parent
LAYOUTS = {"channels last": torch.channels_last, "NCHW": torch.contiguous_format}


def jobs(case: Case) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    """What is pooled in this case, by name."""
    how, samples = (case.bins, 1 / case.stride), case.sampling
    found: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "align": lambda x, rois: roi_align(x, rois, *how, samples, True)
    }
    if samples > 0:
        found["align max"] = lambda x, rois: roi_align(x, rois, *how, samples, True, reduce="max")
        found["warp"] = lambda x, rois: roi_warp(x, rois, *how, samples)
        found["pool"] = lambda x, rois: roi_pool(x, rois, *how)
    return found


def call_of(case: Case, name: str, layout: str, backward: bool) -> Callable[[], Tensor]:
    """One operation on data that depends on nothing but the case."""
    generator = torch.Generator().manual_seed(SEED)
    rois = make_boxes(case, generator)
    form = LAYOUTS[layout]
    x = torch.randn(case.shape, generator=generator).contiguous(memory_format=form)
    pool = jobs(case)[name]
    if not backward:
        return lambda: pool(x, rois)
    x.requires_grad_()
    out = pool(x, rois)
    gradient = torch.randn(out.shape, generator=generator).contiguous(memory_format=form)
    return lambda: torch.autograd.grad(out, x, gradient, retain_graph=True)[0]


def serve() -> None:
    """Read a job from standard input, answer with a fingerprint; then one time for each line."""
    torch.set_num_threads(1)
    call: Callable[[], Tensor] = lambda: torch.zeros(())  # noqa: E731
    for line in sys.stdin:
        if line.strip() == "time":
            start = time.perf_counter()
            call()
            print(time.perf_counter() - start, flush=True)
        else:
            index, name, layout, backward = line.rstrip("\n").split("\t")
            call = call_of(CASES[int(index)], name, layout, backward == "True")
            result = call().double()
            print(float(result.abs().sum() + (result * result).sum()), flush=True)


class Side:
    """One checkout in a process of its own."""

    def __init__(self, checkout: Path) -> None:
        environment = os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--serve"], env=environment, cwd=checkout,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def ask(self, line: str) -> float:
        """Send a line and wait for the number that answers it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(line, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the process of {self.process.args} ended: see its message above")
        return float(answer)


def compare(theirs: Side, ours: Side, job: str, repeats: int) -> tuple[list[float], list[float]]:
    """Seconds of each call of both, after they have shown that they compute the same."""
    a, b = theirs.ask(job), ours.ask(job)
    assert abs(a - b) <= 1e-5 * abs(a), f"{job!r}: they compute {a}, we compute {b}"
    seconds: dict[Side, list[float]] = {theirs: [], ours: []}
    for i in range(repeats):
        for side in (theirs, ours) if i % 2 == 0 else (ours, theirs):
            seconds[side].append(side.ask("time"))
    return seconds[theirs], seconds[ours]


def main() -> None:
    """Every case, forward and backward, in both layouts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("path", type=Path)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--only", nargs="*", help="names of cases: P2, C4, small")
    parser.add_argument("--skip", nargs="*", default=[], help='names of operators: "align max"')
    parser.add_argument("--out", help="a file for the rows")
    options = parser.parse_args()
    theirs, ours = Side(options.path.resolve()), Side(ROOT)
    rows: list[dict[str, object]] = []
    for index, case in enumerate(CASES):
        if options.only and case.name not in options.only:
            continue
        for name in (name for name in jobs(case) if name not in options.skip):
            for backward in (False, True):
                for layout in LAYOUTS:
                    job = f"{index}\t{name}\t{layout}\t{backward}"
                    before, after = compare(theirs, ours, job, options.repeats)
                    row: dict[str, object] = {
                        "case": case.name,
                        "sides": f"{case.low}-{case.high}",
                        "bins": case.bins,
                        "sampling": case.sampling,
                        "what": f"{name} {'backward' if backward else 'forward'}",
                        "layout": layout,
                        "theirs_ms": median(before) * 1e3,
                        "ours_ms": median(after) * 1e3,
                        "ratio": median(before) / median(after),
                        "best_ratio": min(before) / min(after),
                    }
                    rows.append(row)
                    shown = [f"{v:.3g}" if isinstance(v, float) else str(v) for v in row.values()]
                    print("  ".join(f"{v:>14}" for v in shown), flush=True)
    ratios = [float(str(row["ratio"])) for row in rows]
    print(f"{len(rows)} comparisons: median ratio {median(ratios):.3f}, lowest {min(ratios):.3f}")
    if options.out:
        from mrcnn_edu.files import write_json
        from mrcnn_edu.provenance import provenance

        command = ["git", "-C", str(options.path), "rev-parse", "HEAD"]
        against = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        config = {"against": against, "repeats": options.repeats, "threads": 1}
        write_json(options.out, {**provenance(config, SEED), "rows": rows})


if __name__ == "__main__":
    if sys.argv[1:] == ["--serve"]:
        serve()
    else:
        main()
