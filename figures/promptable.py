"""Chapter 19, the take-away: what is done once an image, and what once a click."""

from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from mrcnn_edu.data.shapes import running_picture
from mrcnn_edu.data.transforms import to_float
from mrcnn_edu.pictures.show import GREEN, RED, show_image
from mrcnn_edu.related.clicks import correction, middle_pixels, touching_groups
from mrcnn_edu.related.promptable import at_size
from mrcnn_edu.related.prompts import ON, Prompts, with_click
from mrcnn_edu.weights.promptable import load_promptable

WEIGHTS = Path(__file__).resolve().parent.parent / "data" / "promptable_shapes.safetensors"


def draw() -> Figure:
    """Above the image and its embedding, below a click: its code, three masks, a correction."""
    import matplotlib.pyplot as plt

    model = load_promptable(WEIGHTS)
    image, target = running_picture()
    masks = target["masks"].float()
    group = touching_groups(masks)
    crowded = torch.bincount(group)[group] > 1
    rings = [i for i, label in enumerate(target["labels"].tolist()) if label == 5 and crowded[i]]
    ring = max(rings, key=lambda i: float(masks[i].sum()))
    with torch.no_grad():
        embedding = model.embed([to_float(image)])
        point = middle_pixels(masks[[ring]])
        asked = Prompts(point[None], torch.tensor([[ON]]))
        answers = model.answer(embedding, asked)
        place = model.prompt_encoder.position
        likeness = (place.grid(24, 24) @ place(point)[0]).unflatten(0, (24, 24))
        best = answers.best(asked.several())[0]
        whole = at_size(best[:, None], (128, 128))[:, 0]
        where, label = correction(whole > 0, masks[[ring]])
        again = with_click(asked, where, label, best[:, None])
        corrected = model.answer(embedding, again)

    figure, axes = plt.subplots(2, 4, figsize=(7.2, 4.1))
    show_image(axes[0, 0], image, "image")
    show_image(axes[0, 1], embedding.cells[0].mean(dim=0), "embedding, kept", cmap="gray")
    show_image(axes[0, 2], likeness, "likeness to the click", cmap="RdBu", vmin=-32, vmax=32)
    for place_of, m in zip((axes[0, 3], axes[1, 0], axes[1, 1]), (1, 2, 3), strict=True):
        score = float(answers.scores[0, m])
        _answer(place_of, image, answers.logits[:, [m]], f"mask {m}, score {score:.2f}")
        _clicks(place_of, asked)
    _answer(axes[1, 2], image, corrected.logits[:, [0]], "after a second click")
    _clicks(axes[1, 2], again)
    _answer(axes[1, 3], image, 2 * masks[[ring]][:, None] - 1, "what was meant")
    return figure


def _answer(axis: Axes, image: Tensor, logits: Tensor, title: str) -> None:
    """The image where the mask is, and dark elsewhere."""
    mask = at_size(logits, (128, 128))[0, 0] > 0
    picture = to_float(image)
    show_image(axis, torch.where(mask, picture, 0.25 * picture), title)


def _clicks(axis: Axes, prompts: Prompts) -> None:
    for (x, y), label in zip(128 * prompts.points[0], prompts.labels[0], strict=True):
        axis.plot(x, y, "o", color=GREEN if label == ON else RED, markeredgecolor="white")
