"""Training the promptable segmenter on a detector's frozen backbone.

The backbone and the neck of a trained detector see each image once, and what they leave is kept: a
step of training then costs what the decoder costs. In a step every image is asked about several
times, half of the time by a click and half by a box, and what is meant is half of the time the
object and half the group of objects that touch it: one click, two right answers. SAM §3 and
appendix A; Chapter 19.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mrcnn_edu.data.prompted import PromptedObjects
from mrcnn_edu.related.clicks import first_prompts
from mrcnn_edu.related.promptable import PromptableSegmenter
from mrcnn_edu.related.promptable_losses import PromptLosses
from mrcnn_edu.related.rounds import round_losses
from mrcnn_edu.training.muon import Muon

_WARM_UP = 50  # steps
_FALL = 0.35  # of the steps, the last, in which the rate falls to nothing
_CLIP = 1.0  # largest norm of a gradient
_MATRIX_FACTOR = 10.0  # Muon's rate for matrices against Adam's for the rest
_WEIGHT_DECAY = 0.01


@dataclass(frozen=True)
class PromptTrainConfig:
    """One training. images · prompts objects are asked about in a step, `rounds` times each."""

    steps: int = 600
    images: int = 8
    prompts: int = 8
    rounds: int = 2
    learning_rate: float = 2e-3
    seed: int = 0


def train_promptable(
    model: PromptableSegmenter,
    objects: PromptedObjects,
    config: PromptTrainConfig,
    log: Callable[[int, list[PromptLosses]], None] | None = None,
) -> float:
    """Train all but backbone and neck, and return the seconds of processor time it took.

    Args:
        model: changed in place; its backbone and neck are frozen.
        objects: what is asked about.
        config: of the training.
        log: called after each step with its number and the losses of its rounds.
    """
    start = time.process_time()
    generator = torch.Generator().manual_seed(config.seed)
    encoder = model.image_encoder
    encoder.backbone.requires_grad_(False)
    encoder.neck.requires_grad_(False)
    optimizer = make_optimizer(model, config.learning_rate)
    trained = [p for p in model.parameters() if p.requires_grad]
    of_image = [(objects.image == i).nonzero()[:, 0] for i in range(int(objects.image.max()) + 1)]
    model.train()
    for step in range(config.steps):
        rate = config.learning_rate * rate_factor(step, config.steps)
        for group in optimizer.param_groups:
            group["lr"] = rate * group["rate_factor"]
        images, which = draw(of_image, config, generator)
        embedding = encoder.embed([level[images].float() for level in objects.pyramid])
        in_batch = torch.repeat_interleave(torch.arange(len(images)), config.prompts)  # [B]
        targets = meant(objects, which, generator)  # [B, M, M]
        as_box = torch.rand(len(which), generator=generator) < 0.5
        prompts = first_prompts(targets, as_box, generator)
        losses = round_losses(
            model, embedding.of(in_batch), targets, prompts, config.rounds, generator
        )
        optimizer.zero_grad()
        torch.stack([x.total() for x in losses]).sum().backward()
        nn.utils.clip_grad_norm_(trained, _CLIP)
        optimizer.step()
        if log is not None:
            log(step, losses)
    model.eval()
    return time.process_time() - start


def draw(
    of_image: list[Tensor], config: PromptTrainConfig, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw images that hold something, and objects of each: [images] and [images · prompts].

    Args:
        of_image: the objects of each image.
        config: how many.
        generator: of what is drawn.
    """
    filled = torch.tensor([i for i, found in enumerate(of_image) if len(found)])
    images = filled[torch.randint(len(filled), (config.images,), generator=generator)]
    which = []
    for i in images.tolist():
        picks = torch.randint(len(of_image[i]), (config.prompts,), generator=generator)
        which.append(of_image[i][picks])
    return images, torch.cat(which)


def meant(objects: PromptedObjects, which: Tensor, generator: torch.Generator) -> Tensor:
    """What is meant by each prompt, as likely the object as its group: [B, M, M], 0 or 1.

    Args:
        objects: of a data set.
        which: [B], the object that each prompt is about.
        generator: of the choice.
    """
    as_group = torch.rand(len(which), generator=generator) < 0.5
    group = objects.group_masks[objects.group[which]]
    return torch.where(as_group[:, None, None], group, objects.masks[which]).float()


def make_optimizer(model: PromptableSegmenter, rate: float) -> Muon:
    """Muon for matrices and convolutions, AdamW for vectors and the learned tokens."""
    tokens = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    trained = [p for p in model.parameters() if p.requires_grad]
    matrices = [p for p in trained if p.dim() > 1 and id(p) not in tokens]
    chosen = {id(p) for p in matrices}
    groups = [
        {
            "params": matrices,
            "weight_decay": _WEIGHT_DECAY,
            "orthogonal": True,
            "rate_factor": _MATRIX_FACTOR,
        },
        {
            "params": [p for p in trained if id(p) not in chosen],
            "weight_decay": 0.0,
            "orthogonal": False,
            "rate_factor": 1.0,
        },
    ]
    return Muon(groups, lr=rate)


def rate_factor(step: int, steps: int) -> float:
    """The rate of a step as a share of the highest: it warms up, stays, and falls to nothing."""
    return min(1.0, (step + 1) / _WARM_UP, (steps - step) / (_FALL * steps))
