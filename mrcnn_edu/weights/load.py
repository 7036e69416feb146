"""Weights for a purpose: a detector to use as it is, or a beginning for training.

Both take the word of the command line: `torchvision` (its published detector of that preset),
`imagenet` (torchvision's classifier, for the backbone) or the path of a file of any known kind.
Chapter 13.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mrcnn_edu.config import ModelConfig, difference
from mrcnn_edu.data.dataset import Categories
from mrcnn_edu.errors import UserError
from mrcnn_edu.model import MaskRCNN
from mrcnn_edu.presets import Dialect, preset
from mrcnn_edu.weights import fit, published, torchvision
from mrcnn_edu.weights.checkpoint import LoadedModel, load_model
from mrcnn_edu.weights.files import WeightsFile, read_weights


@dataclass(frozen=True)
class Beginning:
    """Where training begins."""

    config: ModelConfig  # what was asked for, with the settings that belong to the weights
    weights: dict[str, Tensor]  # a whole state dict of a model of that configuration
    notes: list[str]  # what a reader of the log should know, a sentence each


def load_detector(
    weights: str, name: str | None = None, dialect: Dialect | None = None
) -> LoadedModel:
    """Build the detector that a file holds, ready to detect.

    Args:
        weights: "torchvision", or the path of a checkpoint of ours, of torchvision or detectron2.
        name: the preset. Without it "torchvision" means r50_fpn, and a file is recognised by its
            tensors.
        dialect: whose constants to detect with; by default those of the code base that trained the
            weights.

    Returns:
        the model in eval mode with its classes. COCO's are known by their number, 80, a person
        detector's with keypoints too; other classes of other code bases are "class 1" and so on.

    Raises:
        UserError: the file is not there, not whole, not a detector or not of this preset.
    """
    if weights == "imagenet":
        raise UserError("imagenet is a backbone without a detector: train one from it first.")
    file = _file(weights, name or "r50_fpn")
    if file.kind == "mrcnn_edu":
        return load_model(file.path)
    if fit.is_backbone(file):
        raise UserError(
            f"{file.path} holds a classifier's backbone without a detector: train one from it "
            "first, with mrcnn-edu train --weights."
        )
    name = name or fit.matching_preset(file) or "r50_fpn"
    own_dialect: Dialect = "detectron2" if file.kind == "detectron2" else "torchvision"
    config = preset(name, dialect or own_dialect)
    config = dataclasses.replace(config, num_classes=max(1, fit.classes_in(file)))
    config = dataclasses.replace(config, **fit.settings(file, config))
    if file.kind == "torchvision" and config.keypoints:
        # torchvision trains on COCO's pixel indices as they are, so indices are what comes out.
        config = dataclasses.replace(config, keypoint_shift=0.0)
    state = fit.tensors(file, config)
    model = MaskRCNN(config)
    model.load_state_dict(state)
    return LoadedModel(model.eval(), _categories(config), step=0)


def begin_from(
    weights: str, name: str, config: ModelConfig, class_names: Sequence[str], seed: int
) -> Beginning:
    """Prepare a model for training: its weights, from a file as far as they are there.

    The layers that depend on the classes are taken over only if the file was trained for the same
    classes; where the file does not say which, for the same number of them. All else must fit.

    Args:
        weights: "torchvision", "imagenet", or the path of a file of any known kind.
        name: the preset that `config` comes from.
        config: of the model to train, its `num_classes` those of the data.
        class_names: of the data, label 1 first.
        seed: of the weights that stay random.

    Raises:
        UserError: the file is not there, not whole, or of another model.
    """
    file = _file(weights, name, config.backbone)
    stored = load_model(file.path) if file.kind == "mrcnn_edu" else None
    own = (
        {field: getattr(stored.model.config, field) for field in fit.OF_THE_WEIGHTS}
        if stored
        else fit.settings(file, config)
    )
    changed = dataclasses.replace(config, **own)
    notes = [
        f"{field} is {new!r} instead of {old!r}: the weights were trained so."
        for field, (old, new) in difference(config, changed).items()
    ]
    in_file = fit.classes_in(file)
    found = fit.tensors(file, dataclasses.replace(changed, num_classes=in_file or 1))
    notes.insert(0, f"{len(found)} tensors taken from {file.path} ({file.kind}).")
    if not fit.is_backbone(file):
        known = stored.categories.names if stored else _known_names(in_file, changed)
        if in_file != changed.num_classes or (known and list(known) != list(class_names)):
            layers = fit.class_dependent(changed)
            found = {n: v for n, v in found.items() if not n.startswith(tuple(layers))}
            whose = f"{in_file} classes" + (f" ({', '.join(known[:3])} …)" if known else "")
            notes.append(
                f"The file knows {whose}, the data {changed.num_classes}: "
                f"{', '.join(n.rstrip('.') for n in layers)} begin at random."
            )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        state = MaskRCNN(changed).state_dict()
    if fit.is_backbone(file):
        parts = sorted({n.split(".")[0] for n in state if n not in found})
        notes.append(f"The file holds a backbone: {', '.join(parts)} begin at random.")
    return Beginning(changed, state | found, notes)


def _file(weights: str, name: str, backbone: str | None = None) -> WeightsFile:
    """The file that a word or a path means."""
    if weights == "torchvision":
        return read_weights(published.detector_file(name))
    if weights == "imagenet" and backbone is not None:
        return read_weights(published.backbone_file(backbone))
    return read_weights(Path(weights))


def _known_names(num_classes: int, config: ModelConfig) -> tuple[str, ...]:
    """The classes of a detector of another code base; empty if its number does not tell."""
    coco = torchvision.categories()
    if num_classes == len(coco):
        return tuple(coco.values())
    return ("person",) if num_classes == 1 and config.keypoints else ()


def unnamed(names: Sequence[str]) -> bool:
    """Whether classes have no names of their own: another code base's file does not hold them."""
    return list(names) == [f"class {i}" for i in range(1, len(names) + 1)]


def _categories(config: ModelConfig) -> Categories:
    k = config.num_classes
    names = _known_names(k, config) or tuple(f"class {i}" for i in range(1, k + 1))
    ids = tuple(torchvision.categories()) if k == len(torchvision.categories()) else range(1, k + 1)
    return Categories(tuple(ids), names)
