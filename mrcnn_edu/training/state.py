"""The state of a run: what it carries from one step to the next, and the file that keeps it.

``state.pt`` is for going on: raw and averaged weights, optimiser, scaler and step. It is read with
``weights_only=True``, so a file from a stranger cannot run code. Chapter 13.
"""

import io
import os
from dataclasses import dataclass
from typing import Any

import torch
from torch.optim.swa_utils import AveragedModel

from mrcnn_edu.config import ModelConfig, difference, from_json, to_json
from mrcnn_edu.errors import UserError
from mrcnn_edu.model import MaskRCNN
from mrcnn_edu.training.config import CHANGEABLE, TrainConfig
from mrcnn_edu.weights.checkpoint import FORMAT, write
from mrcnn_edu.weights.layout import current_names


@dataclass
class TrainState:
    """All that a run carries from one step to the next."""

    model: MaskRCNN
    average: AveragedModel | None
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    step: int = 0  # steps that are done
    skipped: int = 0  # of these, steps left out because a loss was not finite

    @property
    def to_use(self) -> MaskRCNN:
        """The model that is evaluated: the averaged weights, where there is an average."""
        if self.average is None:
            return self.model
        module = self.average.module
        assert isinstance(module, MaskRCNN)
        return module

    def state_dict(self) -> dict[str, Any]:
        """Everything, as tensors and numbers."""
        return {
            "step": self.step,
            "skipped": self.skipped,
            "model": self.model.state_dict(),
            "average": self.average.state_dict() if self.average is not None else None,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Become what :meth:`state_dict` described."""
        self.step, self.skipped = state["step"], state["skipped"]
        self.model.load_state_dict(state["model"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])


def save_state(
    path: str | os.PathLike[str],
    state: dict[str, Any],
    model_config: ModelConfig,
    train_config: TrainConfig,
) -> None:
    """Write everything that is needed to go on with a run.

    Raises:
        UserError: the folder cannot be written.
    """
    configs = {"model_config": to_json(model_config), "train_config": to_json(train_config)}
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **configs, **state}, buffer)
    write(path, buffer.getvalue())


def load_state(
    path: str | os.PathLike[str], model_config: ModelConfig, train_config: TrainConfig
) -> dict[str, Any]:
    """Read what :func:`save_state` wrote, for a run of the same configuration.

    Raises:
        UserError: the file is damaged, or belongs to another configuration; the message lists the
            fields that differ.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        stored_configs = (state["model_config"], state["train_config"])
    except (RuntimeError, EOFError, OSError, KeyError, TypeError, ValueError) as error:
        raise UserError(_damaged(path)) from error
    except Exception as error:
        # torch raises pickle.UnpicklingError, for damage and for forbidden content alike.
        if type(error).__name__ != "UnpicklingError":
            raise
        raise UserError(_damaged(path)) from error
    for ours, text in (
        (model_config, stored_configs[0]),
        (train_config, stored_configs[1]),
    ):
        changed = difference(from_json(type(ours), text), ours)
        changed = {k: v for k, v in changed.items() if k not in CHANGEABLE}
        if changed:
            listed = ", ".join(f"{k}: {a!r} there, {b!r} now" for k, (a, b) in changed.items())
            raise UserError(
                f"{path} belongs to a run with another {type(ours).__name__} ({listed}). Use the "
                "same options to go on with it, or another --out folder to start anew."
            )
    for part in ("model", "average"):
        if state.get(part) is not None:
            state[part] = current_names(state[part])
    return state


def _damaged(path: str | os.PathLike[str]) -> str:
    return (
        f"{path} is not a state that mrcnn_edu wrote, or it was cut short. Delete it to start the "
        "run anew; model.safetensors beside it can still be used."
    )
