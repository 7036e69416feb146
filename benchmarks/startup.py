"""How long a command takes to say what it can do: processor time of each `--help`.

    python -m benchmarks.startup

Medians of fresh processes, called in turn. Writes results/startup.json.
"""

import resource
import statistics
import subprocess
import sys

from benchmarks.timing import table
from mrcnn_edu.files import write_json
from mrcnn_edu.provenance import provenance

COMMANDS = ("", "quickstart", "train", "evaluate", "predict", "ablate", "data", "config")
REPEATS = 5


def seconds(command: str) -> float:
    """Processor time of one `mrcnn-edu COMMAND --help`."""
    words = [sys.executable, "-m", "mrcnn_edu.cli", *command.split(), "--help"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(words, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Measure, print, write."""
    origin = provenance({"repeats": REPEATS}, 0)
    found: dict[str, list[float]] = {command: [] for command in COMMANDS}
    for _ in range(REPEATS):
        for command in COMMANDS:
            found[command].append(seconds(command))
    rows: list[dict[str, object]] = [
        {"command": f"mrcnn-edu {c} --help", "processor seconds": round(statistics.median(s), 2)}
        for c, s in found.items()
    ]
    print(table("Start-up", rows))
    write_json("results/startup.json", {**origin, "rows": rows})


if __name__ == "__main__":
    main()
