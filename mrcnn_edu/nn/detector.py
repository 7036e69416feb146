"""What a detector is to those who train, measure and use it; and what two-stage ones share.

`Detector` is the interface: images to a record, losses of a record, detections of a record.
`TwoStage` is a detector's first half, the same in Mask R-CNN, MNC and FCIS: backbone, neck and
RPN. Chapters 10 and 18.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mrcnn_edu.config import ModelConfig
from mrcnn_edu.nn.inputs import check_images, check_targets
from mrcnn_edu.nn.losses import Sum, divide
from mrcnn_edu.nn.neck import build_neck
from mrcnn_edu.nn.proposals import propose
from mrcnn_edu.nn.resnet import build_backbone
from mrcnn_edu.nn.rpn import RPNHead, rpn_losses
from mrcnn_edu.record import Proposals, Record


class Detector(nn.Module, ABC):
    """All that training and evaluation ask of a model.

    Attributes:
        config: every number of it; sizes of images, thresholds and counts are read from there.
    """

    config: ModelConfig

    @abstractmethod
    def forward(self, images: Sequence[Tensor]) -> Record:
        """Run what does not depend on the targets, on images [3, H, W], RGB in 0..1."""

    @abstractmethod
    def loss_sums(
        self,
        record: Record,
        targets: Sequence[dict[str, Tensor]],
        generators: Sequence[torch.Generator],
    ) -> dict[str, Sum]:
        """Return each loss as a sum and the count to divide it by.

        Args:
            record, targets, generators: as in `losses`.

        Returns:
            (sum, count) by the name of the loss.
        """

    @abstractmethod
    def detect(self, record: Record) -> Record:
        """Return the record completed with detections."""

    def losses(
        self,
        record: Record,
        targets: Sequence[dict[str, Tensor]],
        generators: Sequence[torch.Generator],
    ) -> dict[str, Tensor]:
        """Return the losses of the paper; training minimises their sum (§3, equation L).

        Args:
            record: of the same images.
            targets: for each image `boxes` [G, 4], `labels` [G], with a mask head `masks`
                [G, H, W] and with a keypoint head `keypoints` [G, J, 3]; G may be 0.
            generators: one for each image; all sampling of that image draws from it.

        Returns:
            scalars by the name of the loss: `rpn_objectness`, `rpn_box`, `box_class`, `box` and,
            as far as there are heads, `mask` and `keypoint`.

        Raises:
            ValueError: a target is not one that losses can be computed with.
        """
        c = self.config
        needed = {"masks": c.mask_head != "none", "keypoints": c.keypoints > 0}
        keys = [key for key, is_needed in needed.items() if is_needed]
        check_targets(targets, record.image_sizes, c.num_classes, keys)
        return divide(self.loss_sums(record, targets, generators))


class TwoStage(Detector):
    """Backbone, neck and RPN: everything up to the proposals.

    Args:
        config: every number of it.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        c = self.config = config
        # res5 is an identity but with c4
        self.backbone, self.res5, self.backbone_channels = build_backbone(c)
        self.neck = build_neck(c, self.backbone_channels)
        self.rpn = RPNHead(
            self.neck.channels,
            self.neck.anchors_per_cell,
            c.rpn_convs,
            c.rpn_classifier == "softmax",
        )

    def forward(self, images: Sequence[Tensor]) -> Record:
        """Run backbone, neck and RPN.

        Args:
            images: each [3, H, W], RGB in 0..1, of any sizes; or a batch of one size.

        Returns:
            the record, without proposals and detections.

        Raises:
            ValueError: an image is not a float tensor [3, H, W].
        """
        batch, sizes = self.batch(images)  # [N, 3, H, W]
        backbone_maps = self.backbone(batch)
        pyramid = self.neck(backbone_maps)
        objectness, deltas = self.rpn(pyramid)
        anchors = self.neck.anchors(pyramid, (batch.shape[2], batch.shape[3]))
        return Record(batch, sizes, backbone_maps, pyramid, anchors, objectness, deltas)

    def batch(self, images: Sequence[Tensor]) -> tuple[Tensor, list[tuple[int, int]]]:
        """Normalise images and pad them right and below to one size.

        Args:
            images: each [3, H, W], RGB in 0..1.

        Returns:
            the batch [N, 3, H, W], channels last in memory, and each image's (height, width).
        """
        images = check_images(images, next(self.parameters()).dtype)
        multiple = self.config.size_multiple
        height, width = (
            -(-max(image.shape[side] for image in images) // multiple) * multiple for side in (1, 2)
        )
        mean, std = (
            images[0].new_tensor(values)[:, None, None]  # [3, 1, 1]
            for values in (self.config.pixel_mean, self.config.pixel_std)
        )
        padded = [
            F.pad((x - mean) / std, (0, width - x.shape[2], 0, height - x.shape[1])) for x in images
        ]
        batch = torch.stack(padded).contiguous(memory_format=torch.channels_last)  # [N, 3, H, W]
        return batch, [(image.shape[1], image.shape[2]) for image in images]

    def propose(self, record: Record, training: bool) -> list[Proposals]:
        """Return the proposals of each image, with the training or the test counts."""
        return propose(
            record.objectness,
            record.deltas,
            torch.cat(record.anchors),
            [len(a) for a in record.anchors],
            record.image_sizes,
            self.config,
            training,
        )

    def rpn_sums(
        self, record: Record, gt_boxes: Sequence[Tensor], generators: Sequence[torch.Generator]
    ) -> dict[str, Sum]:
        """Return the two losses of the RPN, `rpn_objectness` and `rpn_box`, as sums and counts.

        Args:
            record: of the images.
            gt_boxes: [G, 4] of each image.
            generators: one for each image; anchors are sampled from it.
        """
        objectness, box, sampled = rpn_losses(
            record.objectness,
            record.deltas,
            torch.cat(record.anchors),
            gt_boxes,
            self.config,
            generators,
            record.image_sizes,
        )
        return {"rpn_objectness": (objectness, sampled), "rpn_box": (box, sampled)}
