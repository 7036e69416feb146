"""Do these tensors fit this model? One answer for every kind of file.

A file is read into the model that it was made for, with its own number of classes, and every tensor
that is missing, left over or of another shape is named. Chapter 13.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mrcnn_edu.config import ModelConfig
from mrcnn_edu.errors import UserError
from mrcnn_edu.model import MaskRCNN
from mrcnn_edu.presets import PRESETS, preset
from mrcnn_edu.weights import detectron2, imagenet, published, torchvision
from mrcnn_edu.weights.files import WeightsFile
from mrcnn_edu.weights.layout import Source, misfits, take

# The fields of a configuration without which the same tensors are another function.
OF_THE_WEIGHTS = ("pixel_mean", "pixel_std", "stride_in", "frozen_bn_eps")
_LISTED = 20  # a file for another model has hundreds of problems


def blueprint(config: ModelConfig) -> dict[str, Tensor]:
    """Names, shapes and types of a model's tensors, without making it."""
    with torch.device("meta"):
        return MaskRCNN(config).state_dict()


def is_backbone(file: WeightsFile) -> bool:
    """Whether the file is an ImageNet classifier, not a detector."""
    return "backbone" in file.kind


def classes_in(file: WeightsFile) -> int:
    """K of a detector's file; 0 if it does not say."""
    if file.kind == "torchvision":
        rows = torchvision.class_rows(file.tensors)
        return torchvision.num_classes_of(rows) if rows else 0
    if file.kind == "detectron2":
        return detectron2.num_classes_of(file.tensors)
    bias = file.tensors.get("box_head.classes.bias")
    return len(bias) - 1 if bias is not None else 0


def problems(file: WeightsFile, config: ModelConfig) -> list[str]:
    """What keeps a file from being the weights of a model, a phrase for each tensor.

    Args:
        file: any; of a classifier only the backbone is looked at.
        config: of the model; for a detector with the file's number of classes.

    Raises:
        UserError: the file's code base has no such model.
    """
    expected = blueprint(config)
    ignored = detectron2.ignored if file.kind == "detectron2" else imagenet.ignored
    return misfits(file.tensors, _sources(file, config, expected), expected, ignored)


def tensors(file: WeightsFile, config: ModelConfig) -> dict[str, Tensor]:
    """The tensors of a file as our model has them; of a classifier, the backbone's.

    Args:
        file: any.
        config: of the model; for a detector with the file's number of classes.

    Raises:
        UserError: they do not fit; each tensor that is missing, left over or of another shape is
            named, and the preset that the file does fit.
    """
    if found := problems(file, config):
        match = None if is_backbone(file) else matching_preset(file)
        hint = (
            f"It fits the preset {match}: choose that."
            if match
            else "It fits no other preset either: it is of another model, or not whole."
        )
        if is_backbone(file):
            hint = "Choose the preset whose backbone it is."
        elif file.kind == "mrcnn_edu":
            hint = "Choose the preset that it was trained with."
        raise UserError(f"{file.path} does not fit this model: {listed(found)}. {hint}")
    expected = blueprint(config)
    return take(file.tensors, _sources(file, config, expected), expected)


def settings(file: WeightsFile, config: ModelConfig) -> dict[str, Any]:
    """The fields of the configuration that belong to the file, not to the user's choice.

    They are `OF_THE_WEIGHTS`: what the first convolution sees, where the stride is, and which ε the
    frozen norms have.
    """
    if file.kind == "mrcnn_edu":
        return {}  # its header holds a whole configuration
    bgr = file.kind in ("detectron2", "detectron2 backbone, BGR")
    found = {**imagenet.settings(config, bgr), "frozen_bn_eps": 1e-5}
    if file.kind == "detectron2":
        found |= detectron2.pixel_statistics(config.backbone, file.tensors)
    known = published.identify(file.path) if file.kind == "torchvision" else None
    if known is not None:
        found["frozen_bn_eps"] = known.frozen_bn_eps
    return found


def matching_preset(file: WeightsFile) -> str | None:
    """The preset whose model a detector's file is; None if there is none.

    The presets are tried one after the other: a model is its names and shapes.
    """
    dialect: Any = "detectron2" if file.kind == "detectron2" else "torchvision"
    for name in PRESETS:
        try:
            config = preset(name, dialect)
            config = dataclasses.replace(config, num_classes=max(1, classes_in(file)))
            if not problems(file, config):
                return name
        except UserError:  # that code base has no such model
            continue
    return None


def listed(phrases: list[str]) -> str:
    """Phrases as one text; beyond the first twenty only their number."""
    more = [f"and {len(phrases) - _LISTED} more"] if len(phrases) > _LISTED else []
    return "; ".join(phrases[:_LISTED] + more)


def class_dependent(config: ModelConfig) -> list[str]:
    """The layers whose shape follows from the classes; all others serve any classes."""
    layers = ["box_head.classes."]
    layers += [] if config.box_class_agnostic else ["box_head.deltas."]
    layers += [] if config.mask_prediction == "agnostic" else ["mask_head.masks."]
    return layers


def _sources(
    file: WeightsFile, config: ModelConfig, names: Mapping[str, Tensor]
) -> dict[str, Source]:
    match file.kind:
        case "mrcnn_edu":
            return {name: Source(name) for name in names}
        case "torchvision":
            return torchvision.sources(config, names, torchvision.class_rows(file.tensors))
        case "detectron2":
            return detectron2.sources(config, names)
        case "torchvision backbone":
            return imagenet.torchvision_sources(names)
        case _:
            return imagenet.detectron2_sources(names, bgr=file.kind.endswith("BGR"))
