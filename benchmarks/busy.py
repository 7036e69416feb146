"""What a busy machine costs: seconds per training step, undisturbed and beside two busy processes.

OpenMP's threads spin while they wait for each other. That is fast on an idle machine; beside other
programs the waiting thread holds the core that the working one needs. How long they spin is the
variable GOMP_SPINCOUNT, which `mrcnn_edu` sets when it is imported. Each setting trains the
quickstart's model in a process of its own, with as many threads as there are cores, without and
with two processes beside it that count for ever; rounds of all settings follow each other, and what
is reported is the median over rounds.

    python -m benchmarks.busy            # ten minutes or so on an idle machine

Writes results/busy.json. Bars: beside two busy processes at least 0.3 of the undisturbed speed,
undisturbed at most 3 % slower than with libgomp's own default.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mrcnn_edu.files import write_json
from mrcnn_edu.provenance import provenance

ROOT = Path(__file__).resolve().parent.parent
OURS = "as mrcnn_edu sets it"
SETTINGS: dict[str, dict[str, str]] = {  # what the environment says before Python starts
    "libgomp's default": {"GOMP_SPINCOUNT": "300000"},
    OURS: {},
    "passive": {"OMP_WAIT_POLICY": "passive"},
}
BUSY = 2

# Median seconds per step, in a process of its own: the library first, as everywhere.
STEPS = """
import mrcnn_edu
import json, statistics, sys, tempfile
from pathlib import Path
from mrcnn_edu.data.shapes import ShapesConfig, ShapesDataset, generate
from mrcnn_edu.presets import TINY_FPN
from mrcnn_edu.training.config import TrainConfig
from mrcnn_edu.training.run_log import STEP_LOG, read_metrics
from mrcnn_edu.training.train import train

steps = int(sys.argv[1])
data = ShapesDataset(generate(ShapesConfig(), 40, seed=1))
with tempfile.TemporaryDirectory() as folder:
    train(TINY_FPN, TrainConfig(steps=steps, warmup_steps=1), data, Path(folder), progress=False)
    seconds = [line["seconds"] for line in read_metrics(Path(folder) / STEP_LOG)]
print(json.dumps(statistics.median(seconds[steps // 4 :])))
"""


def seconds_per_step(setting: dict[str, str], steps: int) -> float:
    """Train in a fresh process and return the median of its later steps."""
    foreign = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS")
    environment = {k: v for k, v in os.environ.items() if k not in foreign} | setting
    environment["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(
        [sys.executable, "-c", STEPS, str(steps)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return float(json.loads(done.stdout.splitlines()[-1]))


@contextmanager
def busy(processes: int) -> Iterator[list[subprocess.Popen]]:
    """So many processes that count for ever."""
    children = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)
    ]
    try:
        yield children
    finally:
        for child in children:
            child.kill()
            child.wait()


def measure(rounds: int, steps: int) -> dict[str, dict[str, list[float]]]:
    """Seconds per step of each round, by setting and by what runs beside."""
    found: dict[str, dict[str, list[float]]] = {
        name: {"undisturbed": [], "beside_two": []} for name in SETTINGS
    }
    for turn in range(rounds):
        names = list(SETTINGS) if turn % 2 == 0 else list(reversed(SETTINGS))
        for name in names:
            found[name]["undisturbed"].append(seconds_per_step(SETTINGS[name], steps))
            with busy(BUSY):
                found[name]["beside_two"].append(seconds_per_step(SETTINGS[name], steps // 2))
            print(turn + 1, name, {k: v[-1] for k, v in found[name].items()}, flush=True)
    return found


def summarise(found: dict[str, dict[str, list[float]]]) -> dict[str, dict[str, float]]:
    """Medians over rounds; the share of its speed that a setting keeps beside the busy ones."""
    default = statistics.median(found["libgomp's default"]["undisturbed"])
    rows = {}
    for name, seconds in found.items():
        alone, beside = (statistics.median(seconds[k]) for k in ("undisturbed", "beside_two"))
        rows[name] = {
            "undisturbed_seconds": round(alone, 4),
            "beside_two_seconds": round(beside, 4),
            "kept_speed": round(alone / beside, 3),
            "slower_than_default": round(alone / default - 1, 3),
        }
    return rows


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "busy.json")
    options = parser.parse_args()
    config = {"rounds": options.rounds, "steps": options.steps, "busy": BUSY, "settings": SETTINGS}
    origin = provenance(config, seed=0)
    load = os.getloadavg()[0]  # what else ran when we began
    found = measure(options.rounds, options.steps)
    rows = summarise(found)
    for name, row in rows.items():
        print(f"{name}: {row}")
    write_json(
        options.out, {**origin, "load_before": load, "summary": rows, "seconds_per_step": found}
    )


if __name__ == "__main__":
    main()
