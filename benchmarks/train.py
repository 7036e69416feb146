"""A training run at full size, rehearsed: ours and torchvision's reference loop, in turn.

    python -m benchmarks.train --size 320 --batch 2 --steps 12          # a CPU, small
    python -m benchmarks.train --device cuda --precision bf16 --batch 16 --workers 12

The set is generated with COCO's own statistics (`mrcnn_edu.data.rehearsal`) and kept in runs/; give
--images-folder and --annotations for another. Both train the same R50-FPN from the same weights on
the same images in the same batches, flipped or not, at one size, in one precision. Theirs is what
torchvision documents under references/detection: masks decoded in the data set, a flip, a
DataLoader of lists, the model's own transform on the device, SGD, and a look at the loss each step.
The learning rate is near nothing: random weights would diverge, and time does not depend on it.

They take turns in rounds. With workers, each has a queue of finished batches when its turn comes,
filled while the other computed; the steps that empty it are not counted. Ratios are of images a
second, medians over rounds. On a CPU, without workers, the seconds of processor time are compared
too: on a machine that others use they vary less. Writes results/train_DEVICE_PRECISION_SIZE.json.
"""

import argparse
import dataclasses
import resource
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from benchmarks.timing import table
from mrcnn_edu.config import ModelConfig
from mrcnn_edu.data.coco import CocoDataset
from mrcnn_edu.data.rehearsal import write_rehearsal
from mrcnn_edu.files import write_json
from mrcnn_edu.presets import R50_FPN
from mrcnn_edu.processes import Processes
from mrcnn_edu.provenance import provenance
from mrcnn_edu.training.config import RECIPES, TrainConfig
from mrcnn_edu.training.distributed import distribute
from mrcnn_edu.training.loader import Loader
from mrcnn_edu.training.order import Place, SampleOrder, image_generator, make_order
from mrcnn_edu.training.precision import autocast, make_scaler, set_matmul_precision
from mrcnn_edu.training.train import make_state, train_step
from tests.torchvision_twin import busy_model, twin_of

RATE = 1e-7
SEED = 0


class Ours:
    """The library's loop: loader, step."""

    name = "ours"

    def __init__(
        self,
        weights: dict[str, Tensor],
        model_config: ModelConfig,
        config: TrainConfig,
        data: CocoDataset,
        order: SampleOrder,
        device: str,
    ) -> None:
        self.state = make_state(model_config, config, device, weights)
        self.model: nn.Module = self.state.model.train()
        self.config, self.device = config, device
        self.group = Processes(0, 1, device)
        self.losses_of = distribute(self.state.model, self.group)
        self.loader = Loader(data, order, config, model_config, device)
        self.batches = iter(self.loader)

    def step(self) -> float:
        """One step; returns the seconds that it waited for images."""
        parts = next(self.batches)
        train_step(self.state, self.losses_of, parts, RATE, self.config, self.group)
        return self.loader.waited

    def optimizer(self) -> torch.optim.Optimizer:
        """For its memory."""
        return self.state.optimizer


class Torchvision:
    """The reference loop, written after torchvision's references/detection."""

    name = "torchvision"

    def __init__(
        self,
        model: nn.Module,
        config: TrainConfig,
        data: CocoDataset,
        order: SampleOrder,
        device: str,
    ) -> None:
        self.model = model.to(device).train()
        self.config, self.device = config, device
        self.sgd = torch.optim.SGD(
            [p for p in self.model.parameters() if p.requires_grad],
            lr=RATE,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
        )
        self.scaler = make_scaler(config.precision, device)
        places = (order.step(step, config.batch_size) for step in range(config.steps))
        loader = DataLoader(
            ReferenceSet(data, config),
            batch_sampler=list(places),
            num_workers=config.workers,
            multiprocessing_context="forkserver" if config.workers else None,
            collate_fn=as_tuples,
        )
        self.batches: Iterator[Any] = iter(loader)

    def step(self) -> float:
        """One step; returns the seconds that it waited for images."""
        start = time.perf_counter()
        images, targets = next(self.batches)
        images = [image.to(self.device) for image in images]
        targets = [{k: v.to(self.device) for k, v in t.items()} for t in targets]
        waited = time.perf_counter() - start
        with autocast(self.config.precision, self.device):
            losses = sum(self.model(images, targets).values())
        if not torch.isfinite(losses.detach()).item():
            raise ValueError(f"torchvision's loss is {losses}")
        self.sgd.zero_grad()
        self.scaler.scale(losses).backward()
        self.scaler.step(self.sgd)
        self.scaler.update()
        return waited

    def optimizer(self) -> torch.optim.Optimizer:
        """For its memory."""
        return self.sgd


class ReferenceSet(Dataset[tuple[Tensor, dict[str, Tensor]]]):
    """Image and target as the reference's transforms leave them: masks whole, flipped at random."""

    def __init__(self, data: CocoDataset, config: TrainConfig) -> None:
        self.data, self.config = data, config

    def __getitem__(self, place: Place) -> tuple[Tensor, dict[str, Tensor]]:
        epoch, index = place
        image, target = self.data[index]  # decodes the JPEG, and each polygon to a mask
        image = image.float() / 255
        target = {k: target[k] for k in ("boxes", "labels", "masks", "image_id", "area", "iscrowd")}
        generator = image_generator(self.config.seed, epoch, int(target["image_id"]))
        if float(torch.rand((), generator=generator)) < self.config.flip_probability:
            width = image.shape[-1]
            image = image.flip(-1)
            boxes = target["boxes"].clone()
            boxes[:, [0, 2]] = width - boxes[:, [2, 0]]
            target |= {"boxes": boxes, "masks": target["masks"].flip(-1)}
        return image, target


def as_tuples(samples: list[tuple[Tensor, dict[str, Tensor]]]) -> tuple[Any, ...]:
    """The reference's collate function."""
    return tuple(zip(*samples, strict=True))


def persistent_bytes(runner: Ours | Torchvision) -> int:
    """What a model holds between its turns: parameters, gradients, buffers, momentum."""
    tensors = [*runner.model.parameters(), *runner.model.buffers()]
    tensors += [p.grad for p in runner.model.parameters() if p.grad is not None]
    for state in runner.optimizer().state.values():
        tensors += [v for v in state.values() if isinstance(v, Tensor)]
    return sum(t.numel() * t.element_size() for t in tensors)


def wait(device: str) -> None:
    """A GPU's call returns before its work is done."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def turn(runner: Ours | Torchvision, queued: int, steps: int, batch: int) -> dict[str, float]:
    """Empty the queue, then count `steps` steps."""
    for _ in range(queued):
        runner.step()
    cuda = runner.device.startswith("cuda")
    wait(runner.device)
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    start, busy, waited = time.perf_counter(), time.process_time(), 0.0
    for _ in range(steps):
        waited += runner.step()
    wait(runner.device)
    seconds = time.perf_counter() - start
    peak = torch.cuda.max_memory_allocated() if cuda else 0
    return {
        "images_s": steps * batch / seconds,
        "cpu_seconds": (time.process_time() - busy) / (steps * batch),  # an image
        "loader": waited / seconds,
        "peak": peak,
    }


def race(
    runners: list[Ours | Torchvision], rounds: int, queued: int, steps: int, batch: int
) -> Any:
    """Rounds of turns after one that is not counted; a summary of each runner and the ratio."""
    laps: dict[str, list[dict[str, float]]] = {r.name: [] for r in runners}
    for round_ in range(rounds + 1):
        for runner in runners if round_ % 2 else reversed(runners):
            lap = turn(runner, queued, steps, batch)
            print(
                f"round {round_}: {runner.name} {lap['images_s']:.3f} images/s, "
                f"{lap['cpu_seconds']:.2f} s of this process an image",
                flush=True,
            )
            if round_:
                laps[runner.name].append(lap)
    summary: dict[str, Any] = {}
    for runner, other in zip(runners, reversed(runners), strict=True):
        mine = laps[runner.name]
        peak = max(lap["peak"] for lap in mine)
        speed = statistics.median(lap["images_s"] for lap in mine)
        summary[runner.name] = {
            "images_s": round(speed, 4),
            "loader_share": round(statistics.median(lap["loader"] for lap in mine), 4),
            "peak_memory_gib": round((peak - persistent_bytes(other)) / 2**30, 2) if peak else None,
            "cpu_seconds_an_image": round(statistics.median(lap["cpu_seconds"] for lap in mine), 3),
            "rounds_images_s": [round(lap["images_s"], 4) for lap in mine],
        }
    ours, theirs = summary["ours"], summary["torchvision"]
    summary["ratio"] = round(ours["images_s"] / theirs["images_s"], 3)
    key = "cpu_seconds_an_image"
    summary["ratio_cpu_time"] = round(theirs[key] / ours[key], 3) if ours[key] else None
    return summary


def hours_of_1x(images_s: float) -> tuple[float, str]:
    """Projected hours of the 1x recipe at this speed, and the arithmetic."""
    one = RECIPES["1x"]
    hours = one.steps * one.batch_size / images_s / 3600
    return round(hours, 1), (
        f"{one.steps:,} steps × {one.batch_size} images / {images_s:.3g} images/s / 3600 "
        f"= {hours:.1f} h"
    )


def command_line() -> argparse.ArgumentParser:
    """Its options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--precision", default="float32", choices=["float32", "tf32", "bf16", "fp16"]
    )
    parser.add_argument("--size", type=int, default=800, help="shorter side; the longer: ×1333/800")
    parser.add_argument("--images", type=int, default=64, help="how many to generate")
    parser.add_argument("--images-folder", type=Path, help="another set, with --annotations")
    parser.add_argument("--annotations", type=Path)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--steps", type=int, default=12, help="counted steps of each, in all")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--dry", action="store_true", help="write no result")
    return parser


def main() -> None:
    """Race, print, write."""
    parser = command_line()
    a = parser.parse_args()
    if a.steps % a.rounds:
        parser.error(f"--steps {a.steps} must be a multiple of --rounds {a.rounds}")
    folder, annotations = a.images_folder, a.annotations
    if folder is None:
        root = Path("runs") / f"rehearsal_{a.images}"
        folder, annotations = root / "train", root / "annotations/instances_train.json"
        if not annotations.exists():
            print(f"Generating {a.images} images in {root} …", flush=True)
            write_rehearsal(root, a.images, SEED)
    queued = 2 * a.workers  # batches that DataLoader keeps ready
    each = a.steps // a.rounds
    total = (a.rounds + 1) * (queued + each)
    config = dataclasses.replace(
        RECIPES["1x"],
        steps=total + queued,  # the queue is never short of work
        batch_size=a.batch,
        short_sides=(),
        aspect_group=a.batch,
        workers=a.workers,
        precision=a.precision,
    )
    model_config = dataclasses.replace(
        R50_FPN, short_side=a.size, long_side=round(a.size * 1333 / 800)
    )
    origin = provenance({**vars(a), "images_folder": str(folder), "annotations": None}, SEED)
    set_matmul_precision(a.precision)
    data = CocoDataset(folder, annotations)
    order = make_order(data, config)
    first = [data[order.step(0, 1)[0][1]][0].float() / 255]
    initial = busy_model(model_config, first)
    runners: list[Ours | Torchvision] = [
        Ours(initial.state_dict(), model_config, config, data, order, a.device),
        Torchvision(twin_of(initial), config, data, order, a.device),
    ]
    del initial
    summary = race(runners, a.rounds, queued, each, a.batch)
    rows = []
    for name in ("torchvision", "ours"):
        hours, arithmetic = hours_of_1x(summary[name]["images_s"])
        summary[name] |= {"projected_hours_1x": hours, "arithmetic": arithmetic}
        rows.append({"loop": name, **{k: v for k, v in summary[name].items() if k != "arithmetic"}})
    print(table(f"R50-FPN, {a.size} pixels, {a.batch} images a step, {a.precision}", rows))
    print(f"ours / torchvision: ×{summary['ratio']:.2f}")
    if a.device == "cpu" and not a.workers:
        print(f"in processor time: ×{summary['ratio_cpu_time']:.2f}")
    else:  # others compute too
        del summary["ratio_cpu_time"]
    print(f"1x, ours, projected: {summary['ours']['arithmetic']}")
    process = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"peak memory of this process, both models: {process:.1f} GiB")
    if not a.dry:
        name = f"train_{a.device.split(':')[0]}_{a.precision}_{a.size}.json"
        write_json(Path("results") / name, {**origin, **summary, "process_gib": round(process, 2)})


if __name__ == "__main__":
    main()
