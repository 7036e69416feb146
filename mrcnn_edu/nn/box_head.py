"""Box head: what is in each proposal, and what is its exact box?

Features pooled from each RoI go in; K + 1 class logits (class 0 is background) and a box for each
of the K object classes come out. Two fully connected layers, as in Lin et al. (2017), §4.2, or the
mean of res5's output. The heads are modules; sampling and losses are functions beside them, and
`mrcnn_edu.nn.detections` selects what is found. Chapter 08.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mrcnn_edu import boxes as box_ops
from mrcnn_edu.config import ModelConfig
from mrcnn_edu.matching import match, sample_balanced
from mrcnn_edu.nn.layers import Norm, conv3x3, widen
from mrcnn_edu.record import RoISample


class BoxPredictor(nn.Module):
    """The two outputs on one vector a RoI: class logits and box deltas.

    Args:
        channels: of the vector.
        num_classes: K.
        class_agnostic: one box a RoI instead of one for each class.
    """

    def __init__(self, channels: int, num_classes: int, class_agnostic: bool = False) -> None:
        super().__init__()
        self.classes = nn.Linear(channels, num_classes + 1)
        self.deltas = nn.Linear(channels, 4 * (1 if class_agnostic else num_classes))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map x [R, C] to logits [R, K+1] and deltas [R, K, 4], or [R, 1, 4] class-agnostic."""
        return widen(self.classes(x)), widen(self.deltas(x)).unflatten(1, (-1, 4))


class BoxHead(BoxPredictor):
    """Convolutions, fully connected layers, then class logits and box deltas.

    The paper's head has no convolutions and two fully connected layers. From scratch, a few
    normalised convolutions and one fully connected layer learn faster (Wu and He, 2018).

    Args:
        channels: C of the pooled features.
        pool: P of the pooled features.
        hidden: width of the fully connected layers.
        num_classes: K.
        convs: number of 3×3 convolutions.
        fcs: number of fully connected layers, at least 1.
        norm: makes a normalisation layer for each convolution; none by default.
        class_agnostic: one box a RoI instead of one for each class.
    """

    def __init__(
        self,
        channels: int,
        pool: int,
        hidden: int,
        num_classes: int,
        convs: int = 0,
        fcs: int = 2,
        norm: Norm | None = None,
        class_agnostic: bool = False,
    ) -> None:
        sizes = [channels * pool**2] + [hidden] * fcs
        conv_layers = [conv3x3(channels, channels, norm) for _ in range(convs)]
        fc_layers = [nn.Linear(sizes[i], sizes[i + 1]) for i in range(fcs)]
        super().__init__(hidden, num_classes, class_agnostic)
        self.convs, self.fcs = nn.ModuleList(conv_layers), nn.ModuleList(fc_layers)

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Map pooled features [R, C, P, P] to logits [R, K+1] and deltas [R, K, 4]."""
        x = pooled
        for conv in self.convs:
            x = F.relu(conv(x), inplace=True)  # [R, C, P, P]
        x = x.flatten(1)  # [R, C · P · P]
        for fc in self.fcs:
            x = F.relu(fc(x), inplace=True)  # [R, hidden]
        return super().forward(x)


class Res5BoxHead(BoxPredictor):
    """The head of a C4 model: the mean over each RoI of what res5 made of it (paper, Figure 4)."""

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Map res5's output [R, C, P, P] to logits [R, K+1] and deltas [R, K, 4]."""
        return super().forward(features.mean(dim=(2, 3)))


def build_box_head(config: ModelConfig, channels: int, norm: Norm | None) -> BoxPredictor:
    """The box head of a configuration.

    Args:
        config: says which head, and of what size.
        channels: of the RoI features.
        norm: of its convolutions; None for none.
    """
    c = config
    if c.neck == "c4":
        return Res5BoxHead(channels, c.num_classes, c.box_class_agnostic)
    return BoxHead(
        channels,
        c.box_pool,
        c.box_hidden,
        c.num_classes,
        c.box_convs,
        c.box_fcs,
        norm,
        c.box_class_agnostic,
    )


@torch.no_grad()
def sample_rois(
    proposals: Tensor,
    gt_boxes: Tensor,
    gt_labels: Tensor,
    config: ModelConfig,
    generator: torch.Generator,
) -> RoISample:
    """Choose the RoIs of one image that enter the losses.

    The true boxes join the proposals, so that there are positives before the RPN has learnt
    anything. A RoI is positive from IoU `box_fg_iou` on; at most `box_positive_fraction` of the
    sample is positive (paper §3.1: 1:3). Chapter 08.

    Args:
        proposals: [R, 4].
        gt_boxes: [G, 4].
        gt_labels: [G], 1 to K.
        config: threshold and sample size.
        generator: the image's random generator.
    """
    boxes = torch.cat([proposals, gt_boxes])  # [R + G, 4]
    matches = match(gt_boxes, boxes, config.box_fg_iou, config.box_fg_iou, False)  # [R + G]
    positive, negative = sample_balanced(
        matches, config.box_samples, config.box_positive_fraction, generator
    )
    matched = matches[positive]
    labels = torch.cat([gt_labels[matched], gt_labels.new_zeros(len(negative))])
    return RoISample(boxes[torch.cat([positive, negative])], labels, matched, len(positive))


def box_losses(
    logits: Tensor,
    deltas: Tensor,
    samples: Sequence[RoISample],
    gt_boxes: Sequence[Tensor],
    config: ModelConfig,
) -> tuple[Tensor, Tensor, int]:
    """Softmax loss of the class and smooth-L1 loss of the true class's box, summed over RoIs.

    Both are to be divided by the number of sampled RoIs, background included (Girshick 2015, §2.3,
    and torchvision). A batch without positives gives a box loss of zero that still has a gradient.

    Args:
        logits: [R, K+1] for the RoIs of all images in order.
        deltas: [R, K, 4].
        samples: one sample for each image.
        gt_boxes: for each image [G, 4].
        config: box weights and β.

    Returns:
        the sums of the class and of the box loss, both scalars, and the number of sampled RoIs.
    """
    labels = torch.cat([s.labels for s in samples])  # [R]
    targets = torch.cat(
        [
            box_ops.encode(gt[s.matched], s.boxes[: s.num_positive], config.box_weights)
            for s, gt in zip(samples, gt_boxes, strict=True)
        ]
    )  # [P, 4]
    positive = labels.nonzero().squeeze(1)  # [P]
    predicted = of_class(deltas[positive], labels[positive])  # [P, 4]
    box = F.smooth_l1_loss(predicted, targets, beta=config.box_smooth_l1_beta, reduction="sum")
    classes = F.cross_entropy(logits, labels, reduction="sum")
    return classes, box, len(labels)


def of_class(predicted: Tensor, labels: Tensor) -> Tensor:
    """What was predicted for one class of each RoI: [R, K, …] and labels [R] in 1..K to [R, …].

    A class-agnostic prediction [R, 1, …] is the same for every class.
    """
    rows = torch.arange(len(labels), device=labels.device)
    return predicted[rows, labels - 1 if predicted.shape[1] > 1 else 0]
