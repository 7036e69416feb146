"""Which detector a configuration is of: Mask R-CNN, or one of the systems it is compared with.

Training, checkpoints and commands know a model by its configuration; here is the one list of the
two classes that belong together, and of the teaching size of each. Chapters 10 and 18.
"""

from typing import NamedTuple

from mrcnn_edu.config import ModelConfig, suggest
from mrcnn_edu.errors import UserError
from mrcnn_edu.model import MaskRCNN
from mrcnn_edu.nn.detector import Detector
from mrcnn_edu.presets import TINY_FPN
from mrcnn_edu.related.fcis import FCIS, FCISConfig, fcis_config
from mrcnn_edu.related.mnc import MNC, MNCConfig, mnc_config


class System(NamedTuple):
    """A kind of detector."""

    model: type[Detector]
    config: type[ModelConfig]
    teaching: ModelConfig  # the size that a CPU trains in minutes


SYSTEMS: dict[str, System] = {
    "maskrcnn": System(MaskRCNN, ModelConfig, TINY_FPN),
    "mnc": System(MNC, MNCConfig, mnc_config()),
    "fcis": System(FCIS, FCISConfig, fcis_config()),
}


def system(name: str) -> System:
    """The system called `name`.

    Raises:
        UserError: there is none; the message lists those there are.
    """
    if name not in SYSTEMS:
        raise UserError(
            f"There is no system {name!r}{suggest(name, SYSTEMS)}. Systems: {', '.join(SYSTEMS)}."
        )
    return SYSTEMS[name]


def system_of(config: ModelConfig) -> str:
    """The name of the system that a configuration is of."""
    return next(name for name, one in SYSTEMS.items() if type(config) is one.config)


def build(config: ModelConfig) -> Detector:
    """The model of a configuration, with new weights."""
    return SYSTEMS[system_of(config)].model(config)
