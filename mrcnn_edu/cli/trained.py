"""Which trained model a command uses: a checkpoint of ours, or weights of another code base."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mrcnn_edu.errors import UserError
from mrcnn_edu.presets import Dialect

if TYPE_CHECKING:
    from mrcnn_edu.weights.checkpoint import LoadedModel


@dataclass
class Trained:
    """A trained model."""

    checkpoint: Path | None = None
    """A model.safetensors, or the run folder that holds one."""
    weights: str | None = None
    """Instead of a checkpoint: torchvision, or a file of torchvision's or detectron2's."""
    preset: str | None = None
    """Which model the weights are; torchvision's r50_fpn by default, a file says it itself."""
    dialect: Dialect | None = None
    """Whose constants to detect with; by default of the code base that trained the weights."""

    def load(self) -> "LoadedModel":
        """Build the model, in eval mode.

        Raises:
            UserError: both or neither are given, or the file is not what it should be.
        """
        from mrcnn_edu.weights import load_detector
        from mrcnn_edu.weights.checkpoint import load_model

        if (self.checkpoint is None) == (self.weights is None):
            raise UserError("Give --checkpoint or --weights, one of the two: which model is it?")
        if self.weights is not None:
            return load_detector(self.weights, self.preset, self.dialect)
        if self.preset is not None or self.dialect is not None:
            raise UserError(
                "--preset and --dialect belong to --weights; a checkpoint says itself what it is."
            )
        assert self.checkpoint is not None
        return load_model(self.checkpoint)
