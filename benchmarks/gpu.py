"""Everything that needs a GPU, in pieces of under ten minutes that go on where they were.

    python -m benchmarks.gpu --plan                # what would run, what is done already
    python -m benchmarks.gpu                       # for nine minutes; run it again until it says so
    python -m benchmarks.gpu --only train_bf16     # one piece, also if it is done
    python -m benchmarks.gpu --tiny                # every command, shortened, on a CPU: a rehearsal

A piece is done when its file in results/ was measured on a GPU; the ablations, which are many runs,
when none is left. One that does not finish in its
time is asked to stop (SIGTERM): training saves and goes on the next time, everything else begins
again. Nuclei need MRCNN_DATA; without it they are left out. Logs lie in runs/gpu/. With --copy-to
results and logs are copied there after every piece, for a machine that forgets.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from mrcnn_edu.ablations.engine import plan
from mrcnn_edu.ablations.profiles import PROFILES
from mrcnn_edu.ablations.table import DataName
from mrcnn_edu.ablations.tables import TABLES
from mrcnn_edu.files import write_json
from mrcnn_edu.provenance import provenance

ROOT = Path(__file__).resolve().parent.parent
LOGS = ROOT / "runs" / "gpu"


@dataclass(frozen=True)
class Piece:
    """A command with a result."""

    name: str
    module: str
    arguments: str  # on a GPU
    tiny: str  # instead, on a CPU in a minute
    minutes: float  # a guess: it is not begun with less time left
    result: str  # in results/
    resumes: bool = False
    needs_data: bool = False
    left: Callable[[], int] | None = None  # of a piece of many runs: how many are not made yet


def ablations_left(*data: DataName) -> int:
    """Runs of the profile for a GPU that results/ablations does not hold."""
    return len(plan(TABLES, PROFILES["gpu"], data, ROOT / "results" / "ablations").left)


ABLATE = "ablate --profile gpu --device cuda --processes 8 --budget 8m"
ABLATE_TINY = "ablate --profile smoke --table 2d --processes 2"

PIECES = (
    Piece(
        "tests",
        "pytest",
        "-q -p no:cacheprovider tests/roi/test_cuda.py tests/test_boxes.py "
        "tests/training/test_precision.py",
        "-q -p no:cacheprovider tests/training/test_precision.py",
        4,
        "gpu_tests.json",
    ),
    Piece("roi", "benchmarks.roi", "--device cuda", "--device cpu --repeats 1", 4, "roi_cuda.json"),
    Piece(
        "model",
        "benchmarks.model",
        "--device cuda",
        "--device cpu --repeats 1 --dry",
        4,
        "model_cuda.json",
    ),
    Piece(
        "model_bf16",
        "benchmarks.model",
        "--device cuda --autocast",
        "--device cpu --repeats 1 --dry",
        4,
        "model_cuda_bf16.json",
    ),
    Piece(
        "model_compiled",
        "benchmarks.model",
        "--device cuda --autocast --compile",
        "--device cpu --repeats 1 --dry",  # compiling takes minutes on a CPU
        6,
        "model_cuda_bf16_compiled.json",
    ),
    Piece(
        "train_bf16",
        "benchmarks.train",
        "--device cuda --precision bf16 --batch 16 --images 1000 --steps 60 --workers 12",
        "--size 64 --images 4 --steps 1 --rounds 1 --batch 2",
        9,
        "train_cuda_bf16_800.json",
    ),
    Piece(
        "train_float32",
        "benchmarks.train",
        "--device cuda --precision float32 --batch 8 --images 1000 --steps 30 --workers 12",
        "--size 64 --images 4 --steps 1 --rounds 1 --batch 2",
        9,
        "train_cuda_float32_800.json",
    ),
    Piece(
        "evaluate",
        "benchmarks.evaluate",
        "--out results/evaluate_gpu_host.json",
        "--images 4 --repeats 1",
        4,
        "evaluate_gpu_host.json",
    ),
    Piece(
        "shapes",
        "benchmarks.real_data",
        "shapes --device cuda",
        "shapes --steps 2",
        2,
        "shapes_cuda.json",
        resumes=True,
    ),
    Piece(
        "nuclei",
        "benchmarks.real_data",
        "nuclei --device cuda --steps 20000",
        "nuclei --steps 2",
        2,
        "nuclei_cuda.json",
        resumes=True,
        needs_data=True,
    ),
    Piece(
        "ablations",
        "mrcnn_edu.cli",
        f"{ABLATE} --data shapes persons",
        ABLATE_TINY,
        2,
        "ablations/gpu.md",
        resumes=True,
        left=lambda: ablations_left("shapes", "persons"),
    ),
    Piece(
        "ablations_nuclei",
        "mrcnn_edu.cli",
        f"{ABLATE} --data nuclei --nuclei $MRCNN_DATA/nuclei",
        f"{ABLATE_TINY} --data nuclei --nuclei $MRCNN_DATA/nuclei",
        2,
        "ablations/gpu.svg",
        resumes=True,
        needs_data=True,
        left=lambda: ablations_left("nuclei"),
    ),
)


def state(piece: Piece) -> str:
    """ "done", "to do", or why it cannot run."""
    if piece.needs_data and "MRCNN_DATA" not in os.environ:
        return "left out: MRCNN_DATA is not set"
    if piece.left is not None:
        left = piece.left()
        return f"to do: {left} runs" if left else "done"
    path = ROOT / "results" / piece.result
    if path.exists() and "gpu" in json.loads(path.read_text())["machine"]:
        return "done"
    return "to do"


def command(piece: Piece, tiny: bool) -> list[str]:
    """What is run."""
    arguments = (piece.tiny if tiny else piece.arguments).split()
    return [sys.executable, "-m", piece.module, *map(os.path.expandvars, arguments)]


def run_piece(piece: Piece, seconds: float, tiny: bool, root: Path) -> int | None:
    """Run it for so long at most; the exit status, or None if it was asked to stop."""
    LOGS.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"PYTHONPATH": str(root)}
    with (LOGS / f"{piece.name}.log").open("ab") as log:
        process = subprocess.Popen(
            command(piece, tiny), cwd=root, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(45)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    return None


def a_copy() -> Path:
    """The sources elsewhere, so that a rehearsal overwrites no result."""
    root = ROOT / "runs" / "gpu_tiny"
    shutil.rmtree(root, ignore_errors=True)
    for name in ("mrcnn_edu", "benchmarks", "tests", "data"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, root)
    return root


def main() -> None:
    """Run what is left, as far as time goes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plan", action="store_true", help="print the commands and run none")
    parser.add_argument("--tiny", action="store_true", help="shortened commands, on a CPU")
    parser.add_argument("--only", choices=[p.name for p in PIECES])
    parser.add_argument("--minutes", type=float, default=9.0, help="for this call")
    parser.add_argument("--copy-to", type=Path)
    a = parser.parse_args()
    pieces = [p for p in PIECES if a.only in (None, p.name)]
    if a.plan:
        for piece in pieces:
            print(f"{piece.name}: {state(piece)}\n  {' '.join(command(piece, a.tiny)[1:])}")
        return
    if not a.tiny and not torch.cuda.is_available():
        parser.error("PyTorch finds no GPU; --tiny rehearses all commands on a CPU")
    end = time.monotonic() + 60 * a.minutes
    root = a_copy() if a.tiny else ROOT
    failed = []
    for piece in pieces:
        now = state(piece)
        if now.startswith("left out") or (now == "done" and not (a.only or a.tiny)):
            print(f"{piece.name}: {now}")
            continue
        left = end - time.monotonic()
        if not a.tiny and left < 60 * min(piece.minutes, a.minutes - 0.5):
            sys.exit(f"{left / 60:.1f} minutes left, too few for {piece.name}. Run this again.")
        start = time.monotonic()
        origin = provenance({"command": command(piece, a.tiny)[1:]}, 0)
        status = run_piece(piece, max(left - 50, 10), a.tiny, root)
        seconds = round(time.monotonic() - start, 1)
        print(
            f"{piece.name}: exit status {status}, {seconds} s; {LOGS / piece.name}.log", flush=True
        )
        if status == 0 and piece.module == "pytest" and not a.tiny:
            last = (LOGS / f"{piece.name}.log").read_text().strip().splitlines()[-1]
            write_json(ROOT / "results" / piece.result, {**origin, "summary": last})
        if a.copy_to is not None:
            result = ROOT / "results" / piece.result
            many = result.parent.glob("*.json") if piece.left else ()
            for source in (LOGS / f"{piece.name}.log", result, *many):
                if source.exists():
                    a.copy_to.mkdir(parents=True, exist_ok=True)
                    shutil.copy(source, a.copy_to)
        more = status == 0 and piece.left is not None and not a.tiny and piece.left() > 0
        if more or (status is None and piece.resumes):
            sys.exit(f"{piece.name} is saved and goes on when this is run again.")
        if status != 0:
            failed.append(piece.name)
    if failed:
        sys.exit(f"Not done: {', '.join(failed)}. Their logs say why.")
    print("Everything is done.")


if __name__ == "__main__":
    main()
