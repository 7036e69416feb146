"""How much a small, short training scatters from seed to seed: the calm recipe against the old one.

Trains table 2e's FCN arm, which is the plain `tiny_fpn`, in the profiles `cpu` and `calm` of
`mrcnn_edu.ablations`: the same images, model and number of steps, two recipes. Of `cpu` it reads
what `results/ablations` holds and trains only the seeds that are missing there. Everything about
the calm recipe was chosen on seed 100, which is not among those reported.

    OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python -m benchmarks.calm --seeds 8

Writes results/calm.json after every run; one that is there is not made again. About a minute and a
half of one core a run.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import torch

from mrcnn_edu.ablations.engine import make_run, read
from mrcnn_edu.ablations.profiles import PROFILES
from mrcnn_edu.ablations.run import Run, execute
from mrcnn_edu.ablations.tables import table
from mrcnn_edu.files import write_json
from mrcnn_edu.provenance import provenance

ROOT = Path(__file__).resolve().parent.parent
STORED = ROOT / "results" / "ablations"
TABLE, ARM = "2e", "FCN"


def the_run(profile: str, seed: int) -> Run:
    """The arm with one seed, in one profile."""
    which = table(TABLE)
    return make_run(which, which.arm(ARM), PROFILES[profile], "shapes", seed)


def short(result: dict[str, Any]) -> dict[str, Any]:
    """What is kept of a run's result: where it comes from and how good it was."""
    kept = {k: v for k, v in result.items() if k != "metrics"}
    kept["box_AP"], kept["mask_AP"] = (result["metrics"][k]["AP"] for k in ("box", "mask"))
    return kept


def summarise(runs: dict[str, dict[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Mean and standard deviation over the seeds of each profile."""
    rows = {}
    for profile, by_seed in runs.items():
        row: dict[str, Any] = {"seeds": len(by_seed)}
        for kind in ("box_AP", "mask_AP"):
            values = [run[kind] for run in by_seed.values()]
            row[f"{kind}_mean"] = round(statistics.fmean(values), 2)
            row[f"{kind}_deviation"] = (
                round(statistics.stdev(values), 2) if len(values) > 1 else None
            )
        rows[profile] = row
    return rows


def main() -> None:
    """Run what is missing, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--profiles", nargs="+", default=["calm", "cpu"])
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "calm.json")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "calm")
    options = parser.parse_args()
    torch.set_num_threads(1)
    runs: dict[str, dict[str, dict[str, Any]]] = {"cpu": {}, "calm": {}}
    origin = provenance({"table": TABLE, "arm": ARM, "profiles": list(runs)}, seed=0)
    if options.out.exists():
        runs = json.loads(options.out.read_text())["runs"]
    for seed in range(options.seeds):  # those that are there, whether others are made or not
        stored = read(the_run("cpu", seed), STORED)
        if stored is not None:
            runs["cpu"].setdefault(str(seed), short(stored))
    for profile in options.profiles:
        for seed in range(options.seeds):
            if str(seed) in runs[profile]:
                continue
            made = execute(the_run(profile, seed), options.work, options.work, "cpu", None)
            runs[profile][str(seed)] = short(json.loads(made.read_text()))
            write_json(options.out, {**origin, "summary": summarise(runs), "runs": runs})
            print(profile, seed, runs[profile][str(seed)]["mask_AP"], flush=True)
    for profile, row in summarise(runs).items():
        print(profile, row)


if __name__ == "__main__":
    main()
