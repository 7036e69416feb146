"""What is refused before the first step of a run, each in one sentence. Chapter 13."""

import hashlib
import json
from collections.abc import Sequence

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mrcnn_edu.config import ModelConfig
from mrcnn_edu.data.check import describe_left_out
from mrcnn_edu.data.dataset import Dataset
from mrcnn_edu.errors import UserError
from mrcnn_edu.processes import Processes
from mrcnn_edu.training.config import TrainConfig


def check_dataset(dataset: Dataset, config: ModelConfig) -> None:
    """Refuse an empty set, one without objects or masks, one of other classes or joints."""
    if len(dataset) == 0:
        raise UserError("The training set has no images.")
    if dataset.num_classes != config.num_classes:
        names: Sequence[str] = dataset.class_names
        raise UserError(
            f"The model has {config.num_classes} classes and the training set "
            f"{dataset.num_classes} ({', '.join(names[:5])} …). Set num_classes to "
            f"{dataset.num_classes}."
        )
    joints = dataset.num_keypoints
    if config.keypoints and joints is not None and joints != config.keypoints:
        raise UserError(
            f"The model predicts {config.keypoints} joints an object, and the training set has "
            f"{joints}. "
            + (f"Set keypoints to {joints}." if joints else "Its categories name no keypoints.")
        )
    if config.mask_head != "none" and not dataset.has_masks:
        raise UserError(
            "The training set has boxes alone: no annotation has a 'segmentation', which the "
            "model's mask head learns from. Take a model without masks (mask_head='none', for "
            "example --preset faster_r50_fpn with --weights torchvision), or annotate outlines."
        )
    if all(dataset.count_objects(i) == 0 for i in range(len(dataset))):  # None: nobody knows
        lost = "; ".join(describe_left_out(dataset.left_out))
        raise UserError(
            "The training set has no object to learn from"
            + (f"; {lost}" if lost else "")
            + ". `mrcnn-edu data check` looks at each image."
        )


def check_frozen(config: ModelConfig) -> None:
    """Refuse to train from scratch what would stay random."""
    if config.backbone_norm == "frozen_bn" or config.frozen_stages > 0:
        raise UserError(
            "This model keeps its normalisation or its first stages as they are, which only makes "
            "sense with pretrained weights (--weights). To train from scratch use the preset "
            "tiny_fpn, or backbone_norm='group_norm' and frozen_stages=0."
        )


def check_division(config: TrainConfig, group: Processes) -> None:
    """Refuse a batch that the processes cannot share evenly."""
    if config.batch_size % (group.world * config.accumulate):
        raise UserError(
            f"{config.batch_size} images a step cannot be divided evenly among {group.world} "
            f"processes in {config.accumulate} parts each. Choose --batch-size and --accumulate "
            "so that they can."
        )


def check_skipping(config: TrainConfig, model: nn.Module) -> None:
    """Refuse to leave steps out where a layer would remember them."""
    if config.skip_nonfinite and any(isinstance(m, _BatchNorm) for m in model.modules()):
        raise UserError(
            "skip_nonfinite cannot protect running statistics: a BatchNorm layer would remember "
            "the NaN of a step that is left out. Set it to 0, or use another normalisation."
        )


def fingerprint(dataset: Dataset) -> str:
    """Changes with the images and classes of a data set, so that no run goes on with another."""
    categories = dataset.categories
    content = json.dumps([categories.ids, categories.names, list(dataset.image_ids)])
    return hashlib.blake2b(content.encode(), digest_size=8).hexdigest()
