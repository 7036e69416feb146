"""The files that torchvision publishes: which there are, where they are, whether they are whole.

They live in the cache that `torch.hub` uses, so a file that is there already is not fetched again.
The end of each name is the beginning of its SHA-256, which tells a damaged file from a good one,
and a renamed one for what it is. Chapter 13.
"""

import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torchvision.models import detection
from torchvision.models import get_model_weights as backbone_weights

from mrcnn_edu.errors import UserError


@dataclass(frozen=True)
class Published:
    """One of torchvision's detectors.

    Attributes:
        preset: our name of the model.
        weights: torchvision's entry for it.
        frozen_bn_eps: ε of its batch norms. The first files were made before there was one.
    """

    preset: str
    weights: Any
    frozen_bn_eps: float


DETECTORS = (
    Published("r50_fpn", detection.MaskRCNN_ResNet50_FPN_Weights.COCO_V1, 0.0),
    Published("r50_fpn_v2", detection.MaskRCNN_ResNet50_FPN_V2_Weights.COCO_V1, 1e-5),
    Published("faster_r50_fpn", detection.FasterRCNN_ResNet50_FPN_Weights.COCO_V1, 0.0),
    Published("faster_r50_fpn_v2", detection.FasterRCNN_ResNet50_FPN_V2_Weights.COCO_V1, 1e-5),
    Published("keypoint_r50_fpn", detection.KeypointRCNN_ResNet50_FPN_Weights.COCO_V1, 0.0),
)


def detector_file(preset: str) -> Path:
    """The file of torchvision's detector `preset`, fetched if it is not in the cache.

    Raises:
        UserError: torchvision has none for this preset, or it cannot be fetched; the message says
            which file to put where.
    """
    for published in DETECTORS:
        if published.preset == preset:
            return fetch(published.weights)
    raise UserError(
        f"torchvision publishes no detector for {preset}. It has {names()}. For a trained backbone "
        "alone use --weights imagenet; for another file --weights PATH."
    )


def backbone_file(backbone: str) -> Path:
    """The file of torchvision's ImageNet classifier with this backbone; see `detector_file`.

    Raises:
        UserError: as `detector_file`.
    """
    try:
        entries = list(backbone_weights(backbone))
    except ValueError as error:
        raise UserError(
            f"torchvision has no ImageNet weights for the backbone {backbone!r}; leave --weights "
            "out to train it from scratch."
        ) from error
    return fetch(entries[0])  # the first recipe: the ones that detectors start from


def identify(path: Path) -> Published | None:
    """Which of torchvision's detectors a file is, by its content; None if it is none of them."""
    digest = _sha256(path, path.stat().st_mtime_ns)
    return next((p for p in DETECTORS if digest.startswith(_digits(p.weights.url))), None)


def names() -> str:
    """The presets that torchvision publishes, for messages."""
    return ", ".join(p.preset for p in DETECTORS)


def fetch(weights: Any) -> Path:
    """The file of one of torchvision's weight entries, from torch.hub's cache or its address.

    Raises:
        UserError: there is no network, or the file is damaged; the message says which file to put
            where, and its hash.
    """
    url: str = weights.url
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), _digits(url))
        except (OSError, RuntimeError) as error:  # no network, a full disk; a hash that differs
            size = weights.meta.get("_file_size", 0)
            raise UserError(
                f"{path.name} ({size:.0f} MB) could not be fetched ({error}). Fetch {url} on "
                f"another machine and put it at {path}; its SHA-256 begins with "
                f"{_digits(url)}. Or name a file with --weights PATH."
            ) from error
    if not _sha256(path, path.stat().st_mtime_ns).startswith(_digits(url)):
        raise UserError(
            f"{path} is damaged: its SHA-256 does not begin with {_digits(url)}. Delete it and run "
            f"the command again, or fetch {url} on another machine and put it there."
        )
    return path


def _digits(url: str) -> str:
    match = re.search(r"-([0-9a-f]{8,})\.", Path(url).name)
    assert match is not None, url
    return match[1]


@lru_cache(maxsize=8)
def _sha256(path: Path, modified: int) -> str:
    """`modified` is there for the cache: a file that was written again is read again."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
