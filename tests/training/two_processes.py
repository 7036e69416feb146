"""What `test_distributed` starts with torchrun: the losses and gradients of a fixed batch."""

import sys

import torch

from mrcnn_edu.model import MaskRCNN
from mrcnn_edu.processes import Processes, processes
from mrcnn_edu.training.batches import Batch, load_sample, make_batch
from mrcnn_edu.training.config import TrainConfig
from mrcnn_edu.training.distributed import distribute
from tests.fake_data import small_config, small_shapes

PLAIN = TrainConfig(flip_probability=0.0)


# Which of the four images of the global batch are emptied of their objects.
CASES = {
    "unequal": [],
    "empty image": [0],
    "empty process": [0, 1],
    "no objects": [0, 1, 2, 3],
}


def batch_of(indices: range, case: str) -> Batch:
    """Some of the images of the global batch."""
    samples = [load_sample(small_shapes(8), (0, i), PLAIN, small_config()) for i in indices]
    for i, sample in zip(indices, samples, strict=True):
        if i in CASES[case]:
            for key, value in sample.target.items():
                sample.target[key] = value[:0] if value.dim() else value
    return make_batch(samples)


def losses_and_gradients(case: str, group: Processes) -> dict[str, torch.Tensor]:
    """Losses, averaged over processes, and gradients as the optimiser would see them."""
    torch.manual_seed(0)
    model = MaskRCNN(small_config())
    losses_of = distribute(model.train(), group)
    size = 4 // group.world
    batch = batch_of(range(group.rank * size, (group.rank + 1) * size), case)
    losses = losses_of(batch.images, batch.targets, batch.generators(0, "cpu"))
    stacked = torch.stack(list(losses.values()))
    stacked.sum().backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    means = group.mean(stacked.detach())
    return {**dict(zip(losses, means, strict=True)), **gradients}


if __name__ == "__main__":
    with processes("cpu") as together:
        found = {name: losses_and_gradients(name, together) for name in CASES}
        if together.first:
            torch.save(found, sys.argv[1])
