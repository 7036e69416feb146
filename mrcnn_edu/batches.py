"""Batches: which images a step sees, and what is random about them.

In: a data set, a step, a seed. Out: the images and targets of that step, resized and augmented,
with a random generator for each image. Nothing random has a history: which images are in a batch
follows from (seed, step), the crops and flips of an image and the RoIs sampled from it from (seed,
epoch, image id). Chapter 13.
"""

import hashlib
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from mrcnn_edu.config import ModelConfig
from mrcnn_edu.data.check import check_target
from mrcnn_edu.data.dataset import Dataset
from mrcnn_edu.data.transforms import augment, resize, resize_target, to_float
from mrcnn_edu.errors import UserError
from mrcnn_edu.train_config import TrainConfig


@dataclass(frozen=True)
class Batch:
    """One step's input."""

    image_ids: list[int]
    images: list[Tensor]  # each [3, H, W], 0..1
    targets: list[dict[str, Tensor]]
    generators: list[torch.Generator]  # one for each image: its RoIs are sampled with it


def load_batch(
    dataset: Dataset,
    step: int,
    config: TrainConfig,
    model_config: ModelConfig,
    device: str = "cpu",
) -> Batch:
    """Load, resize and augment the images of a step.

    Raises:
        UserError: an image cannot be read, or its target is not valid.
    """
    image_ids, images, targets, generators = [], [], [], []
    for epoch, index in batch_indices(step, config.batch_size, len(dataset), config.seed):
        image_id = int(dataset.image_ids[index])
        generator = image_generator(config.seed, epoch, image_id)
        try:
            raw, target = dataset[index]
            check_target(raw, target, dataset.num_classes, where=f"image {image_id}")
        except (ValueError, OSError) as error:
            raise UserError(str(error)) from error
        image = resize(
            to_float(raw),
            model_config.short_side,
            model_config.long_side,
            model_config.resize_rounding,
        )
        image, target = augment(
            image,
            resize_target(target, raw.shape[1:], image.shape[1:]),
            generator,
            crop=config.crop,
            flip_probability=config.flip_probability,
            vertical_flip_probability=config.vertical_flip_probability,
            quarter_turns=config.quarter_turns,
        )
        image_ids.append(image_id)
        images.append(image.to(device))
        targets.append({k: v.to(device) for k, v in target.items()})
        generators.append(generator)
    return Batch(image_ids, images, targets, generators)


def batch_indices(step: int, batch_size: int, length: int, seed: int) -> list[tuple[int, int]]:
    """The (epoch, index) pairs of a step: every epoch is a permutation of the data set."""
    positions = range(step * batch_size, (step + 1) * batch_size)
    return [(p // length, int(_order(length, seed, p // length)[p % length])) for p in positions]


@lru_cache(maxsize=4)
def _order(length: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(length, generator=image_generator(seed, epoch, -1))


def image_generator(seed: int, epoch: int, image_id: int) -> torch.Generator:
    """A generator that depends on these three numbers only, whatever ran before."""
    digest = hashlib.blake2b(f"{seed} {epoch} {image_id}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)
