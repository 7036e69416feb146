"""The proposal explorer: an RPN's candidates by level, thinned and counted. Chapter 04."""

from typing import Any

import numpy as np
import torch
import traitlets
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from mrcnn_edu import boxes as box_ops
from mrcnn_edu.config import ModelConfig
from mrcnn_edu.pictures.colours import COLOURS
from mrcnn_edu.record import Record, input_image
from mrcnn_edu.widgets.common import Widget, bundle, pack, unpack

LEVEL_COLOURS = (4, 5, 2, 6, 0)  # of P2 to P6 in COLOURS; proposals.js has the same order


class ProposalExplorer(Widget):
    """All candidate boxes of one image; NMS, the level and the number kept are the reader's.

    Boxes are xyxy in pixels of the image that is shown. Candidates are sorted by score, best
    first.
    """

    _esm = bundle("proposals")
    image = traitlets.Bytes().tag(sync=True)  # uint8 [H, W, 3]
    size = traitlets.List([0, 0]).tag(sync=True)  # H, W
    candidates = traitlets.Bytes().tag(sync=True)  # float32 [R, 4], best first
    scores = traitlets.Bytes().tag(sync=True)  # float32 [R]
    levels = traitlets.List(traitlets.Int()).tag(sync=True)  # R indices, 0 is P2
    truths = traitlets.Bytes().tag(sync=True)  # float32 [G, 4]
    kept = traitlets.Int(20).tag(sync=True)  # proposals after everything
    nms = traitlets.Float(0.7).tag(sync=True)  # IoU above which the lower score goes
    level = traitlets.Int(-1).tag(sync=True)  # the one shown; −1 shows all
    covered = traitlets.Float(0.5).tag(sync=True)  # IoU from which an object counts as found

    @classmethod
    def from_record(
        cls, record: Record, config: ModelConfig, truths: Tensor, index: int = 0, limit: int = 300
    ) -> "ProposalExplorer":
        """Make one of an image of a record.

        Args:
            record: of a forward pass.
            config: of the model; its normalisation is undone for the picture.
            truths: [G, 4], in pixels of the network's input.
            index: which image of the batch.
            limit: best candidates that are kept to look at, over all levels.
        """
        height, width = record.image_sizes[index]
        logits = record.objectness[index].detach().cpu()  # [A]
        best = logits.topk(min(limit, len(logits))).indices  # [R]
        level_of = torch.cat([torch.full((len(a),), i) for i, a in enumerate(record.anchors)])
        anchors = torch.cat(record.anchors).cpu()[best]
        boxes = box_ops.decode(
            record.deltas[index].detach().cpu()[best], anchors, config.rpn_box_weights
        )
        return cls(
            image=input_image(record, config, index).permute(1, 2, 0).numpy().tobytes(),
            size=[height, width],
            candidates=pack(box_ops.clip(boxes, (height, width))),
            scores=pack(logits[best].sigmoid()),
            levels=level_of[best].tolist(),
            truths=pack(truths),
        )

    def selected(self) -> Tensor:
        """Indices of the candidates that are shown: NMS within each level, then the best."""
        boxes, levels = self._boxes(self.candidates), torch.tensor(self.levels, dtype=torch.long)
        index = torch.arange(len(boxes))
        if self.level >= 0:
            index = index[levels == self.level]
        scores = torch.from_numpy(unpack(self.scores, (-1,)).copy())
        keep = box_ops.batched_nms(boxes[index], scores[index], levels[index], self.nms)
        return index[keep][: self.kept]

    def found(self) -> Tensor:
        """For each true box whether a shown proposal overlaps it by at least `covered`: [G]."""
        truths, shown = self._boxes(self.truths), self._boxes(self.candidates)[self.selected()]
        if not len(shown):
            return torch.zeros(len(truths), dtype=torch.bool)
        return box_ops.iou(truths, shown).amax(dim=1) >= self.covered

    def figure(self) -> Figure:
        """The picture with the proposals that are kept."""
        height, width = self.size
        figure = Figure(figsize=(4, 4 * height / width))
        axis = figure.subplots()
        axis.imshow(
            np.frombuffer(self.image, np.uint8).reshape(height, width, 3),
            extent=(0, width, height, 0),
        )
        boxes = self._boxes(self.candidates)

        def outline(box: Tensor, **options: Any) -> None:
            x1, y1, x2, y2 = box.tolist()
            axis.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, **options))

        for i in self.selected().tolist():
            paint = np.array(COLOURS[LEVEL_COLOURS[self.levels[i] % 5]]) / 255
            outline(boxes[i], edgecolor=paint, linewidth=0.8)
        found = self.found().tolist()
        for box, hit in zip(self._boxes(self.truths), found, strict=True):
            outline(box, edgecolor="black", linewidth=2, linestyle="-" if hit else ":")
        axis.set(xticks=[], yticks=[], title=f"{sum(found)} of {len(found)} objects found")
        return figure

    @staticmethod
    def _boxes(values: bytes) -> Tensor:
        return torch.from_numpy(unpack(values, (-1, 4)).copy())
