"""A promptable segmenter as one file, and a new one on a detector's backbone. Chapter 19."""

import dataclasses
import json
import os
from pathlib import Path

import safetensors
import safetensors.torch
import torch

from mrcnn_edu.config import from_json, to_json
from mrcnn_edu.errors import UserError
from mrcnn_edu.model import MaskRCNN
from mrcnn_edu.related.promptable import PromptableConfig, PromptableSegmenter
from mrcnn_edu.weights.checkpoint import misfits_of, write

FORMAT = "mrcnn_edu promptable 1"


def promptable_on(
    detector: MaskRCNN, config: PromptableConfig | None = None, seed: int = 0
) -> PromptableSegmenter:
    """A segmenter to be trained: a detector's backbone and neck, the rest at random.

    Args:
        detector: its weights are copied.
        config: all but `encoder`, which is the detector's.
        seed: of the random weights.
    """
    config = dataclasses.replace(config or PromptableConfig(), encoder=detector.config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = PromptableSegmenter(config)
    model.image_encoder.backbone.load_state_dict(detector.backbone.state_dict())
    model.image_encoder.neck.load_state_dict(detector.neck.state_dict())
    return model


def save_promptable(path: str | os.PathLike[str], model: PromptableSegmenter) -> None:
    """Write weights in float16, with the configuration, as one safetensors file."""
    config = dataclasses.asdict(model.config)
    del config["encoder"]
    header = {
        "format": FORMAT,
        "encoder": to_json(model.config.encoder),
        "config": json.dumps(config),
    }
    half = {name: value.detach().half().contiguous() for name, value in model.state_dict().items()}
    write(path, safetensors.torch.save(half, header))


def load_promptable(path: str | os.PathLike[str]) -> PromptableSegmenter:
    """Build the segmenter that is stored in `path`, in eval mode.

    Raises:
        UserError: the file is missing, damaged, or holds something else; the message says which.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(
            f"There is no file {path}. Name one that `save_promptable` wrote; the course's own is "
            "data/promptable_shapes.safetensors."
        )
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            weights = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
    except safetensors.SafetensorError as error:
        raise UserError(
            f"{path} cannot be read as safetensors ({error}). The file is damaged or was cut "
            "short: copy it again."
        ) from error
    if header.get("format") != FORMAT:
        raise UserError(
            f"{path} is a safetensors file, but holds no promptable segmenter (its header has no "
            f"format {FORMAT!r})."
        )
    stored = json.loads(header["config"])
    stored["mask_channels"] = tuple(stored["mask_channels"])
    encoder = from_json(type(PromptableConfig().encoder), header["encoder"])
    model = PromptableSegmenter(PromptableConfig(encoder=encoder, **stored))
    problems = misfits_of(model.state_dict(), weights)
    if problems:
        raise UserError(f"The weights in {path} do not fit the configuration in it: {problems}.")
    model.load_state_dict(weights)
    return model.eval()
