"""Samples and batches: one image made ready for the network, and the few that go through together.

In: a data set, an epoch and an index. Out: image and target, resized and augmented. Nothing random
has a history: size, crops and flips of an image follow from (seed, epoch, image id), and so does
the generator that its RoIs are sampled with. A sample is the same in whatever process it is made.
Chapters 12 and 13.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mrcnn_edu.config import ModelConfig
from mrcnn_edu.data.check import check_target
from mrcnn_edu.data.dataset import Dataset
from mrcnn_edu.data.transforms import (
    augment,
    crop_image,
    draw_window,
    resize,
    resize_target,
    to_float,
)
from mrcnn_edu.errors import UserError
from mrcnn_edu.training.config import TrainConfig
from mrcnn_edu.training.order import Place, image_generator


@dataclass(frozen=True)
class Sample:
    """One image and its target, as read or ready for the network."""

    image_id: int
    epoch: int
    image: Tensor  # [3, H, W]; as read uint8, ready 0..1. Not yet decoded: a file's bytes, [bytes]
    target: dict[str, Tensor]


@dataclass(frozen=True)
class Batch:
    """What goes through the network together. Images may differ in size; the model pads them."""

    image_ids: list[int]
    epochs: list[int]
    images: list[Tensor]  # each [3, H, W], 0..1; before that as in a Sample
    targets: list[dict[str, Tensor]]

    def to(self, device: str) -> "Batch":
        """The batch on another device; copies from pinned memory run beside the computation.

        Files' bytes stay: a decoder reads them from the CPU's memory.
        """
        moved = self._map(lambda t: t.to(device, non_blocking=True))
        pairs = zip(self.images, moved.images, strict=True)
        return dataclasses.replace(moved, images=[a if a.ndim == 1 else b for a, b in pairs])

    def pin_memory(self) -> "Batch":
        """The batch in memory that a GPU can read by itself; DataLoader calls it."""
        return self._map(lambda t: t.pin_memory())

    def generators(self, seed: int, device: str) -> list[torch.Generator]:
        """One generator for each image, from which its anchors and RoIs are sampled.

        They live where the boxes are, so that a GPU draws without asking the CPU.
        """
        made = []
        for epoch, image_id in zip(self.epochs, self.image_ids, strict=True):
            key = image_generator(seed, epoch, image_id, "rois").initial_seed()
            made.append(torch.Generator(device).manual_seed(key))
        return made

    def samples(self) -> list[Sample]:
        """The images one by one; `make_batch` puts them together again."""
        columns = (self.image_ids, self.epochs, self.images, self.targets)
        return [Sample(*row) for row in zip(*columns, strict=True)]

    def _map(self, change) -> "Batch":  # type: ignore[no-untyped-def]
        return dataclasses.replace(
            self,
            images=[change(image) for image in self.images],
            targets=[{k: change(v) for k, v in target.items()} for target in self.targets],
        )


def read_sample(dataset: Dataset, place: Place, encoded: bool = False) -> Sample:
    """Load one image, uint8 and of its own size, and check its target.

    Args:
        dataset: what it is taken from.
        place: (epoch, index into the data set).
        encoded: the image is the bytes of its file where the data set has them: `data.jpeg`.

    Returns:
        the sample, before resizing.

    Raises:
        UserError: the image cannot be read, or its target is not valid.
    """
    epoch, index = place
    image_id = int(dataset.image_ids[index])
    where = f"image {image_id}"
    try:
        file = _file(dataset, index) if encoded else None
        if file is None:
            image, target = dataset[index]
            check_target(image, target, dataset.num_classes, where, dataset.has_masks)
        else:
            image, shape, target = file
            check_target(shape, target, dataset.num_classes, where, dataset.has_masks)
    except (ValueError, OSError) as error:
        raise UserError(str(error)) from error
    return Sample(image_id, epoch, image, target)


def _file(dataset: Dataset, index: int) -> tuple[Tensor, Tensor, dict[str, Tensor]] | None:
    """A file's bytes, an image of its size without pixels, and the target."""
    content = dataset.encoded(index)
    if content is None:
        return None
    size = dataset.image_size(index)
    return content, torch.empty((3, *size), device="meta"), dataset.target(index)


def prepare(sample: Sample, config: TrainConfig, model_config: ModelConfig) -> Sample:
    """Resize and augment what `read_sample` returned, on the device that it is on.

    Args:
        sample: as read; its image uint8 or float [3, H, W].
        config: which augmentation, and the seed that it is drawn from.
        model_config: the size that the model wants.

    Returns:
        the sample with a float32 image in 0..1 and a target that fits it.
    """
    generator = image_generator(config.seed, sample.epoch, sample.image_id)
    short_side = model_config.short_side
    if config.short_sides:
        drawn = int(torch.randint(len(config.short_sides), (), generator=generator))
        short_side = config.short_sides[drawn]
    image = resize(
        to_float(sample.image), short_side, model_config.long_side, model_config.resize_rounding
    )  # [3, H, W]
    size = image.shape[1:]
    window = draw_window(size, config.crop, generator) if config.crop else None
    target = resize_target(sample.target, sample.image.shape[1:], size, window)
    if window is not None:
        image = crop_image(image, window)  # [3, h, w]
    image, target = augment(
        image,
        target,
        generator,
        flip_probability=config.flip_probability,
        vertical_flip_probability=config.vertical_flip_probability,
        quarter_turns=config.quarter_turns,
    )
    return dataclasses.replace(sample, image=image, target=target)


def load_sample(
    dataset: Dataset, place: Place, config: TrainConfig, model_config: ModelConfig
) -> Sample:
    """Read and prepare: one image ready for the network.

    Args:
        dataset, place: as in `read_sample`.
        config, model_config: as in `prepare`.

    Raises:
        UserError: as `read_sample`.
    """
    return prepare(read_sample(dataset, place), config, model_config)


def make_batch(samples: Sequence[Sample]) -> Batch:
    """Put samples together."""
    return Batch(
        [s.image_id for s in samples],
        [s.epoch for s in samples],
        [s.image for s in samples],
        [s.target for s in samples],
    )
