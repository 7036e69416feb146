"""Mask head: which pixels of a RoI belong to its object?

A small fully convolutional network, run on each RoI, gives one M×M mask for each of the K classes
(paper §3 and Figure 4, right). Each mask passes its own sigmoid, and only the mask of the true
class enters the loss: the class branch decides the class, so masks of different classes never
compete. Chapter 09.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mrcnn_edu.config import ModelConfig
from mrcnn_edu.masks import crop_to_boxes
from mrcnn_edu.nn.box_head import RoISample
from mrcnn_edu.nn.resnet import Norm, conv3x3


class MaskHead(nn.Module):
    """Convolutions, a ×2 deconvolution, and one 1×1 convolution to K masks.

    Args:
        in_channels: C of the pooled features.
        channels: of every hidden layer.
        convs: number of 3×3 convolutions.
        num_classes: K.
        norm: makes a normalisation layer for each 3×3 convolution; none by default.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        convs: int,
        num_classes: int,
        norm: Norm | None = None,
    ) -> None:
        super().__init__()
        sizes = [in_channels] + [channels] * convs
        self.convs = nn.ModuleList(conv3x3(sizes[i], sizes[i + 1], norm) for i in range(convs))
        self.deconv = nn.ConvTranspose2d(sizes[-1], channels, 2, stride=2)
        self.masks = nn.Conv2d(channels, num_classes, 1)
        for layer in (self.deconv, self.masks):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def forward(self, pooled: Tensor) -> Tensor:
        """Map pooled features [R, C, P, P] to mask logits [R, K, M, M], M = 2 P."""
        x = pooled
        for conv in self.convs:
            x = F.relu(conv(x), inplace=True)  # [R, channels, P, P]
        x = F.relu(self.deconv(x), inplace=True)  # [R, channels, M, M]
        return self.masks(x).float()  # [R, K, M, M]


def mask_loss(
    logits: Tensor,
    samples: Sequence[RoISample],
    gt_masks: Sequence[Tensor],
    config: ModelConfig,
) -> dict[str, Tensor]:
    """Mean binary cross-entropy of the true class's mask over all positive RoIs (paper §3).

    The target of a RoI is its object's mask cropped to the RoI and resampled to M×M. A batch
    without positives gives a loss of zero that still has a gradient. Chapter 09.

    Args:
        logits: [P, K, M, M] for the positive RoIs of all images in order.
        samples: one sample for each image.
        gt_masks: for each image [G, H, W], 0 or 1.
        config: whether targets are cropped aligned.

    Returns:
        ``mask``, a scalar.
    """
    labels = torch.cat([s.labels[: s.num_positive] for s in samples])  # [P]
    targets = torch.cat(
        [
            crop_to_boxes(
                masks,
                s.boxes[: s.num_positive],
                s.matched,
                logits.shape[-1],
                aligned=config.mask_targets_aligned,
            )
            for s, masks in zip(samples, gt_masks, strict=True)
        ]
    )  # [P, M, M]
    of_true_class = logits[torch.arange(len(labels), device=logits.device), labels - 1]  # [P, M, M]
    loss = F.binary_cross_entropy_with_logits(of_true_class, targets, reduction="sum")
    return {"mask": loss / max(1, targets.numel())}


def predicted_class_masks(logits: Tensor, labels: Tensor) -> Tensor:
    """Pick the mask of each detection's class: [D, K, M, M] -> probabilities [D, M, M]."""
    index = torch.arange(len(labels), device=labels.device)
    return logits[index, labels - 1].sigmoid()
