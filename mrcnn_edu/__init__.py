"""Mask R-CNN built step by step: a course, and the small library it is made from.

The names that a reader types first are here, each loaded when it is used, so that importing the
package costs nothing: `from mrcnn_edu import MaskRCNN, preset`. Everything else is imported from
the module it lives in; README.md lists them.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# A thread of PyTorch that waits for the others spins for 300,000 rounds before it sleeps. Where
# another program has the core that they need, it spins in their way: `benchmarks/busy.py`. The
# OpenMP that PyTorch brings reads this when it is loaded; what the user has set stays.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")

if TYPE_CHECKING:
    from mrcnn_edu.config import ModelConfig
    from mrcnn_edu.evaluation.measure import measure
    from mrcnn_edu.evaluation.predict import predict
    from mrcnn_edu.model import MaskRCNN
    from mrcnn_edu.presets import PRESETS, preset
    from mrcnn_edu.record import Detections, Record
    from mrcnn_edu.roi import roi_align, roi_pool, roi_warp
    from mrcnn_edu.training.config import TrainConfig
    from mrcnn_edu.training.train import train
    from mrcnn_edu.weights.checkpoint import load_model

_HOME = {
    "MaskRCNN": "model",
    "ModelConfig": "config",
    "PRESETS": "presets",
    "preset": "presets",
    "Record": "record",
    "Detections": "record",
    "roi_align": "roi",
    "roi_pool": "roi",
    "roi_warp": "roi",
    "TrainConfig": "training.config",
    "train": "training.train",
    "load_model": "weights.checkpoint",
    "predict": "evaluation.predict",
    "measure": "evaluation.measure",
}
__all__ = [  # what ``_HOME`` says, spelled out for type checkers
    "PRESETS",
    "Detections",
    "MaskRCNN",
    "ModelConfig",
    "Record",
    "TrainConfig",
    "load_model",
    "measure",
    "predict",
    "preset",
    "roi_align",
    "roi_pool",
    "roi_warp",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'mrcnn_edu' has no attribute {name!r}")
    return getattr(importlib.import_module(f"mrcnn_edu.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
