"""A data set small enough to train on in a test."""

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

from mrcnn_edu.config import ModelConfig
from mrcnn_edu.data.shapes import ShapesConfig, ShapesDataset, generate
from mrcnn_edu.presets import TINY_FPN


def small_config(**changes: object) -> ModelConfig:
    """A model that takes a step in a fraction of a second."""
    small: dict = {
        "short_side": 64,
        "long_side": 64,
        "fpn_channels": 16,
        "mask_channels": 16,
        "box_hidden": 32,
        "box_samples": 16,
        "rpn_samples": 32,
        "rpn_top_before_nms": (60, 60),
        "rpn_top_after_nms": (30, 30),
    }
    return dataclasses.replace(TINY_FPN, **{**small, **changes})


def small_shapes(images: int = 6, seed: int = 3) -> ShapesDataset:
    return ShapesDataset(generate(ShapesConfig(image_size=64), images, seed))


class Wrapped:
    """A data set that does something to each sample on the way out."""

    def __init__(self, dataset: ShapesDataset, change: Callable) -> None:
        self.dataset, self.change = dataset, change
        self.num_classes = dataset.num_classes
        self.class_names = dataset.class_names
        self.image_ids = dataset.image_ids
        self.to_category_id = dataset.to_category_id
        self.coco_gt = dataset.coco_gt

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        return self.change(index, *self.dataset[index])


def generators(n: int, seed: int = 0) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed + i) for i in range(n)]
