"""A data set small enough to train on in a test."""

import contextlib
import dataclasses
import io
from collections.abc import Callable
from typing import Any

import torch
from pycocotools.coco import COCO
from torch import Tensor

from mrcnn_edu.config import ModelConfig
from mrcnn_edu.data.dataset import Dataset
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


def as_pycocotools(dataset: Dataset) -> COCO:
    """The ground truth of a data set as pycocotools reads it from a file."""
    coco = COCO()
    coco.dataset = dataset.ground_truth()
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


class Wrapped(Dataset):
    """A data set that does something to each sample on the way out.

    It says what a data set must say, and nothing more.
    """

    def __init__(self, dataset: ShapesDataset, change: Callable) -> None:
        self.dataset, self.change = dataset, change
        self.categories, self.image_ids = dataset.categories, dataset.image_ids

    def ground_truth(self) -> dict[str, Any]:
        return self.dataset.ground_truth()

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        return self.change(index, *self.dataset[index])


def generators(n: int, seed: int = 0) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed + i) for i in range(n)]
