"""Backbones trained on ImageNet: torchvision's, and those that detectron2 starts from.

A detector starts from a backbone that can already tell a thousand classes apart. torchvision's see
RGB in 0..1 and have the stride of a bottleneck in its 3×3 convolution. detectron2's `R-50.pkl` and
`R-101.pkl` are MSRA's of 2015, with Caffe2's names: they see BGR in 0..255, not divided by a
standard deviation, and have the stride in the first 1×1. With the wrong stride a backbone loads
without a word and is worse; so these three settings belong to the file. Chapters 02 and 13.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from mrcnn_edu.config import ModelConfig
from mrcnn_edu.weights.detectron2 import backbone_prefixes, block_names, pixel_statistics
from mrcnn_edu.weights.layout import Prefixes, Source

TORCHVISION_PIXELS = {"pixel_mean": (0.485, 0.456, 0.406), "pixel_std": (0.229, 0.224, 0.225)}

_CAFFE2 = (
    (r"^(res_)?conv1_", "stem.conv1_"),
    (r"^(res\d)_(\d+)_branch1_", r"\1.\2.shortcut_"),
    (r"^(res\d)_(\d+)_branch2a_", r"\1.\2.conv1_"),
    (r"^(res\d)_(\d+)_branch2b_", r"\1.\2.conv2_"),
    (r"^(res\d)_(\d+)_branch2c_", r"\1.\2.conv3_"),
    (r"_w$", ".weight"),
    (r"_bn_(gamma|s)$", ".norm.weight"),
    (r"_bn_(beta|b)$", ".norm.bias"),
    (r"_bn_(running_mean|rm)$", ".norm.running_mean"),
    (r"_bn_(running_var|riv)$", ".norm.running_var"),
)


def from_caffe2(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a Caffe2 file under detectron2's names.

    Some files hold batch norms already folded into a factor and a shift; these get the statistics
    that change nothing, a mean of 0 and a variance of 1.
    """
    found: dict[str, Tensor] = {}
    for name, value in tensors.items():
        for pattern, replacement in _CAFFE2:
            name = re.sub(pattern, replacement, name)
        found[name] = value
    for name in [n for n in found if n.endswith(".norm.weight")]:
        norm = name.removesuffix("weight")
        found.setdefault(f"{norm}running_mean", torch.zeros_like(found[name]))
        found.setdefault(f"{norm}running_var", torch.ones_like(found[name]))
    return found


def in_backbone(name: str) -> bool:
    """Whether one of our tensors comes from ImageNet: those of the backbone, and C4's res5."""
    return name.startswith(("backbone.", "res5."))


def torchvision_sources(names: Iterable[str]) -> dict[str, Source]:
    """Where each tensor of our backbone is in one of torchvision's classifiers."""
    rename = Prefixes(
        {
            "backbone.stem.0.": "conv1.",
            "backbone.stem.1.": "bn1.",
            **{f"backbone.stages.{i}.": f"layer{i + 1}." for i in range(4)},
            "res5.": "layer4.",
        }
    )
    return {n: Source(theirs) for n in names if in_backbone(n) and (theirs := rename(n))}


def detectron2_sources(names: Iterable[str], bgr: bool) -> dict[str, Source]:
    """Where each tensor of our backbone is in one of detectron2's ImageNet files."""
    rename = Prefixes(backbone_prefixes(""))
    found = {n: Source(block_names(rename(n) or n)) for n in names if in_backbone(n)}
    if bgr:
        found["backbone.stem.0.weight"] = Source("stem.conv1.weight", (2, 1, 0), 3, dim=1)
    return found


def settings(config: ModelConfig, bgr: bool) -> dict[str, Any]:
    """The fields of a configuration that belong to an ImageNet file.

    Args:
        config: of the model that takes the backbone.
        bgr: the file is MSRA's or its like, not torchvision's.
    """
    if not bgr:
        return {**TORCHVISION_PIXELS, "stride_in": "3x3"}
    stride_in = "3x3" if config.backbone.startswith("resnext") else "1x1"
    return {**pixel_statistics(config.backbone, {}), "stride_in": stride_in}


def ignored(name: str) -> bool:
    """Whether a tensor of theirs may be left over: the classifier of a thousand classes."""
    return name.startswith(("fc.", "stem.fc.", "fc1000", "pred"))
