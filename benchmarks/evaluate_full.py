"""Evaluation at COCO's size, from two JSON files to twelve numbers for boxes and for masks.

    python -m benchmarks.evaluate_full      # writes results/evaluate_full_cpu.json

Generated: 5,000 images, 36,000 objects of 80 classes, 500,000 detections with box and mask (the
scenes of `benchmarks.evaluate`). Each tool runs in a process of its own, one after the other, and
what is told is the whole process: processor time, imports and reading of the files included, and
the most memory that it held. pycocotools and faster-coco-eval are asked as their documentation
does. The numbers must be the same. Bars: at most 30 s of processor time, at most 2 GB.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks.evaluate import CLASSES, DETECTIONS, SEED
from benchmarks.timing import table
from mrcnn_edu.files import write_json
from mrcnn_edu.provenance import provenance

IMAGES = 5000
OBJECTS = (7, 7, 7, 7, 8)  # of the images in turn: 36,000
ROOT = Path(__file__).resolve().parent.parent

OURS = """
import json, sys
from mrcnn_edu.coco_ap.files import evaluate_files
found = evaluate_files(*sys.argv[1:3], ("bbox", "segm"))
json.dump({kind: list(e.summary().values()) for kind, e in found.items()}, open(sys.argv[3], "w"))
"""
GENERATE = """
import json, sys
from pathlib import Path
from benchmarks.evaluate import generate
from benchmarks.evaluate_full import OBJECTS
truth, results = generate(int(sys.argv[4]), "both", OBJECTS)
Path(sys.argv[1]).write_text(json.dumps(truth))
Path(sys.argv[2]).write_text(json.dumps(results))
"""
THEIRS = """
import json, sys
from {package} import COCO
from {package} import {evaluator} as COCOeval
truth = COCO(sys.argv[1])
results = json.load(open(sys.argv[2]))
numbers = {{}}
for kind in ("bbox", "segm"):
    if kind == "segm":  # else a mask's size range is that of its box, as torchvision's code says
        results = [{{k: v for k, v in r.items() if k != "bbox"}} for r in results]
    found = truth.loadRes([dict(r) for r in results])
    evaluator = COCOeval(truth, found, kind)
    evaluator.evaluate()
    evaluator.accumulate()
    evaluator.summarize()
    numbers[kind] = [None if v == -1 else round(100 * float(v), 3) for v in evaluator.stats[:12]]
json.dump(numbers, open(sys.argv[3], "w"))
"""
TOOLS = {
    "ours": OURS,
    "pycocotools": THEIRS.format(package="pycocotools", evaluator="COCOeval")
    .replace("pycocotools import COCO\n", "pycocotools.coco import COCO\n")
    .replace("pycocotools import COCOeval", "pycocotools.cocoeval import COCOeval"),
    "faster-coco-eval": THEIRS.format(package="faster_coco_eval", evaluator="COCOeval_faster"),
}


def run(code: str, truth: Path, results: Path, answer: Path, *more: str) -> dict[str, float]:
    """Processor seconds and gigabytes of one process."""
    words = [sys.executable, "-c", code, str(truth), str(results), str(answer), *more]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    child = subprocess.Popen(words, stdout=subprocess.DEVNULL, env=environment)
    _, status, used = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(f"a process ended with status {status}")
    return {
        "processor seconds": round(used.ru_utime + used.ru_stime, 2),
        "GB": round(used.ru_maxrss / 1e6, 3),
    }


def main() -> None:
    """Generate, run, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--only", choices=tuple(TOOLS), help="this tool alone; writes nothing")
    parser.add_argument(
        "--files", type=Path, help="keep the two files here, or take them from here"
    )
    options = parser.parse_args()
    config = {"images": options.images, "repeats": options.repeats, "detections": DETECTIONS}
    config |= {"classes": CLASSES, "objects": OBJECTS, "threads": torch.get_num_threads()}
    tools = [t for t in TOOLS if options.only in (None, t)]
    if importlib.util.find_spec("faster_coco_eval") is None:
        tools = [t for t in tools if t != "faster-coco-eval"]
        print("faster-coco-eval is not installed, and left out")
    else:
        config["faster-coco-eval"] = importlib.metadata.version("faster-coco-eval")
    origin = provenance(config, SEED)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.files or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        truth, results = folder / "truth.json", folder / "results.json"
        if not results.exists():
            # In a process of its own: a child's peak begins with the size of its parent.
            run(GENERATE, truth, results, folder / "none", str(options.images))
        sizes = {p.stem: round(p.stat().st_size / 1e6, 1) for p in (truth, results)}
        rows, numbers = [], {}
        for _ in range(options.repeats):
            for tool in tools:
                used = run(TOOLS[tool], truth, results, folder / "answer.json")
                numbers[tool] = json.loads((folder / "answer.json").read_text())
                rows.append({"tool": tool, **used})
                print(table("", rows[-1:]), flush=True)
    different = {
        tool: max(
            abs((a or 0) - (b or 0))
            for kind in ("bbox", "segm")
            for a, b in zip(numbers[tool][kind], numbers[tools[0]][kind], strict=True)
        )
        for tool in tools
    }
    print("largest difference in percent:", different)
    if options.only:
        return
    result: dict[str, Any] = {**origin, "megabytes": sizes, "rows": rows, "numbers": numbers}
    write_json("results/evaluate_full_cpu.json", {**result, "largest difference": different})


if __name__ == "__main__":
    main()
