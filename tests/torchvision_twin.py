"""torchvision's Mask R-CNN with the weights of one of ours, to compare them stage by stage."""

import torch
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN as TorchvisionMaskRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops import FrozenBatchNorm2d

from mrcnn_edu.config import ModelConfig
from mrcnn_edu.matching import BELOW, BETWEEN, sample_balanced
from mrcnn_edu.model import MaskRCNN

PREFIXES = {
    "trunk.stem.0.": "backbone.body.conv1.",
    "trunk.stem.1.": "backbone.body.bn1.",
    **{f"trunk.stages.{i}.": f"backbone.body.layer{i + 1}." for i in range(4)},
    **{f"fpn.lateral.{i}.0.": f"backbone.fpn.inner_blocks.{i}.0." for i in range(4)},
    **{f"fpn.output.{i}.0.": f"backbone.fpn.layer_blocks.{i}.0." for i in range(4)},
    "rpn.convs.0.": "rpn.head.conv.0.0.",
    "rpn.objectness.": "rpn.head.cls_logits.",
    "rpn.deltas.": "rpn.head.bbox_pred.",
    "box_head.fcs.0.": "roi_heads.box_head.fc6.",
    "box_head.fcs.1.": "roi_heads.box_head.fc7.",
    "box_head.classes.": "roi_heads.box_predictor.cls_score.",
    "box_head.deltas.": "roi_heads.box_predictor.bbox_pred.",
    **{f"mask_head.convs.{i}.0.": f"roi_heads.mask_head.{i}.0." for i in range(4)},
    "mask_head.deconv.": "roi_heads.mask_predictor.conv5_mask.",
    "mask_head.masks.": "roi_heads.mask_predictor.mask_fcn_logits.",
}
BACKGROUND_ROWS = {"box_head.deltas.": 4, "mask_head.masks.": 1}


def torchvision_name(name: str) -> str:
    for ours, theirs in PREFIXES.items():
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    raise KeyError(name)


def twin_of(model: MaskRCNN) -> TorchvisionMaskRCNN:
    """Build torchvision's R50-FPN with the same weights; its unused background rows are zero."""
    c: ModelConfig = model.config
    backbone = resnet_fpn_backbone(
        backbone_name="resnet50",
        weights=None,
        norm_layer=lambda n: FrozenBatchNorm2d(n, eps=c.frozen_bn_eps),
        trainable_layers=3,
    )
    theirs = TorchvisionMaskRCNN(
        backbone, num_classes=c.num_classes + 1, min_size=c.short_side, max_size=c.long_side
    )
    with torch.no_grad():
        state = theirs.state_dict()
        for name, value in model.state_dict().items():
            rows = next((n for p, n in BACKGROUND_ROWS.items() if name.startswith(p)), 0)
            state[torchvision_name(name)].zero_()[rows:].copy_(value)
    return theirs


def strip_background(name: str, value: Tensor) -> Tensor:
    """The part of one of torchvision's tensors that ours has too."""
    rows = next((n for p, n in BACKGROUND_ROWS.items() if name.startswith(p)), 0)
    return value[rows:]


class SameSampler:
    """Stands in for torchvision's sampler and draws what ours draws."""

    def __init__(self, num: int, fraction: float, generators: list[torch.Generator]) -> None:
        self.num, self.fraction, self.generators = num, fraction, generators

    def __call__(self, labels: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        positives, negatives = [], []
        for label, generator in zip(labels, self.generators, strict=True):
            matches = torch.full_like(label, BETWEEN, dtype=torch.int64)
            matches[label >= 1] = 0
            matches[label == 0] = BELOW
            chosen = sample_balanced(matches, self.num, self.fraction, generator)
            for index, masks in zip(chosen, (positives, negatives), strict=True):
                mask = torch.zeros_like(label, dtype=torch.bool)
                mask[index] = True
                masks.append(mask)
        return positives, negatives


def randomise_frozen_statistics(model: nn.Module, generator: torch.Generator) -> None:
    """Give frozen batch norms statistics of a trained size: activations neither die nor grow."""
    for name, buffer in model.named_buffers():
        if name.endswith("running_var") or name.endswith(".weight"):
            buffer.copy_(0.5 + torch.rand(buffer.shape, generator=generator))
        elif name.endswith("running_mean") or name.endswith(".bias"):
            buffer.copy_(0.2 * torch.randn(buffer.shape, generator=generator))
