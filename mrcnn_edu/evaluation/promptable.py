"""How well a promptable segmenter does what it is asked: IoU after one click, more clicks, a box.

A click lies in the middle of the object, every further one in the middle of the largest mistake. A
box is the object's own. Every mask is brought to the size of its image first, and the answer is the
mask that the segmenter itself scores highest, unless it says "best of all": what an oracle would
choose. Chapter 19.
"""

import torch
from torch import Tensor

from mrcnn_edu.data.dataset import Dataset
from mrcnn_edu.data.transforms import resize, to_float
from mrcnn_edu.evaluation.predict import predict
from mrcnn_edu.masks import paste
from mrcnn_edu.model import MaskRCNN
from mrcnn_edu.nn.mask_head import predicted_class_masks
from mrcnn_edu.related.clicks import mask_boxes, middle_pixels, touching_groups
from mrcnn_edu.related.promptable import Answers, Embedding, PromptableSegmenter, at_size
from mrcnn_edu.related.promptable_losses import mask_iou
from mrcnn_edu.related.prompts import ON, Prompts, boxes
from mrcnn_edu.related.rounds import corrected

CLICKS = 5


@torch.no_grad()
def measure_prompts(
    model: PromptableSegmenter, dataset: Dataset, clicks: int = CLICKS
) -> dict[str, Tensor]:
    """Ask about every object of a data set.

    Args:
        model: any.
        dataset: images with masks; empty masks are passed over.
        clicks: how many on one object.

    Returns:
        for the O objects, in the order of the set:
        `clicks` [O, clicks], IoU after each click; `box` [O], IoU with a box;
        `best_of_all` [O], the largest IoU among the answers to the first click;
        `group_best_of_all` [O], the same with the group that the object belongs to, and
        `group_click` [O], that of the answer scored highest;
        `alone` [O], whether it touches no other; `image`, `label` and `area` [O].
    """
    found: list[dict[str, Tensor]] = []
    for index in range(len(dataset)):
        image, target = dataset[index]
        masks = target["masks"].float()  # [G, H, W]
        kept = masks.flatten(1).any(dim=1)
        masks, labels = masks[kept], target["labels"][kept]
        if not len(masks):
            continue
        embedding = model.embed([to_float(image)]).of(torch.zeros(len(masks), dtype=torch.long))
        group = touching_groups(masks)
        members = (group[:, None] == group).float()  # [G, G]
        groups = (members @ masks.flatten(1) > 0).float().unflatten(1, masks.shape[1:])
        answers = answer_click(model, embedding, masks)
        several = torch.zeros(len(masks), dtype=torch.bool)
        first = at_size(answers.best(several)[0][:, None], masks.shape[1:])[:, 0]
        found.append(
            {
                "clicks": click_ious(model, embedding, masks, clicks),
                "box": box_ious(model, embedding, masks),
                "best_of_all": best_iou(answers, masks),
                "group_best_of_all": best_iou(answers, groups),
                "group_click": mask_iou(first, groups),
                "alone": members.sum(dim=1) == 1,
                "image": torch.full((len(masks),), index),
                "label": labels,
                "area": masks.sum(dim=(1, 2)),
            }
        )
    return {name: torch.cat([one[name] for one in found]) for name in found[0]}


def answer_click(model: PromptableSegmenter, embedding: Embedding, masks: Tensor) -> Answers:
    """What is said to one click in the middle of each object.

    Args:
        model: any.
        embedding: of B images.
        masks: [B, H, W].
    """
    points = middle_pixels(masks)[:, None]  # [B, 1, 2]
    return model.answer(embedding, Prompts(points, torch.full((len(masks), 1), ON)))


def best_iou(answers: Answers, targets: Tensor) -> Tensor:
    """The largest IoU among the answers that a single click may get: [B].

    Args:
        answers: to B single clicks.
        targets: [B, H, W].
    """
    several = torch.zeros(len(targets), dtype=torch.bool)
    ious = mask_iou(at_size(answers.logits, targets.shape[1:]), targets[:, None])  # [B, 1 + A]
    return ious.masked_fill(~answers.eligible(several), 0).amax(dim=1)


def click_ious(
    model: PromptableSegmenter, embedding: Embedding, targets: Tensor, clicks: int
) -> Tensor:
    """IoU after the first click, the second, …: [B, clicks].

    Args:
        model: any.
        embedding: of B images.
        targets: [B, H, W], what is meant.
        clicks: how many.
    """
    prompts = Prompts(middle_pixels(targets)[:, None], torch.full((len(targets), 1), ON))
    ious = []
    for number in range(clicks):
        answers = model.answer(embedding, prompts)
        logits = answers.best(prompts.several())[0]  # [B, M, M]
        whole = at_size(logits[:, None], targets.shape[1:])[:, 0]  # [B, H, W]
        ious.append(mask_iou(whole, targets))
        if number + 1 < clicks:
            clicked = corrected(prompts, whole, targets)
            prompts = Prompts(clicked.points, clicked.labels, logits[:, None])
    return torch.stack(ious, dim=1)


def box_ious(model: PromptableSegmenter, embedding: Embedding, targets: Tensor) -> Tensor:
    """IoU of the answers to each object's own box: [B].

    Args:
        model: any.
        embedding: of B images.
        targets: [B, H, W], what is meant.
    """
    prompts = boxes(mask_boxes(targets), (1, 1))  # already shares
    answers = model.answer(embedding, prompts)
    logits = at_size(answers.best(prompts.several())[0][:, None], targets.shape[1:])[:, 0]
    return mask_iou(logits, targets)


@torch.no_grad()
def measure_detector(
    detector: MaskRCNN, dataset: Dataset, least_score: float = 0.5
) -> dict[str, Tensor]:
    """What a Mask R-CNN makes of the same objects, whatever it calls them.

    Args:
        detector: any.
        dataset: images with masks; empty masks are passed over.
        least_score: of a detection that counts.

    Returns:
        for the O objects, in the order of `measure_prompts`: `box` [O], IoU of the mask that the
        mask head draws in the object's own box for the class that the box head prefers; `found`
        [O], the largest IoU with any detection.
    """
    c = detector.config
    found: list[dict[str, Tensor]] = []
    for index in range(len(dataset)):
        image, target = dataset[index]
        masks = target["masks"].float()
        masks = masks[masks.flatten(1).any(dim=1)]  # [G, H, W]
        if not len(masks):
            continue
        size = (image.shape[1], image.shape[2])
        small = resize(to_float(image), c.short_side, c.long_side, c.resize_rounding)
        record = detector([small])
        own = mask_boxes(masks) * torch.tensor([size[1], size[0], size[1], size[0]])  # [G, 4]
        across = torch.tensor([small.shape[2] / size[1], small.shape[1] / size[0]]).repeat(2)
        rois = [own * across]
        logits, _ = detector.box_head(detector.roi_features(record, rois, c.box_pool))
        labels = logits[:, 1:].argmax(dim=1) + 1  # [G], the best that is not background
        assert detector.mask_head is not None
        drawn = detector.mask_head(detector.roi_features(record, rois, c.mask_pool))
        drawn = predicted_class_masks(drawn, labels, c.mask_prediction == "softmax")
        in_box = paste(drawn, own, size, dialect=c.mask_paste)  # [G, H, W]
        best = torch.zeros(len(masks))
        detections = predict(detector, [image])[0]
        for i in (detections.scores >= least_score).nonzero()[:, 0].tolist():
            assert detections.masks is not None
            one = paste(detections.masks[[i]], detections.boxes[[i]], size, dialect=c.mask_paste)
            best = torch.maximum(best, mask_iou(one.float() - 0.5, masks))
        found.append({"box": mask_iou(in_box.float() - 0.5, masks), "found": best})
    return {name: torch.cat([one[name] for one in found]) for name in found[0]}
