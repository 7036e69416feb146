"""The roofline: the least time that a layer needs on a machine, whatever its code.

A machine multiplies and adds so many numbers per second at most, and moves so many bytes per
second between processor and memory at most. A layer needs the longer of the two times (Williams,
Waterman and Patterson 2009). Which one it is follows from its intensity, multiply-adds per byte.
`layers` meets every convolution and matrix product of a model on the meta device: shapes without
memory or time. Chapter 17.
"""

from collections import Counter
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from mrcnn_edu.config import ModelConfig
from mrcnn_edu.evaluation.cost import DETECTIONS
from mrcnn_edu.model import MaskRCNN

FLOAT = 4  # bytes of a float32


@dataclass(frozen=True)
class Machine:
    """The two roofs.

    Args:
        peak: multiply-adds per second.
        bandwidth: bytes per second.
    """

    peak: float
    bandwidth: float

    @property
    def ridge(self) -> float:
        """Multiply-adds per byte where the roofs meet."""
        return self.peak / self.bandwidth

    def least_seconds(self, multiply_adds: float, moved: float) -> float:
        """What so many multiply-adds and moved bytes take at least."""
        return max(multiply_adds / self.peak, moved / self.bandwidth)

    def roof(self, multiply_adds: float, moved: float) -> str:
        """Which roof sets that time: "compute", or "memory" below the ridge."""
        return "compute" if multiply_adds >= self.ridge * moved else "memory"


@dataclass(frozen=True)
class Layer:
    """A convolution or a matrix product as a model calls it.

    Args:
        stage: the part of the model that calls it.
        input: shape of what goes in: [N, C, H, W], or [R, C] of a matrix product.
        weight: shape: [C', C / groups, k, k], transposed [C, C' / groups, k, k], or [C', C].
        output: shape of what comes out.
        options: of a convolution: stride, padding, dilation, transposed, output padding, groups;
            empty for a matrix product.
    """

    stage: str
    input: tuple[int, ...]
    weight: tuple[int, ...]
    output: tuple[int, ...]
    options: tuple[Any, ...] = ()

    @property
    def multiply_adds(self) -> int:
        """Each output sums over one filter; where transposed, each input feeds one."""
        transposed = bool(self.options and self.options[3])
        return prod(self.input if transposed else self.output) * prod(self.weight[1:])

    @property
    def moved(self) -> int:
        """Bytes: input and weight read once, output written once, in float32.

        It is the least but for a 1×1 convolution of stride 2, which needs a quarter of its input.
        """
        return FLOAT * (prod(self.input) + prod(self.weight) + prod(self.output))

    @property
    def kind(self) -> str:
        """Such as "3×3 conv", "2×2 deconv", "linear"."""
        if not self.options:
            return "linear"
        side = f"{self.weight[2]}×{self.weight[3]}"
        return f"{side} {'deconv' if self.options[3] else 'conv'}"

    def run(self, x: Tensor, weight: Tensor) -> Tensor:
        """Compute it once, without a bias."""
        if not self.options:
            return nn.functional.linear(x, weight)
        return torch.convolution(x, weight, None, *self.options)


class _Listener(TorchDispatchMode):
    """Notes each convolution and matrix product that PyTorch dispatches."""

    def __init__(self) -> None:
        super().__init__()
        self.stage = ""
        self.met: Counter[Layer] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.convolution.default:
            options = tuple(tuple(o) if isinstance(o, list) else o for o in args[3:])
            self.note(args[0].shape, args[1].shape, result.shape, options)
        elif func in (torch.ops.aten.addmm.default, torch.ops.aten.mm.default):
            x, weight = args[-2:]  # the weight is given transposed
            self.note(x.shape, weight.shape[::-1], result.shape)
        return result

    def note(self, x: Any, weight: Any, output: Any, options: tuple = ()) -> None:
        self.met[Layer(self.stage, tuple(x), tuple(weight), tuple(output), options)] += 1


def layers(config: ModelConfig, image: tuple[int, int]) -> dict[Layer, int]:
    """Every different convolution and matrix product of one pass, and how often it occurs.

    Args:
        config: of the model. The box head sees as many proposals as it has at test time, the other
            heads 100 detections, as in `cost.count`.
        image: (height, width) in pixels, as the network sees it.
    """
    listener = _Listener()
    with torch.device("meta"), torch.no_grad():
        model, c = MaskRCNN(config).eval(), config

        def listen(stage: str, part: nn.Module, given: Any) -> Any:
            listener.stage = stage
            with listener:
                return part(given)

        maps = listen("backbone", model.backbone, torch.zeros(1, 3, *image))
        pyramid = maps[-1:]
        if model.neck.fpn is not None:
            pyramid = listen("pyramid", model.neck, maps)
        listen("RPN", model.rpn, pyramid)
        heads: list[tuple[str, nn.Module | None, int, int]] = [
            ("box head", model.box_head, c.rpn_top_after_nms[1], c.box_pool),
            ("mask head", model.mask_head, DETECTIONS, c.mask_pool),
            ("keypoint head", model.keypoint_head, DETECTIONS, c.keypoint_pool),
        ]
        for name, head, rois, pool in heads:
            if head is not None:
                features = torch.zeros(rois, pyramid[0].shape[1], pool, pool)
                listen(name, head, listen(name, model.res5, features))
    return dict(listener.met)
