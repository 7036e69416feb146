"""Two processes train as one: ten steps of each, from the same weights, on the same images.

Trains the model of `benchmarks.failures` for ten steps of four images in one process, and in two
processes of two images each that `torchrun` starts and gloo connects. Compares the losses of every
step and the weights after the first and the last. One gradient, of four images of which one has no
objects, is computed in a third way too: each process divides its losses by its own counts, as plain
DistributedDataParallel would have it, and the two gradients are averaged.

    OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python -m benchmarks.ddp

Writes results/ddp_cpu.json, in half a minute. Chapter 13.
"""

import argparse
import dataclasses
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.failures import ALONE, EASY, MODEL, ROOT, TRAIN
from mrcnn_edu.data.shapes import ShapesDataset, generate
from mrcnn_edu.files import write_json
from mrcnn_edu.processes import Processes, processes
from mrcnn_edu.provenance import provenance
from mrcnn_edu.training.batches import Batch, load_sample, make_batch
from mrcnn_edu.training.distributed import distribute
from mrcnn_edu.training.order import make_order
from mrcnn_edu.training.schedule import learning_rate
from mrcnn_edu.training.train import make_state, train_step

STEPS, IMAGES = 10, 60
# A slow warm-up: at the full rate, one rounding soon decides which RoI is sampled, and runs part.
CONFIG = dataclasses.replace(TRAIN, warmup_steps=100)


def ten_steps(group: Processes) -> dict[str, Any]:
    """Losses of every step, and all weights before, after one step and in the end."""
    dataset = ShapesDataset(generate(EASY, IMAGES, seed=1))
    order = make_order(dataset, CONFIG)
    state = make_state(MODEL, CONFIG, "cpu")
    losses_of = distribute(state.model.train(), group)
    losses, weights = [], [flat(state.model)]
    for step in range(STEPS):
        (places,) = order.share(step, CONFIG.batch_size, 1, group.rank, group.world)
        batch = make_batch([load_sample(dataset, p, CONFIG, MODEL) for p in places])
        numbers, _ = train_step(
            state, losses_of, [batch], learning_rate(step, CONFIG), CONFIG, group
        )
        losses.append(numbers["loss"])
        if step in (0, STEPS - 1):
            weights.append(flat(state.model))
    return {"losses": losses, "weights": weights}


def flat(model: nn.Module) -> Tensor:
    """All parameters, one after the other."""
    return torch.cat([p.detach().flatten() for p in model.parameters()]).clone()


def gradient_of(batches: list[Batch]) -> tuple[Tensor, list[float]]:
    """The mean of the gradients of some batches, each with losses divided by its own counts.

    Returns:
        the gradient, and how many mask pixels each batch counted.
    """
    state = make_state(MODEL, CONFIG, "cpu")
    model, counted = state.model.train(), []
    for batch in batches:
        generators = batch.generators(CONFIG.seed, "cpu")
        record = model(batch.images)
        counted.append(float(model.loss_sums(record, batch.targets, generators)["mask"][1]))
        generators = batch.generators(CONFIG.seed, "cpu")
        losses = model.losses(record, batch.targets, generators)
        (sum(losses.values(), torch.zeros(())) / len(batches)).backward()
    parameters = [p for p in model.parameters() if p.grad is not None]
    return torch.cat([p.grad.flatten() for p in parameters]), counted  # type: ignore[union-attr]


def own_counts() -> dict[str, Any]:
    """How far the gradient of two halves, each divided by its own counts, is from the whole's.

    The images are the second step's, the first one emptied of its objects: else the halves often
    count the same.
    """
    dataset = ShapesDataset(generate(EASY, IMAGES, seed=1))
    order = make_order(dataset, CONFIG)
    halves = []
    for rank in range(2):
        (places,) = order.share(1, CONFIG.batch_size, 1, rank, 2)
        halves.append(make_batch([load_sample(dataset, p, CONFIG, MODEL) for p in places]))
    nothing = {k: v[:0] if v.dim() else v for k, v in halves[0].targets[0].items()}
    halves[0] = dataclasses.replace(halves[0], targets=[nothing, *halves[0].targets[1:]])
    whole, _ = gradient_of([make_batch([s for half in halves for s in half.samples()])])
    mean, counted = gradient_of(halves)
    return {"mask_pixels": counted, "gradient_relative_error": relative(mean, whole)}


def relative(found: Tensor, wanted: Tensor) -> float:
    """Length of the difference over the length of what is wanted."""
    return float(f"{float((found - wanted).norm() / wanted.norm()):.2g}")


def start_two(path: Path) -> None:
    """This script in two processes that find each other on this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2"]
    command += ["--master_addr=127.0.0.1", f"--master_port={port}", "-m", "benchmarks.ddp"]
    subprocess.run([*command, "--worker", str(path)], cwd=ROOT, check=True)


def main() -> None:
    """Both runs, compared; or, started by torchrun, one of two processes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "ddp_cpu.json")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.worker:
        with processes("cpu") as group:
            found = ten_steps(group)
            if group.first:
                torch.save(found, options.worker)
        return
    origin = provenance(
        {"model": dataclasses.asdict(MODEL), "train": dataclasses.asdict(CONFIG)}, CONFIG.seed
    )
    with tempfile.TemporaryDirectory() as folder:
        start_two(Path(folder) / "two.pt")
        two = torch.load(Path(folder) / "two.pt", weights_only=True)
    one = ten_steps(ALONE)
    first, *later = one["weights"]
    moved = [w - first for w in later]
    apart = [relative(w - first, m) for w, m in zip(two["weights"][1:], moved, strict=True)]
    result = {
        **origin,
        "losses_one_process": one["losses"],
        "losses_two_processes": two["losses"],
        "largest_difference_of_losses": max(
            abs(a - b) for a, b in zip(one["losses"], two["losses"], strict=True)
        ),
        # Of how far the weights have moved since the start.
        "weights_relative_error": {"step 1": apart[0], f"step {STEPS}": apart[1]},
        "own_counts": own_counts(),
    }
    write_json(options.out, result)
    print({k: v for k, v in result.items() if k not in origin})


if __name__ == "__main__":
    main()
