"""Keypoint head: where in its box is each of a person's joints?

A keypoint is a mask with one pixel on (paper §5): features pooled from each RoI go in, one M×M map
of logits for each of the 17 joints comes out, and a softmax over the M² cells says in which of them
the joint lies. The head is the module; targets, loss and decoding are functions beside it.

Joints are (x, y, v) in continuous coordinates, so that the centre of pixel j is j + ½; v is COCO's
visibility: 0 not labelled, 1 labelled but hidden, 2 visible. J is the number of joints.
Chapter 16.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mrcnn_edu.nn.layers import conv3x3, widen


class KeypointHead(nn.Module):
    """Convolutions, a ×2 deconvolution to one map a joint, and ×2 bilinear interpolation.

    The paper's head has eight convolutions of 512 channels and takes 14×14 to 56×56 (§5): joints
    need a finer map than masks do.

    Args:
        in_channels: C of the pooled features.
        channels: of every hidden layer.
        convs: number of 3×3 convolutions.
        num_keypoints: J.
    """

    def __init__(
        self, in_channels: int, channels: int = 512, convs: int = 8, num_keypoints: int = 17
    ) -> None:
        super().__init__()
        sizes = [in_channels] + [channels] * convs
        self.convs = nn.ModuleList(conv3x3(sizes[i], sizes[i + 1], None) for i in range(convs))
        self.deconv = nn.ConvTranspose2d(sizes[-1], num_keypoints, 4, stride=2, padding=1)
        nn.init.kaiming_normal_(self.deconv.weight, mode="fan_out", nonlinearity="relu")
        assert self.deconv.bias is not None
        nn.init.zeros_(self.deconv.bias)

    def forward(self, pooled: Tensor) -> Tensor:
        """Map pooled features [R, C, P, P] to logits [R, J, M, M], M = 4 P."""
        x = pooled
        for conv in self.convs:
            x = F.relu(conv(x), inplace=True)  # [R, channels, P, P]
        x = self.deconv(x)  # [R, J, 2P, 2P]
        x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
        return widen(x)  # [R, J, 4P, 4P]


def keypoint_targets(keypoints: Tensor, boxes: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Say in which cell of its box's M×M grid each joint lies, and which joints count.

    A joint counts if it is labelled (v > 0) and inside the box; one that lies exactly on the right
    or lower edge belongs to the last column or row. Equal to torchvision's `keypoints_to_heatmap`.
    Chapter 16.

    Args:
        keypoints: [R, J, 3], the joints of each box's object, in pixels.
        boxes: [R, 4].
        size: M.

    Returns:
        the cell of each joint [R, J], row · M + column, 0 where it does not count; and whether it
        counts [R, J].
    """
    corner, far = boxes[:, None, :2], boxes[:, None, 2:]  # [R, 1, 2]
    place = keypoints[..., :2]  # [R, J, 2]
    # Multiplying by the scale, in this order, rounds as torchvision does.
    cell = ((place - corner) * (size / (far - corner))).floor()  # [R, J, 2]
    cell = torch.where(place == far, size - 1, cell)
    inside = ((cell >= 0) & (cell < size)).all(dim=-1)  # [R, J]
    counts = inside & (keypoints[..., 2] > 0)
    column, row = torch.where(counts[..., None], cell, 0).long().unbind(-1)  # [R, J] each
    return row * size + column, counts


def keypoint_loss(logits: Tensor, boxes: Tensor, keypoints: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy over the M² cells, summed over the joints that count (paper §5).

    Sum and count come apart so that a caller can divide by the count of a whole distributed batch.
    torchvision and detectron2 divide by the count, at least 1. With no joint the sum is zero and
    still has a gradient. Chapter 16.

    Args:
        logits: [R, J, M, M] of the positive RoIs.
        boxes: [R, 4], the same RoIs.
        keypoints: [R, J, 3], the joints of the object each RoI was matched with.

    Returns:
        the sum and the number of joints in it, both scalars (float32).

    Raises:
        ValueError: the targets have another number of joints than the logits.
    """
    if keypoints.shape[1] != logits.shape[1]:
        raise ValueError(
            f"The head predicts {logits.shape[1]} joints an object, the targets have "
            f"{keypoints.shape[1]}: build the model with keypoints={keypoints.shape[1]}."
        )
    cells, counts = keypoint_targets(keypoints, boxes, logits.shape[-1])  # [R, J] each
    chosen = logits.float().flatten(2)[counts]  # [counted, M · M]
    loss = F.cross_entropy(chosen, cells[counts], reduction="sum")
    return loss, counts.sum().to(torch.float32)


@torch.no_grad()
def decode_keypoints(logits: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Find the joints: the best cell of each map after resizing it to its box's size in pixels.

    Resizing with bicubic interpolation places a joint finer than the 56×56 grid would. Equal to
    torchvision's `heatmaps_to_keypoints`, which is Detectron's rule. Chapter 16.

    Args:
        logits: [D, J, M, M].
        boxes: [D, 4], in pixels.

    Returns:
        joints [D, J, 3], in pixels, the third number always 1; and the logit at each [D, J].
    """
    extent = (boxes[:, 2:] - boxes[:, :2]).clamp(min=1)  # [D, 2], width and height
    pixels = extent.ceil()  # [D, 2]
    joints = logits.shape[1]
    found = logits.new_ones((len(logits), joints, 3), dtype=torch.float32)
    scores = logits.new_zeros((len(logits), joints), dtype=torch.float32)
    for d, (width, height) in enumerate(pixels.long().tolist()):
        maps = F.interpolate(
            logits[d, None].float(), (height, width), mode="bicubic", align_corners=False
        )[0].flatten(1)  # [J, height · width]
        scores[d], best = maps.max(dim=1)  # [J]
        cell = torch.stack((best % width, best // width), dim=1).float()  # [J, 2]
        found[d, :, :2] = (cell + 0.5) * (extent[d] / pixels[d]) + boxes[d, :2]
    return found, scores
