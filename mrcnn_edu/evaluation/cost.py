"""What a model costs before it has run: its parameters, and the multiply-adds of each part.

Counted on the meta device: shapes without memory or time. Only convolutions and matrix products are
counted; norms, RoIAlign, NMS and pasting are not, as in published counts. Chapters 10 and 17.
"""

from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mrcnn_edu.config import ModelConfig
from mrcnn_edu.model import MaskRCNN

DETECTIONS = 100  # that mask and keypoint heads see


def multiply_adds(module: nn.Module, *inputs: Any) -> tuple[float, Any]:
    """Billions of multiply-adds of one call, and what it returns."""
    with FlopCounterMode(display=False) as counter:
        output = module(*inputs)
    return counter.get_total_flops() / 2e9, output


def count(config: ModelConfig, image: tuple[int, int]) -> dict[str, Any]:
    """Count the parameters of a model, and the multiply-adds of each part for one image.

    Args:
        config: of the model. The box head sees as many proposals as it has at test time, the other
            heads 100 detections.
        image: (height, width) in pixels, as the network sees it.

    Returns:
        `parameters`; `trained`, those that are not frozen; `gmac`, billions of multiply-adds
        by part; and `gmac_total`.
    """
    with torch.device("meta"), torch.no_grad():
        model = MaskRCNN(config).eval()
        gmac: dict[str, float] = {}
        gmac["backbone"], maps = multiply_adds(model.backbone, torch.zeros(1, 3, *image))
        pyramid = maps[-1:]
        if model.neck.fpn is not None:
            gmac["pyramid"], pyramid = multiply_adds(model.neck, maps)
        gmac["RPN"], _ = multiply_adds(model.rpn, pyramid)
        channels, c = pyramid[0].shape[1], config
        heads: list[tuple[str, nn.Module, int, int]] = [
            ("box head", model.box_head, c.rpn_top_after_nms[1], c.box_pool)
        ]
        if model.mask_head is not None:
            heads.append(("mask head", model.mask_head, DETECTIONS, c.mask_pool))
        if model.keypoint_head is not None:
            heads.append(("keypoint head", model.keypoint_head, DETECTIONS, c.keypoint_pool))
        for name, head, rois, pool in heads:
            before, features = multiply_adds(model.res5, torch.zeros(rois, channels, pool, pool))
            own, _ = multiply_adds(head, features)
            gmac[name] = before + own
    parameters = sum(p.numel() for p in model.parameters())
    return {
        "parameters": parameters,
        "trained": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "gmac": {name: round(value, 2) for name, value in gmac.items()},
        "gmac_total": round(sum(gmac.values()), 1),
    }
