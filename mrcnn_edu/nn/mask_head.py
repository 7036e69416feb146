"""Mask head: which pixels of a RoI belong to its object?

A small fully convolutional network, run on each RoI, gives one M×M mask for each of the K classes
(paper §3 and Figure 4, right). Each mask passes its own sigmoid, and only the mask of the true
class enters the loss: the class branch decides the class, so masks of different classes never
compete. The paper's ablations are here too: fully connected layers instead of convolutions (table
2e), a softmax in which the classes compete for each pixel (table 2b), one mask for all classes.
Chapter 09.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mrcnn_edu.config import ModelConfig
from mrcnn_edu.masks import crop_to_boxes
from mrcnn_edu.nn.box_head import of_class
from mrcnn_edu.nn.layers import Norm, conv3x3, widen
from mrcnn_edu.record import RoISample


class MaskHead(nn.Module):
    """Convolutions, a ×2 deconvolution, and one 1×1 convolution to K masks.

    Args:
        in_channels: C of the pooled features.
        channels: of every hidden layer.
        convs: number of 3×3 convolutions.
        num_masks: K, or K + 1 for a softmax, or 1 class-agnostic.
        norm: makes a normalisation layer for each 3×3 convolution; none by default.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        convs: int,
        num_masks: int,
        norm: Norm | None = None,
    ) -> None:
        super().__init__()
        sizes = [in_channels] + [channels] * convs
        self.convs = nn.ModuleList(conv3x3(sizes[i], sizes[i + 1], norm) for i in range(convs))
        self.deconv = nn.ConvTranspose2d(sizes[-1], channels, 2, stride=2)
        self.masks = nn.Conv2d(channels, num_masks, 1)
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
        return widen(self.masks(x))  # [R, K, M, M]


class MLPMaskHead(nn.Module):
    """Fully connected layers instead: each pixel has weights of its own (paper, table 2e).

    Args:
        in_channels: C of the pooled features.
        pool: P of the pooled features.
        hidden: width of the hidden layers.
        fcs: number of hidden layers.
        num_masks: as for `MaskHead`.
    """

    def __init__(self, in_channels: int, pool: int, hidden: int, fcs: int, num_masks: int) -> None:
        super().__init__()
        sizes = [in_channels * pool**2] + [hidden] * fcs
        self.fcs = nn.ModuleList(nn.Linear(sizes[i], sizes[i + 1]) for i in range(fcs))
        self.side = 2 * pool  # M
        self.masks = nn.Linear(sizes[-1], num_masks * self.side**2)

    def forward(self, pooled: Tensor) -> Tensor:
        """Map pooled features [R, C, P, P] to mask logits [R, K, M, M], M = 2 P."""
        x = pooled.flatten(1)  # [R, C · P · P]
        for fc in self.fcs:
            x = F.relu(fc(x), inplace=True)  # [R, hidden]
        return widen(self.masks(x)).unflatten(1, (-1, self.side, self.side))  # [R, K, M, M]


def build_mask_head(config: ModelConfig, in_channels: int, norm: Norm | None) -> nn.Module | None:
    """The mask head of a configuration; None for Faster R-CNN.

    Args:
        config: says which head, and of what size.
        in_channels: of the RoI features.
        norm: of its convolutions; None for none.
    """
    c = config
    outputs = {"sigmoid": c.num_classes, "softmax": c.num_classes + 1, "agnostic": 1}
    masks = outputs[c.mask_prediction]
    if c.mask_head == "none":
        return None
    if c.mask_head == "mlp":
        return MLPMaskHead(in_channels, c.mask_pool, c.mask_hidden, c.mask_fcs, masks)
    return MaskHead(in_channels, c.mask_channels, c.mask_convs, masks, norm)


def mask_loss(
    logits: Tensor,
    samples: Sequence[RoISample],
    gt_masks: Sequence[Tensor],
    config: ModelConfig,
) -> tuple[Tensor, int]:
    """Cross-entropy, summed over the pixels of all positive RoIs (paper §3).

    With `mask_prediction="sigmoid"` that of the true class's mask alone, binary; with `"softmax"`
    over K + 1 classes, where a pixel outside the object is background. The target of a RoI is its
    object's mask cropped to the RoI and resampled to M×M. The loss of the paper is the mean: to be
    divided by the count. A batch without positives gives a loss of zero that still has a gradient.
    Chapter 09.

    Args:
        logits: [P, K, M, M] for the positive RoIs of all images in order.
        samples: one sample for each image.
        gt_masks: for each image [G, H, W], 0 or 1.
        config: how targets are cropped, and the kind of prediction.

    Returns:
        the sum, a scalar, and the number of pixels in it, P · M · M.
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
    ).to(logits)  # [P, M, M]
    if config.mask_targets_binary:
        targets = (targets >= 0.5).to(logits)
    if config.mask_prediction == "softmax":
        classes = torch.where(targets >= 0.5, labels[:, None, None], 0)  # [P, M, M]
        loss = F.cross_entropy(logits, classes, reduction="sum")
    else:
        of_true_class = of_class(logits, labels)  # [P, M, M]
        loss = F.binary_cross_entropy_with_logits(of_true_class, targets, reduction="sum")
    return loss, targets.numel()


def predicted_class_masks(logits: Tensor, labels: Tensor, softmax: bool = False) -> Tensor:
    """Pick the mask of each detection's class: [D, K, M, M] -> probabilities [D, M, M].

    Args:
        logits: of `MaskHead`; with `softmax` K + 1 a detection, the first background.
        labels: [D], 1 to K.
        softmax: classes compete for each pixel.
    """
    if softmax:
        return of_class(logits.softmax(dim=1)[:, 1:], labels)
    return of_class(logits, labels).sigmoid()
