"""A trained model as one file.

`model.safetensors` is for using a model: weights, with the configuration, the classes and the step
in its header. One file is all that `evaluate` and `predict` need, and it is written whole or not at
all. What a run needs to go on is `mrcnn_edu.training.state`'s. Chapter 13.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from mrcnn_edu.config import ModelConfig, from_json, to_json
from mrcnn_edu.data.dataset import Categories
from mrcnn_edu.errors import UserError
from mrcnn_edu.files import advice, write_atomically
from mrcnn_edu.nn.detector import Detector
from mrcnn_edu.systems import build, system, system_of
from mrcnn_edu.weights.layout import Source, current_names, misfits, take

FORMAT = "mrcnn_edu 1"
MODEL = "model.safetensors"  # in a run folder


@dataclass(frozen=True)
class LoadedModel:
    """What is in a `model.safetensors`."""

    model: Detector
    categories: Categories
    step: int


def save_model(
    path: str | os.PathLike[str],
    weights: dict[str, Tensor],
    config: ModelConfig,
    categories: Categories,
    step: int,
) -> None:
    """Write weights and all that is needed to use them as one safetensors file.

    Args:
        path: the file.
        weights: the model's state dict.
        config: of the model.
        categories: ids and names of the classes.
        step: steps trained.

    Raises:
        UserError: the folder cannot be written.
    """
    header = {
        "format": FORMAT,
        "system": system_of(config),
        "model_config": to_json(config),
        "categories": json.dumps({"ids": categories.ids, "names": categories.names}),
        "step": str(step),
    }
    contiguous = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
    write(path, safetensors.torch.save(contiguous, header))


def load_model(path: str | os.PathLike[str]) -> LoadedModel:
    """Build the model that is stored in `path`, in eval mode.

    Raises:
        UserError: the file is missing, truncated, not one of ours, or its weights do not fit its
            configuration; the message says which.
    """
    path = model_file(path)
    if not path.exists():
        raise UserError(
            f"There is no checkpoint {path}. Train one first, for example with "
            "`mrcnn-edu quickstart`, or name an existing model.safetensors."
        )
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except safetensors.SafetensorError as error:
        raise UserError(
            f"{path} cannot be read as safetensors ({error}). The file is damaged or was cut "
            "short: copy it again, or train again from the run's state.pt."
        ) from error
    if header.get("format") != FORMAT:
        raise UserError(
            f"{path} is a safetensors file, but not one that mrcnn_edu wrote (its header has no "
            f"format {FORMAT!r}). Name a model.safetensors from a run folder."
        )
    weights = current_names(weights)
    config, categories, step = _read_header(header, path)
    model = build(config)
    expected = model.state_dict()
    problems = misfits_of(expected, weights)
    if problems:
        raise UserError(
            f"The weights in {path} do not fit the configuration in its header: {problems}."
        )
    if name := not_finite(weights):
        raise UserError(
            f"The weights in {path} are NaN or infinite ({name}): the training that wrote it had "
            "diverged. Take an earlier checkpoint, or train again with a lower rate."
        )
    model.load_state_dict(take(weights, {name: Source(name) for name in expected}, expected))
    return LoadedModel(model.eval(), categories, step)


def _read_header(header: Mapping[str, str], path: Path) -> tuple[ModelConfig, Categories, int]:
    """Configuration, classes and step, from what may be anyone's text."""
    try:
        kind = system(header.get("system", "maskrcnn")).config
        config: ModelConfig = from_json(kind, header["model_config"])
        stored = json.loads(header["categories"])
        categories = Categories(tuple(map(int, stored["ids"])), tuple(map(str, stored["names"])))
        step = int(header["step"])
        if not len(categories.ids) == len(categories.names) == config.num_classes:
            raise ValueError(f"{config.num_classes} classes, {len(categories.names)} names")
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"The header of {path} is damaged ({type(error).__name__}: {error}). Copy the file "
            "again from where it was whole."
        ) from error
    return config, categories, step


def not_finite(weights: Mapping[str, Tensor]) -> str | None:
    """The name of the first tensor that holds NaN or infinity; None if all are finite."""
    names = [name for name, value in weights.items() if value.is_floating_point()]
    if not names:
        return None
    finite = torch.stack([torch.isfinite(weights[name]).all() for name in names])  # one look
    return None if bool(finite.all()) else names[int(finite.int().argmin())]


def model_file(path: str | os.PathLike[str]) -> Path:
    """The file that a path means: of a run folder, its model."""
    path = Path(path)
    return path / MODEL if path.is_dir() else path


def misfits_of(expected: Mapping[str, Tensor], found: Mapping[str, Tensor], most: int = 5) -> str:
    """Name the tensors that keep weights from loading: the first few, then how many more.

    Args:
        expected: the model's own state dict.
        found: the weights, under the model's own names.
        most: how many are named.

    Returns:
        one phrase for each, or an empty text if all fit.
    """
    problems = misfits(found, {name: Source(name) for name in expected}, expected)
    more = [f"and {len(problems) - most} more"] if len(problems) > most else []
    return "; ".join(problems[:most] + more)


def write(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file of a run, whole or not at all.

    Raises:
        UserError: the folder cannot be written, or the disk is full.
    """
    try:
        write_atomically(path, content)
    except OSError as error:
        raise UserError(
            f"Cannot write {path} ({error}). {advice(error)}; what was saved before is untouched."
        ) from error
