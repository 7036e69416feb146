"""The objects of a data set as things to ask a promptable segmenter about.

What backbone and neck make of an image does not depend on the prompt, nor on anything that a frozen
encoder's decoder learns. So it is made once for each image and kept. Chapter 19.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from mrcnn_edu.data.dataset import Dataset
from mrcnn_edu.data.transforms import to_float
from mrcnn_edu.related.clicks import touching_groups
from mrcnn_edu.related.promptable import ImageEncoder


@dataclass(frozen=True)
class PromptedObjects:
    """The objects of a data set, with what backbone and neck make of its images."""

    pyramid: list[Tensor]  # P2 to P5, each [N, C, H_l, W_l], float16
    masks: Tensor  # [O, M, M] bool, M the side of the segmenter's masks
    image: Tensor  # [O], which image each object is in
    group: Tensor  # [O], which group it belongs to
    group_masks: Tensor  # [groups, M, M] bool

    def alone(self) -> Tensor:
        """Whether each object touches no other: [O]."""
        return torch.bincount(self.group)[self.group] == 1


@torch.no_grad()
def look_at(encoder: ImageEncoder, dataset: Dataset, batch: int = 20) -> PromptedObjects:
    """Run backbone and neck over a data set, once.

    Args:
        encoder: its backbone and neck are the trained ones.
        dataset: images with masks.
        batch: images at a time.
    """
    side = encoder.config.encoder.short_side // 2
    levels: list[list[Tensor]] = [[] for _ in range(4)]
    masks, image, group, group_masks = [], [], [], []
    for start in range(0, len(dataset), batch):
        samples = [dataset[i] for i in range(start, min(start + batch, len(dataset)))]
        for level, kept in zip(
            encoder.pyramid([to_float(x) for x, _ in samples]), levels, strict=True
        ):
            kept.append(level.half())
        for offset, (_, target) in enumerate(samples):
            whole = target["masks"].float()  # [G, H, W]
            if not len(whole):
                continue
            small = F.interpolate(whole[None], (side, side), mode="bilinear", antialias=True)[0]
            small = small > 0.5  # [G, M, M]
            groups = touching_groups(whole)
            for g in range(int(groups.max()) + 1):
                group_masks.append(small[groups == g].any(dim=0))
            seen = small.flatten(1).any(dim=1)  # what vanishes at this size is not asked about
            masks.append(small[seen])
            image.append(torch.full((int(seen.sum()),), start + offset))
            group.append(groups[seen] + len(group_masks) - int(groups.max()) - 1)
    return PromptedObjects(
        [torch.cat(level) for level in levels],
        torch.cat(masks),
        torch.cat(image),
        torch.cat(group),
        torch.stack(group_masks),
    )
