"""torchvision's detectors with the weights of one of ours, to compare them stage by stage."""

import re
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import detection
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops import FrozenBatchNorm2d

from mrcnn_edu.config import ModelConfig
from mrcnn_edu.matching import BELOW, BETWEEN, sample_balanced
from mrcnn_edu.model import MaskRCNN

RENAMES = (
    (r"^backbone\.stem\.0\.", r"backbone.body.conv1."),
    (r"^backbone\.stem\.1\.", r"backbone.body.bn1."),
    (r"^backbone\.stages\.0\.", r"backbone.body.layer1."),
    (r"^backbone\.stages\.1\.", r"backbone.body.layer2."),
    (r"^backbone\.stages\.2\.", r"backbone.body.layer3."),
    (r"^backbone\.stages\.3\.", r"backbone.body.layer4."),
    (r"^neck\.fpn\.lateral\.", r"backbone.fpn.inner_blocks."),
    (r"^neck\.fpn\.output\.", r"backbone.fpn.layer_blocks."),
    (r"^rpn\.convs\.(\d)\.", r"rpn.head.conv.\1.0."),
    (r"^rpn\.objectness\.", r"rpn.head.cls_logits."),
    (r"^rpn\.deltas\.", r"rpn.head.bbox_pred."),
    (r"^box_head\.convs\.", r"roi_heads.box_head."),
    (r"^box_head\.classes\.", r"roi_heads.box_predictor.cls_score."),
    (r"^box_head\.deltas\.", r"roi_heads.box_predictor.bbox_pred."),
    (r"^mask_head\.convs\.", r"roi_heads.mask_head."),
    (r"^mask_head\.deconv\.", r"roi_heads.mask_predictor.conv5_mask."),
    (r"^mask_head\.masks\.", r"roi_heads.mask_predictor.mask_fcn_logits."),
    (r"^keypoint_head\.deconv\.", r"roi_heads.keypoint_predictor.kps_score_lowres."),
)
BACKGROUND_ROWS = {"box_head.deltas.": 4, "mask_head.masks.": 1}


def torchvision_name(name: str, config: ModelConfig) -> str:
    """What torchvision calls one of our tensors."""
    if match := re.match(r"box_head\.fcs\.(\d)\.(\w+)", name):
        number, what = match.groups()
        if config.box_convs == 0:
            return f"roi_heads.box_head.fc{6 + int(number)}.{what}"
        return f"roi_heads.box_head.{config.box_convs + 1}.{what}"  # behind a Flatten
    if match := re.match(r"keypoint_head\.convs\.(\d)\.0\.(\w+)", name):
        number, what = match.groups()
        return f"roi_heads.keypoint_head.{2 * int(number)}.{what}"  # a ReLU behind each
    for ours, theirs in RENAMES:
        renamed, count = re.subn(ours, theirs, name)
        if count:
            return renamed
    raise KeyError(name)


def twin_of(model: MaskRCNN) -> nn.Module:
    """Build torchvision's detector with the same weights; its unused background rows are zero."""
    c: ModelConfig = model.config
    options: dict[str, Any] = {
        "min_size": c.short_side,
        "max_size": c.long_side,
        "num_classes": c.num_classes + 1,
        "rpn_pre_nms_top_n_train": c.rpn_top_before_nms[0],
        "rpn_pre_nms_top_n_test": c.rpn_top_before_nms[1],
        "rpn_post_nms_top_n_train": c.rpn_top_after_nms[0],
        "rpn_post_nms_top_n_test": c.rpn_top_after_nms[1],
        "box_batch_size_per_image": c.box_samples,
        "box_detections_per_img": c.detections_per_image,
    }
    if c.backbone_norm == "batch_norm":
        build = (
            detection.maskrcnn_resnet50_fpn_v2 if c.box_convs else detection.maskrcnn_resnet50_fpn
        )
        theirs = build(weights=None, weights_backbone=None, **options)
    else:
        backbone = resnet_fpn_backbone(
            backbone_name="resnet50",
            weights=None,
            norm_layer=lambda n: FrozenBatchNorm2d(n, eps=c.frozen_bn_eps),
            trainable_layers=5 - c.frozen_stages,
        )
        if c.keypoints:
            theirs = detection.KeypointRCNN(backbone, num_keypoints=c.keypoints, **options)
        elif c.mask_head == "none":
            theirs = detection.FasterRCNN(backbone, **options)
        else:
            theirs = detection.MaskRCNN(backbone, **options)
    with torch.no_grad():
        state = theirs.state_dict()
        ours = model.state_dict()
        assert {torchvision_name(name, c) for name in ours} == state.keys()
        for name, value in ours.items():
            target, skipped = state[torchvision_name(name, c)], background_rows(name)
            target.zero_()
            (target[skipped:] if skipped else target).copy_(value)
    return theirs


def background_rows(name: str) -> int:
    """Rows of torchvision's tensor that belong to the background, which ours does not have."""
    return next((n for prefix, n in BACKGROUND_ROWS.items() if name.startswith(prefix)), 0)


@torch.no_grad()
def busy_model(config: ModelConfig, images: list[Tensor]) -> MaskRCNN:
    """A model of random weights that proposes, and detects, as many boxes as it may."""
    torch.manual_seed(0)
    model = MaskRCNN(config).eval()
    randomise_statistics(model, torch.Generator().manual_seed(0))
    record = model(images)
    model.rpn.objectness.weight.mul_(2 / record.objectness.std())
    model.rpn.deltas.weight.mul_(0.3 / record.deltas.std())
    record = model(images)
    rois = [p.boxes for p in model.propose(record, training=False)]
    logits, deltas = model.box_head(model.roi_features(record, rois, config.box_pool))
    assert len(logits) > 50
    # Every class scores about as often as every other, with a spread of 3 between RoIs.
    scale = 3 / logits.std(dim=0)  # [K + 1]
    model.box_head.classes.weight.mul_(scale[:, None])
    model.box_head.classes.bias.sub_(logits.mean(dim=0)).mul_(scale)
    model.box_head.deltas.weight.mul_(0.5 / deltas.std())
    if model.mask_head is not None:  # masks near 0.5, where an error shows
        masks = model.mask_head(model.roi_features(record, rois, config.mask_pool))
        model.mask_head.masks.weight.div_(masks.std())
    return model


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


def randomise_statistics(model: nn.Module, generator: torch.Generator) -> None:
    """Give batch norms statistics of a trained size: activations neither die nor grow."""
    for module in model.modules():
        if not hasattr(module, "running_var"):
            continue
        for tensor in (module.running_var, module.weight):
            tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
        for tensor in (module.running_mean, module.bias):
            tensor.copy_(0.2 * torch.randn(tensor.shape, generator=generator))
