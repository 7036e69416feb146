"""Click to segment: a promptable segmenter's decoder, alive in the page.

The encoder's work travels with the widget, one embedding for each picture in 8 bits a value; prompt
encoder and decoder are in the JavaScript, with their weights in 16 bits. So a static page answers
clicks: that is what the split into a heavy encoder and a light decoder was made for. SAM §3;
Chapter 19.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import traitlets
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from mrcnn_edu.pictures.show import BLUE, GREEN, RED, show_image
from mrcnn_edu.related.promptable import Answers, Embedding, PromptableSegmenter, at_size
from mrcnn_edu.related.prompts import BOTTOM_RIGHT, ON, TOP_LEFT, Prompts
from mrcnn_edu.widgets.common import Widget, bundle, photograph

Click = tuple[float, float, int]  # x and y in pixels, ON or BESIDE


class ClickSegment(Widget):
    """Pictures to click on.

    Args:
        model: its prompt encoder and decoder are packed into the widget.
        images: uint8 [3, S, S], all of one size.
        first: a click for each picture, (x, y, label) in pixels, to begin with.
        boxes: xyxy in pixels, for each picture the box that is shown on demand.
        state: first values of `picture`, `points`, `boxed`, `adds`, `mask`.

    Raises:
        ValueError: images are not square and of one size, or clicks or boxes are missing.
    """

    _esm = bundle("click_segment")
    weights = traitlets.Bytes().tag(sync=True)  # float16
    shapes = traitlets.List(traitlets.Any()).tag(sync=True)  # [name, shape] of each tensor
    heads = traitlets.Int().tag(sync=True)
    channels = traitlets.List(traitlets.Int()).tag(sync=True)  # of the two maps
    embeddings = traitlets.Bytes().tag(sync=True)  # int8, for each picture cells, then fine
    scales = traitlets.List(traitlets.Any()).tag(
        sync=True
    )  # what a step is worth, by picture and channel
    pictures = traitlets.List(traitlets.Unicode()).tag(sync=True)
    size = traitlets.Int().tag(sync=True)  # S
    first = traitlets.List(traitlets.Any()).tag(sync=True)
    boxes = traitlets.List(traitlets.Any()).tag(sync=True)
    picture = traitlets.Int(0).tag(sync=True)
    points: Any = traitlets.List(traitlets.Any()).tag(sync=True)  # [x, y, label] each
    box: Any = traitlets.List(traitlets.Float()).tag(sync=True)
    boxed = traitlets.Bool(False).tag(sync=True)
    adds = traitlets.Int(ON).tag(sync=True)  # the label of the next click
    mask = traitlets.Int(-1).tag(sync=True)  # which answer is shown; −1 the best

    def __init__(
        self,
        model: PromptableSegmenter,
        images: Sequence[Tensor],
        first: Sequence[Click],
        boxes: Sequence[Sequence[float]],
        **state: Any,
    ) -> None:
        sizes = {tuple(image.shape) for image in images}
        if len(sizes) != 1 or len({*next(iter(sizes))[1:]}) != 1:
            raise ValueError(f"images must be square and of one size [3, S, S], got {sizes}")
        if not len(images) == len(first) == len(boxes):
            raise ValueError("there must be one first click and one box for each image")
        self._model, self._images = model, list(images)
        with torch.no_grad():
            whole = model.embed([image.float() / 255 for image in images])
        packed, scales = _quantised(whole)
        self._embedding = _restored(packed, scales, whole)
        layout, weights = _weights(model)
        index = state.pop("picture", 0)
        super().__init__(
            weights=weights,
            shapes=layout,
            heads=model.config.heads,
            channels=[whole.cells.shape[1], whole.fine.shape[1]],
            embeddings=packed.astype(np.int8).tobytes(),
            scales=scales.tolist(),
            pictures=[photograph(image) for image in images],
            size=images[0].shape[1],
            first=[[list(click)] for click in first],
            boxes=[[float(v) for v in box] for box in boxes],
            picture=index,
            box=[float(v) for v in boxes[index]],
            **{"points": [list(first[index])], **state},
        )

    @torch.no_grad()
    def answers(self) -> tuple[Answers, Prompts]:
        """What the segmenter says to the present state, and the prompts it was given at last."""
        points = [[x / self.size, y / self.size] for x, y, _ in self.points]
        labels = [int(label) for _, _, label in self.points]
        begin = 1
        if self.boxed:
            x1, y1, x2, y2 = (v / self.size for v in self.box)
            points, labels = [[x1, y1], [x2, y2], *points], [TOP_LEFT, BOTTOM_RIGHT, *labels]
            begin = 2
        embedding = self._embedding.of(torch.tensor([self.picture]))
        logits = None
        for count in range(begin, max(begin, len(points)) + 1):
            prompts = Prompts(
                torch.tensor([points[:count]]),
                torch.tensor([labels[:count]]),
                None if logits is None else logits[:, None],
            )
            answers = self._model.answer(embedding, prompts)
            logits, _ = answers.best(prompts.several())
        return answers, prompts

    def figure(self) -> Figure:
        """The picture with its prompts, and every mask that answers."""
        answers, prompts = self.answers()
        which = answers.eligible(prompts.several())[0].nonzero()[:, 0].tolist()
        masks = at_size(answers.logits, (self.size, self.size))[0] > 0
        figure = Figure(figsize=(2.3 * (1 + len(which)), 2.6), layout="constrained")
        axes = figure.subplots(1, 1 + len(which))
        show_image(axes[0], self._images[self.picture], "asked")
        for x, y, label in self.points:
            colour = GREEN if label == ON else RED
            axes[0].plot(x, y, "o", color=colour, markeredgecolor="white", markersize=8)
        if self.boxed:
            x1, y1, x2, y2 = self.box
            frame = Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=BLUE, linewidth=2)
            axes[0].add_patch(frame)
        for axis, m in zip(axes[1:], which, strict=True):
            picture = self._images[self.picture].float()
            shown = torch.where(masks[m], picture, 0.3 * picture).byte()
            show_image(axis, shown, f"mask {m}, score {answers.scores[0, m]:.2f}")
        return figure


def _weights(model: PromptableSegmenter) -> tuple[list[Any], bytes]:
    """Prompt encoder and decoder: names with shapes, and all values in float16."""
    parts = [
        (f"{name}.{key}", value)
        for name in ("prompt_encoder", "mask_decoder")
        for key, value in getattr(model, name).state_dict().items()
    ]
    values = np.concatenate([value.numpy().astype("<f2").ravel() for _, value in parts])
    return [[name, list(value.shape)] for name, value in parts], values.tobytes()


def _quantised(embedding: Embedding) -> tuple[np.ndarray[Any, Any], Tensor]:
    """Both maps in 8 bits, cell after cell: [N, values]; and the scale of each channel."""
    rows, scales = [], []
    for values in (embedding.cells, embedding.fine):
        flat = values.flatten(2).transpose(1, 2)  # [N, H · W, C]
        scale = flat.abs().amax(dim=1, keepdim=True).clamp(min=1e-6) / 127  # [N, 1, C]
        rows.append((flat / scale).round().flatten(1))
        scales.append(scale[:, 0])
    return torch.cat(rows, dim=1).numpy(), torch.cat(scales, dim=1)


def _restored(packed: np.ndarray[Any, Any], scales: Tensor, like: Embedding) -> Embedding:
    """The embedding that the page decodes: rounded, so that both compute with the same numbers."""
    maps, start, channel = [], 0, 0
    for values in (like.cells, like.fine):
        count, channels, height, width = values.shape
        flat = torch.from_numpy(packed[:, start : start + channels * height * width])
        rows = flat.reshape(count, height * width, channels)
        rows = rows * scales[:, None, channel : channel + channels]
        maps.append(rows.transpose(1, 2).reshape(values.shape))
        start, channel = start + channels * height * width, channel + channels
    return Embedding(*maps)
