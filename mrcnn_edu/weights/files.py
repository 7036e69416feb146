"""A file of weights, whatever it is: opened by its first bytes, known by its names.

Three containers (safetensors, PyTorch's own, pickles of arrays) hold state dicts of five kinds.
None of them can run code here: PyTorch's are read with `weights_only=True`, pickles by
`mrcnn_edu.weights.pickles`. Chapter 13.
"""

import os
import pickle
import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from mrcnn_edu.errors import UserError
from mrcnn_edu.weights import imagenet, torchvision
from mrcnn_edu.weights.checkpoint import model_file
from mrcnn_edu.weights.layout import current_names
from mrcnn_edu.weights.pickles import read_pickle

Kind = Literal[
    "mrcnn_edu",
    "torchvision",  # a detector
    "detectron2",  # a detector
    "torchvision backbone",  # an ImageNet classifier
    "detectron2 backbone",  # an ImageNet classifier, RGB as torchvision's
    "detectron2 backbone, BGR",
]

_OLD_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # a pickled magic number
_WRAPPERS = ("model", "state_dict", "model_state_dict", "blobs")


@dataclass(frozen=True)
class WeightsFile:
    """What is in a file: its kind, and its tensors under the names that kind has today."""

    path: Path
    kind: Kind
    tensors: dict[str, Tensor]


def read_weights(path: str | os.PathLike[str]) -> WeightsFile:
    """Read a file of weights and find out what it is.

    Args:
        path: a safetensors file, a `.pth` of PyTorch (the state dict itself, or a training
            checkpoint around it), or a `.pkl` of detectron2's; the name does not matter. A folder
            means its `model.safetensors`.

    Raises:
        UserError: the file is missing, damaged, holds more than weights, or weights of an unknown
            kind; the message says which.
    """
    path = model_file(path)
    if not path.is_file():
        raise UserError(
            f"There is no file {path}. Name a file of weights, or say torchvision or imagenet to "
            "have torchvision's."
        )
    content = _open(path)
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__}, not a dictionary of tensors.")
    author = str(content.get("__author__", ""))
    state = _state(content)
    tensors = {str(name): v for name, value in state.items() if (v := _tensor(value)) is not None}
    tensors = current_names(_without_wrapper(tensors))
    kind = kind_of(tensors)
    if kind is None:
        some = ", ".join(list(tensors)[:4]) or "no tensors at all"
        raise UserError(
            f"{path} holds weights of an unknown model ({some} …). Known are detectors of "
            "mrcnn_edu, torchvision and detectron2, and ResNets trained on ImageNet."
        )
    if kind == "torchvision":
        tensors = torchvision.current_names(tensors)
    elif kind == "detectron2 backbone, BGR":
        # detectron2's converter signs what it makes of torchvision's files; the rest is MSRA's.
        kind = "detectron2 backbone" if author == "torchvision" else kind
        tensors = imagenet.from_caffe2(tensors)
    return WeightsFile(path, kind, tensors)


def kind_of(names: Iterable[str]) -> Kind | None:
    """Whose model has tensors of these names."""
    known: tuple[tuple[str, Kind], ...] = (
        ("backbone.stem.0.weight", "mrcnn_edu"),
        ("backbone.body.conv1.weight", "torchvision"),
        ("backbone.bottom_up.stem.conv1.weight", "detectron2"),
        ("backbone.stem.conv1.weight", "detectron2"),
        ("layer1.0.conv1.weight", "torchvision backbone"),
        ("stem.conv1.weight", "detectron2 backbone, BGR"),
        ("conv1_w", "detectron2 backbone, BGR"),
    )
    there = set(names)
    return next((kind for name, kind in known if name in there), None)


def _open(path: Path) -> Any:
    """The content of a file, by its first bytes."""
    with path.open("rb") as file:
        head = file.read(16)
    if head.startswith((b"PK\x03\x04", _OLD_TORCH[:16])):
        return _torch(path)
    if len(head) > 8 and head[8:9] == b"{" and struct.unpack("<Q", head[:8])[0] < 100_000_000:
        try:
            return safetensors.torch.load_file(path)
        except safetensors.SafetensorError as error:
            raise UserError(
                f"{path} cannot be read as safetensors ({error}). The file is damaged or was cut "
                "short: fetch it again."
            ) from error
    if head[:1] == b"\x80" or head[:2] in (b"(d", b"}q"):  # protocol 2 and later; 0; 1
        return read_pickle(path)
    web = " It is a web page: was it saved instead of the file?" if b"<" in head[:3] else ""
    raise UserError(
        f"{path} is neither a safetensors file nor PyTorch's nor a pickle of arrays.{web}"
    )


def _torch(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # PyTorch's message is a page long, with colours; what we want of it is one name.
        stranger = re.search(r"GLOBAL (\S+)", str(error))
        what = f", {stranger[1]}" if stranger else ""
        raise UserError(
            f"{path} was not loaded: it holds more than tensors{what}. "
            "Save its state dict alone, torch.save(checkpoint['model'], PATH), where you trust it."
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} cannot be read ({str(error).splitlines()[0]}). It is damaged or was cut "
            "short: fetch it again."
        ) from error


def _state(content: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """The state dict inside a training checkpoint, or the content itself."""
    for name in _WRAPPERS:
        if isinstance(content.get(name), Mapping):
            inner: Mapping[Any, Any] = content[name]
            return inner
    return content


def _tensor(value: Any) -> Tensor | None:
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value.copy())  # its own memory: a pickle's arrays are read-only
    return None


def _without_wrapper(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names without the `module.` that distributed training puts before them, nor momentum."""
    prefix = "module." if tensors and all(n.startswith("module.") for n in tensors) else ""
    return {n.removeprefix(prefix): v for n, v in tensors.items() if not n.endswith("_momentum")}
