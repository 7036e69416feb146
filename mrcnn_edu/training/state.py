"""The state of a run: what it carries from one step to the next, and the file that keeps it.

`state.pt` is for going on: raw and averaged weights, optimiser, scaler and step. It is read with
`weights_only=True`, so a file from a stranger cannot run code. Chapter 13.
"""

import io
import os
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.optim.swa_utils import AveragedModel

from mrcnn_edu.config import ModelConfig, difference, from_json, to_json
from mrcnn_edu.errors import UserError
from mrcnn_edu.nn.detector import Detector
from mrcnn_edu.systems import system_of
from mrcnn_edu.training.config import CHANGEABLE, TrainConfig
from mrcnn_edu.weights.checkpoint import FORMAT, MODEL, write
from mrcnn_edu.weights.layout import current_names

_FIELDS = {  # of a state's file, and their types
    "model_config": str,
    "train_config": str,
    "step": int,
    "skipped": int,
    "model": dict,
    "optimizer": dict,
    "scaler": dict,
    "average": dict | None,
    "data": str,
}


@dataclass
class TrainState:
    """All that a run carries from one step to the next."""

    model: Detector
    average: AveragedModel | None
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    step: int = 0  # steps that are done
    skipped: int = 0  # of these, steps left out because a loss was not finite
    moving: bool = False  # the optimiser is at work: weights may be half old and half new

    @property
    def to_use(self) -> Detector:
        """The model that is evaluated: the averaged weights, where there is an average."""
        if self.average is None:
            return self.model
        module = self.average.module
        assert isinstance(module, Detector)
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
        """Become what `state_dict` described."""
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

    Args:
        path: the file.
        state: what changes as the run goes on.
        model_config, train_config: of the run; `load_state` compares them.

    Raises:
        UserError: the folder cannot be written.
    """
    configs = {
        "system": system_of(model_config),
        "model_config": to_json(model_config),
        "train_config": to_json(train_config),
    }
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **configs, **state}, buffer)
    write(path, buffer.getvalue())


def load_state(
    path: str | os.PathLike[str], model_config: ModelConfig, train_config: TrainConfig
) -> dict[str, Any]:
    """Read what `save_state` wrote, for a run of the same configuration.

    Args:
        path: the file.
        model_config, train_config: of the run that goes on.

    Returns:
        the state that was saved.

    Raises:
        UserError: the file is damaged, or belongs to another configuration; the message lists the
            fields that differ.
    """
    state = _read(path)
    there, here = state.get("system", "maskrcnn"), system_of(model_config)
    if there != here:
        raise UserError(
            f"{path} belongs to a run of another system ({there} there, {here} now). Name the same "
            "one with --system to go on with it, or another --out folder to start anew."
        )
    for ours, text in (
        (model_config, state["model_config"]),
        (train_config, state["train_config"]),
    ):
        try:
            theirs = from_json(type(ours), text)
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise UserError(
                f"{path} is damaged: its {type(ours).__name__} cannot be read ({error}). Delete it "
                f"to start the run anew; {MODEL} beside it can still be used."
            ) from error
        changed = difference(theirs, ours)
        changed = {k: v for k, v in changed.items() if k not in CHANGEABLE}
        if changed:
            listed = ", ".join(f"{k}: {a!r} there, {b!r} now" for k, (a, b) in changed.items())
            longer = ""
            if "steps" in changed or "epochs" in changed:
                longer = (
                    " A schedule cannot be made longer behind its end; to train further, begin "
                    f"from its weights with --weights {Path(path).parent} and another --out."
                )
            raise UserError(
                f"{path} belongs to a run with another {type(ours).__name__} ({listed}). Use the "
                f"same options to go on with it, or another --out folder to start anew.{longer}"
            )
    for part in ("model", "average"):
        if state.get(part) is not None:
            state[part] = current_names(state[part])
    return state


def steps_done(path: str | os.PathLike[str]) -> int:
    """How many steps the run in a state has behind it; its tensors stay on the disk.

    Raises:
        UserError: the file is damaged.
    """
    return int(_read(path, tensors=False)["step"])


def _read(path: str | os.PathLike[str], tensors: bool = True) -> dict[str, Any]:
    """What `save_state` wrote; tensors are read now, or where they are looked at."""
    try:
        state = torch.load(path, map_location="cpu", mmap=not tensors, weights_only=True)
        if state["format"] != FORMAT:
            raise ValueError(f"its format is {state['format']!r}")
        for key, kind in _FIELDS.items():
            if not isinstance(state[key], kind):
                raise TypeError(f"its {key} is a {type(state[key]).__name__}")
        if min(state["step"], state["skipped"]) < 0:
            raise ValueError(f"its step is {state['step']}")
    # torch raises UnpicklingError for damage and for what might run code, and the rest for damage.
    except (
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        OSError,
        KeyError,
        TypeError,
        ValueError,
    ) as error:
        raise UserError(
            f"{path} is not a state that mrcnn_edu wrote, or it was cut short. Delete it to start "
            f"the run anew; {MODEL} beside it can still be used."
        ) from error
    assert isinstance(state, dict)
    return state
