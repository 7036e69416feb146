"""How fast one process that loads images is, stage by stage: how many workers does a GPU need?

    python -m benchmarks.loader                       # a minute; writes results/loader_cpu.json
    python -m benchmarks.loader --images 8 --dry      # a look

For a GPU a worker reads, decodes and checks; resize and flip happen where the image goes. For a CPU
it does all. Each stage runs by itself on the generated set of `mrcnn_edu.data.rehearsal`, which has
COCO's sizes and objects, and is timed in processor time of this one thread, so that what else runs
on the machine matters little. A flip counts as often as training does it. Every image is one number
a stage; a round's number is the mean over images, the result the median over rounds. What is left
out: handing a batch to training, which copies it once, and what this process waits for a disk.
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.timing import table
from mrcnn_edu.data.check import check_target
from mrcnn_edu.data.coco import CocoDataset
from mrcnn_edu.data.rehearsal import write_rehearsal
from mrcnn_edu.data.transforms import horizontal_flip, resize, resize_target, to_float
from mrcnn_edu.files import write_json
from mrcnn_edu.provenance import provenance
from mrcnn_edu.training.config import TrainConfig

SEED = 0
# What a worker does, in order; on which way.
READ, MASKS, CHECK = "read and decode the image", "decode the masks", "check the target"
RESIZE, RESIZE_TARGET, FLIP = "resize the image", "resize the target", "flip, on average"
PATHS = {
    "for a GPU": (READ, MASKS, CHECK),
    "for a CPU": (READ, MASKS, CHECK, RESIZE, RESIZE_TARGET, FLIP),
}
GPU_SPEEDS = (10, 20, 50, 100, 200)  # images a second that a GPU may train


def stages_of(
    data: CocoDataset, index: int, short_side: int, long_side: int, flips: float
) -> dict[str, float]:
    """Seconds of processor time that each stage takes for one image."""
    seconds: dict[str, float] = {}

    def timed(stage: str, work: Callable[[], Any]) -> Any:
        start = time.process_time()
        result = work()
        seconds[stage] = time.process_time() - start
        return result

    pixels = timed(
        READ, lambda: torch.from_numpy(data.load_image(index)).permute(2, 0, 1).contiguous()
    )  # [3, H, W]
    target = timed(MASKS, lambda: data.target(index))
    timed(CHECK, lambda: check_target(pixels, target, data.num_classes))
    image = timed(RESIZE, lambda: resize(to_float(pixels), short_side, long_side))
    size = image.shape[1:]
    resized = timed(RESIZE_TARGET, lambda: resize_target(target, pixels.shape[1:], size))
    timed(FLIP, lambda: horizontal_flip(image, resized))
    seconds[FLIP] *= flips
    return seconds


def measure(
    data: CocoDataset, short_side: int, long_side: int, flips: float, rounds: int
) -> dict[str, float]:
    """Milliseconds an image of each stage, after one round that is not counted."""
    laps: list[dict[str, float]] = []
    for _ in range(rounds + 1):
        images = [stages_of(data, i, short_side, long_side, flips) for i in range(len(data))]
        laps.append({s: statistics.fmean(image[s] for image in images) for s in images[0]})
    return {s: statistics.median(lap[s] for lap in laps[1:]) * 1e3 for s in laps[0]}


def summarise(ms: dict[str, float]) -> dict[str, Any]:
    """The stages, and for each way a worker's images a second and the workers that GPUs need."""
    paths = {}
    for path, stages in PATHS.items():
        total = sum(ms[stage] for stage in stages)
        paths[path] = {
            "stages": list(stages),
            "ms": round(total, 3),
            "images_s_of_a_worker": round(1e3 / total, 1),
            "projected_workers": {str(n): workers_for(n, total) for n in GPU_SPEEDS},
            "arithmetic": "images a second × ms / 1000, rounded up",
        }
    return {"ms": {stage: round(value, 3) for stage, value in ms.items()}, "paths": paths}


def workers_for(images_s: float, ms: float) -> int:
    """How many processes of `ms` an image make so many images a second, each on its own core."""
    return math.ceil(images_s * ms / 1e3)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=800, help="shorter side; the longer: ×1333/800")
    parser.add_argument("--images", type=int, default=64, help="how many to generate")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dry", action="store_true", help="write no result")
    a = parser.parse_args()
    root = Path("runs") / f"rehearsal_{a.images}"
    annotations = root / "annotations/instances_train.json"
    if not annotations.exists():
        print(f"Generating {a.images} images in {root} …", flush=True)
        write_rehearsal(root, a.images, SEED)
    torch.set_num_threads(1)  # as in every worker
    data, flips = CocoDataset(root / "train", annotations), TrainConfig().flip_probability
    config = {"size": a.size, "images": a.images, "rounds": a.rounds, "flip_probability": flips}
    origin = provenance({**config, "threads": 1}, SEED)
    summary = summarise(measure(data, a.size, round(a.size * 1333 / 800), flips, a.rounds))
    rows: list[dict[str, object]] = [
        {"stage": s, "ms": v, **{p: "yes" if s in stages else "" for p, stages in PATHS.items()}}
        for s, v in summary["ms"].items()
    ]
    print(table(f"One worker, {a.size} pixels, processor time an image", rows))
    for path, found in summary["paths"].items():
        needed = ", ".join(f"{w} for {n}/s" for n, w in found["projected_workers"].items())
        print(
            f"{path}: {found['ms']:.1f} ms an image, {found['images_s_of_a_worker']:.0f} images/s "
            f"a worker; workers, projected: {needed}"
        )
    if not a.dry:
        write_json(Path("results") / "loader_cpu.json", {**origin, **summary})


if __name__ == "__main__":
    main()
