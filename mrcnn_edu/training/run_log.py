"""What a run tells while it goes: a bar, a line of JSON for every step, TensorBoard if asked.

`metrics.jsonl` has a line a step: `step`, `lr`, every loss and their sum `loss` (null where it was
not finite and the step was left out), `gradient_norm`, `seconds`, and `waited`, the part of these
that the step waited for its images. `evaluations.jsonl` has a line for every evaluation. A resumed
run cuts off the lines of steps that were lost. Chapter 13.
"""

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from mrcnn_edu.errors import UserError
from mrcnn_edu.files import advice, write_atomically

STEP_LOG, EVALUATION_LOG = "metrics.jsonl", "evaluations.jsonl"


class RunLog:
    """Writes the lines of a run from step `first` on. Use it in a `with` statement.

    Args:
        folder: the run folder.
        first: steps that are done.
        steps: of the whole run.
        progress: show a bar with losses, the share of waiting and the time left.
        tensorboard: write event files to `folder/tensorboard` too.
        silent: write nothing at all (all processes but the first).

    Raises:
        UserError: TensorBoard is asked for and not installed.
    """

    def __init__(
        self,
        folder: Path,
        first: int,
        steps: int,
        progress: bool = True,
        tensorboard: bool = False,
        silent: bool = False,
    ) -> None:
        self.folder, self.first, self.steps = folder, first, steps
        self.silent = silent
        self._shown: dict[str, float] = {}
        if not silent:
            for name in (STEP_LOG, EVALUATION_LOG):
                drop_lines_after(folder / name, first)
        self._board = _summary_writer(folder, first) if tensorboard and not silent else None
        self._bar = tqdm(
            initial=first,
            total=steps,
            desc="training",
            disable=not progress or silent,
            mininterval=1.0,
        )

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()
        if self._board is not None:
            self._board.close()

    def step(self, line: Mapping[str, Any]) -> None:
        """Write a step's line, and show its losses, averaged over the last twenty steps or so."""
        self._write(STEP_LOG, line)
        numbers = {k: v for k, v in line.items() if k not in _NOT_LOSSES and v is not None}
        numbers["input"] = line["waited"] / max(line["seconds"], 1e-9)
        for name, value in numbers.items():
            self._shown[name] = 0.95 * self._shown.get(name, value) + 0.05 * value
        shown = {k: f"{v:.0%}" if k == "input" else f"{v:.3f}" for k, v in self._shown.items()}
        self._bar.set_postfix(shown, refresh=False)
        self._bar.update()

    def evaluation(self, line: Mapping[str, Any]) -> None:
        """Write an evaluation's line: step, validation losses, average precision."""
        self._write(EVALUATION_LOG, line)
        kinds = {k: line[k]["AP"] for k in ("box", "mask", "keypoints") if k in line}
        parts = [f"{k} AP {v:.1f}" for k, v in kinds.items() if v is not None]
        loss = f"validation loss {line['loss']:.4f}"
        self.say(f"step {line['step']:,}: {', '.join([loss, *parts])}")

    def say(self, text: str) -> None:
        """Print a sentence above the bar."""
        if not self.silent and not self._bar.disable:
            tqdm.write(text)

    def _write(self, name: str, line: Mapping[str, Any]) -> None:
        if self.silent:
            return
        try:
            with open(self.folder / name, "a") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise UserError(
                f"Cannot write {self.folder / name} ({error}). {advice(error)}. The last "
                "checkpoint is as it was, and the same command goes on from there."
            ) from error
        if self._board is not None:
            tag = name.removesuffix(".jsonl")
            for key, value in _flat(line):
                self._board.add_scalar(f"{tag}/{key}", value, line["step"])


_NOT_LOSSES = {"step", "lr", "seconds", "waited", "gradient_norm"}


def drop_lines_after(path: Path, step: int) -> None:
    """Remove lines of later steps, and half a line at the end, left by a run that was killed."""
    if not path.exists():
        return
    kept = []
    for text in path.read_text(errors="replace").splitlines():
        try:
            line = json.loads(text)
        except (json.JSONDecodeError, RecursionError):
            continue  # the line that was being written when the run was killed, or damage
        if isinstance(line, dict) and isinstance(at := line.get("step"), int) and at <= step:
            kept.append(text)
    write_atomically(path, "".join(f"{text}\n" for text in kept).encode())


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a `metrics.jsonl`, one dictionary a step."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def read_evaluations(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's `evaluations.jsonl`; none where nothing was evaluated."""
    path = folder / EVALUATION_LOG
    return read_metrics(path) if path.exists() else []


def _flat(line: Mapping[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    for key, value in line.items():
        if isinstance(value, Mapping):
            found += _flat(value, f"{prefix}{key}/")
        elif key != "step" and isinstance(value, (int, float)):
            found.append((prefix + key, float(value)))
    return found


def _summary_writer(folder: Path, first: int) -> Any:
    try:
        writer = importlib.import_module("torch.utils.tensorboard").SummaryWriter
    except ImportError as error:
        raise UserError(
            "--tensorboard needs the package tensorboard: pip install tensorboard. Without it, "
            f"{STEP_LOG} holds the same numbers."
        ) from error
    return writer(str(folder / "tensorboard"), purge_step=first + 1)
