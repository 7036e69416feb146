"""Other people's weights: torchvision's and detectron2's detectors, ImageNet's backbones.

With the same weights this package gives the same outputs, so published models can be used, measured
and trained on. `load_detector` builds one to detect with, `begin_from` prepares one for training,
`to_torchvision` leads back. No file is trusted: none of them can run code here. Chapter 13.
"""

from mrcnn_edu.weights.load import Beginning, begin_from, load_detector, unnamed
from mrcnn_edu.weights.torchvision import to_torchvision

__all__ = ["Beginning", "begin_from", "load_detector", "to_torchvision", "unnamed"]
