"""The folder of a run: what is written there, when, and how a run goes on from it.

    state.pt                      to go on: weights, average, optimiser, scaler, step
    model.safetensors             to use: weights, configuration, classes
    checkpoints/0001000/          both, as they were after step 1,000; the last few
    best/model.safetensors        the weights with the highest AP so far
    metrics.jsonl, evaluations.jsonl, detections_0001000.png
    run.lock                      empty: who holds it is at work here, and nobody else

Every file appears whole or not at all, the state last: where it is, the model of that step is there
too. To go back, copy an older state.pt over the newest; checkpoints of later steps stay until the
run comes to their steps again. What else lies in the folder is nobody's business here. Chapter 13.
"""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from mrcnn_edu.data.dataset import Categories
from mrcnn_edu.errors import TrainingDivergedError, UserError
from mrcnn_edu.files import advice
from mrcnn_edu.training.config import TrainConfig
from mrcnn_edu.training.state import TrainState, load_state, save_state
from mrcnn_edu.weights.checkpoint import MODEL, not_finite, save_model

STATE = "state.pt"
CHECKPOINTS, BEST = "checkpoints", "best"
LOCK = "run.lock"
_KEPT, _HALF = re.compile(r"\d{7,}"), re.compile(r"\.\d{7,}")
PATIENCE = 20.0  # seconds: a run whose parent was killed may still be saving


@dataclass(frozen=True)
class RunFolder:
    """Reads and writes one run."""

    path: Path
    train_config: TrainConfig
    categories: Categories
    data: str  # fingerprint of the data set

    @contextmanager
    def open(self) -> Iterator[None]:
        """Make the folder, keep other runs out of it, and remove half files of one that was killed.

        The system drops the lock of a process that ends, however it ends.

        Raises:
            UserError: the folder cannot be made, or another run is at work there.
        """
        lock = FileLock(self.path / LOCK, timeout=PATIENCE)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout as error:
            raise UserError(
                f"Another run is at work in {self.path}. Wait until it has ended, or choose "
                "another folder with --out."
            ) from error
        except NotImplementedError:
            pass  # some network drives have no locks; there it is up to the user
        except OSError as error:
            raise UserError(
                f"Cannot create the run folder {self.path} ({error}). Choose another with --out."
            ) from error
        try:
            self._remove_half_files()
            yield
        finally:
            lock.release()

    def _remove_half_files(self) -> None:
        for pattern in (f".{STATE}.*", f".{MODEL}.*", f"{BEST}/.{MODEL}.*"):
            for half in self.path.glob(pattern):
                half.unlink()
        for half in self._folders(_HALF):
            shutil.rmtree(half)

    def _folders(self, name: re.Pattern[str]) -> list[Path]:
        """The folders in `checkpoints/` with such a name, by step; other people's are not ours."""
        kept = self.path / CHECKPOINTS
        names = sorted(os.listdir(kept), key=_step_of) if kept.is_dir() else []
        return [kept / n for n in names if name.fullmatch(n) and (kept / n).is_dir()]

    @property
    def started(self) -> bool:
        """Whether there is a run to go on with."""
        return (self.path / STATE).exists()

    def load(self, state: TrainState) -> None:
        """Bring `state` to where the run in the folder stopped.

        Raises:
            UserError: the file is damaged, or of another configuration or data set.
        """
        stored = load_state(self.path / STATE, state.model.config, self.train_config)
        if stored["data"] != self.data:
            raise UserError(
                f"The run in {self.path} was trained on another data set (other images or "
                "classes). Name the same one to go on, or another folder with --out."
            )
        try:
            state.load_state_dict(stored)
        except (KeyError, IndexError, RuntimeError, TypeError, ValueError, AttributeError) as error:
            raise UserError(
                f"{self.path / STATE} is damaged ({error}). Copy an older one from {CHECKPOINTS}/ "
                f"over it, or delete it to start anew; {MODEL} beside it can still be used."
            ) from error
        if name := not_finite(state.model.state_dict()):
            raise UserError(
                f"The weights in {self.path / STATE} are NaN or infinite ({name}). Copy an older "
                f"one from {CHECKPOINTS}/ over it, or delete it to start anew."
            )

    def save(self, state: TrainState) -> None:
        """Write the newest model and state, keep them by step too, and remove the oldest.

        Raises:
            UserError: the disk is full, or the folder cannot be written. Earlier files are whole.
            TrainingDivergedError: weights are NaN or infinite, which no loss has shown yet; what
                was saved before is kept.
        """
        for model in {id(m): m for m in (state.model, state.to_use)}.values():
            if name := not_finite(model.state_dict()):
                raise TrainingDivergedError(
                    f"Step {state.step} has made the weights NaN or infinite ({name}). They are "
                    f"not saved: what is in {self.path} is from before. A lower learning rate or a "
                    "longer warm-up, with another --out, is the usual cure."
                )
        config = state.model.config
        self._save_model(self.path / MODEL, state)
        content = {"data": self.data, **state.state_dict()}
        save_state(self.path / STATE, content, config, self.train_config)
        if self.train_config.keep_last > 1:
            self._keep(state.step)

    def save_untrained(self, state: TrainState) -> None:
        """Write the model alone before the first step: a folder that cannot be written fails now.

        There is no state, so that a run which fails at once can begin anew with other options.
        """
        self._save_model(self.path / MODEL, state)

    def save_best(self, state: TrainState) -> None:
        """Write the weights that are evaluated as the best so far."""
        self._save_model(self.path / BEST / MODEL, state)

    def _save_model(self, path: Path, state: TrainState) -> None:
        weights = state.to_use.state_dict()
        save_model(path, weights, state.model.config, self.categories, state.step)

    def _keep(self, step: int) -> None:
        kept = self.path / CHECKPOINTS
        half = kept / f".{step:07d}"
        try:
            half.mkdir(parents=True, exist_ok=True)
            for name in (MODEL, STATE):
                # No second name of the file: who goes back writes over the newest state.pt.
                shutil.copyfile(self.path / name, half / name)
            target = kept / f"{step:07d}"
            if target.exists():  # of a run that was killed and has come here again
                shutil.rmtree(target)
            os.replace(half, target)
            # Later ones were left by who went back; they are not what is newest now.
            before = [f for f in self._folders(_KEPT) if _step_of(f.name) <= step]
            for old in before[: -self.train_config.keep_last]:
                shutil.rmtree(old)
        except OSError as error:
            raise UserError(
                f"Cannot keep a checkpoint in {kept} ({error}). {advice(error)}. "
                f"{self.path / STATE} is whole, and the same command goes on from there."
            ) from error


def _step_of(name: str) -> int:
    """The step in the name of a checkpoint's folder; 0 in any other name."""
    digits = name.removeprefix(".")
    return int(digits) if digits.isascii() and digits.isdigit() else 0
