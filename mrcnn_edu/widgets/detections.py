"""The detection explorer: thresholds and suppression decide what a box head reports. Chapter 08."""

import base64
import dataclasses
import io

import numpy as np
import torch
import traitlets
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from mrcnn_edu import boxes as box_ops
from mrcnn_edu.model import MaskRCNN
from mrcnn_edu.nn.detections import candidates
from mrcnn_edu.pictures.show import GREEN, RED, show_boxes, show_image
from mrcnn_edu.record import Record, input_image
from mrcnn_edu.widgets.common import Widget, bundle, pack, photograph, unpack

LIMIT = 100  # detections of an image, as in the paper; detections.js has the same


class DetectionExplorer(Widget):
    """All boxes that the classes offer in one image; the reader decides which are reported.

    Boxes are xyxy in pixels of the image that is shown. Candidates are sorted by score, best
    first. A detection is right if it overlaps an object of its class enough, and no better
    detection has claimed that object.
    """

    _esm = bundle("detections")
    image = traitlets.Unicode().tag(sync=True)  # data URL
    size = traitlets.List([0, 0]).tag(sync=True)  # H, W
    candidates = traitlets.Bytes().tag(sync=True)  # float32 [R, 4], best first
    scores = traitlets.Bytes().tag(sync=True)  # float32 [R]
    labels = traitlets.List(traitlets.Int()).tag(sync=True)  # R, 1 to K
    truths = traitlets.Bytes().tag(sync=True)  # float32 [G, 4]
    truth_labels = traitlets.List(traitlets.Int()).tag(sync=True)  # G
    names = traitlets.List(traitlets.Unicode()).tag(sync=True)  # K
    threshold = traitlets.Float(0.05).tag(sync=True)  # only higher scores are reported
    nms = traitlets.Float(0.5).tag(sync=True)  # IoU above which the lower score goes
    across = traitlets.Bool(False).tag(sync=True)  # suppress between classes too
    overlap = traitlets.Float(0.5).tag(sync=True)  # IoU from which a detection is right

    @classmethod
    def from_record(
        cls,
        model: MaskRCNN,
        record: Record,
        target: dict[str, Tensor],
        names: tuple[str, ...],
        index: int = 0,
    ) -> "DetectionExplorer":
        """Make one of an image of a record, with every class's box of every proposal.

        Args:
            model: the one that made the record; its box head is run.
            record: of a forward pass.
            target: `boxes` [G, 4] in pixels of the network's input, and `labels` [G].
            names: of the K classes.
            index: which image of the batch.
        """
        with torch.no_grad():
            rois = [p.boxes for p in model.propose(record, training=False)]
            outputs = model.box_head(model.roi_features(record, rois, model.config.box_pool))
        counts = [len(r) for r in rois]
        logits, deltas = (x.split(counts)[index] for x in outputs)  # [R, K+1], [R, K, 4]
        everything = dataclasses.replace(model.config, score_threshold=0.0)
        size = record.image_sizes[index]
        found = candidates(logits, deltas, rois[index], size, everything)
        best = found.scores.argsort(descending=True, stable=True)
        return cls(
            image=photograph(input_image(record, model.config, index)),
            size=list(size),
            candidates=pack(found.boxes[best]),
            scores=pack(found.scores[best]),
            labels=found.labels[best].tolist(),
            truths=pack(target["boxes"]),
            truth_labels=target["labels"].tolist(),
            names=list(names),
        )

    def shown(self) -> Tensor:
        """Indices of the candidates that are reported: NMS, the threshold, the best hundred."""
        boxes, scores = self._boxes(self.candidates), self._scores()
        groups = None if self.across else torch.tensor(self.labels, dtype=torch.long)
        kept = box_ops.batched_nms(boxes, scores, groups, self.nms)
        return kept[scores[kept] > self.threshold][:LIMIT]

    def claims(self) -> list[int]:
        """For each reported candidate the object that it claims; −1 if it is wrong."""
        shown = self.shown()
        truths = self._boxes(self.truths)
        if not len(truths):
            return [-1] * len(shown)
        claimed: list[int] = []
        for i in shown.tolist():
            overlaps = box_ops.iou(self._boxes(self.candidates)[i][None], truths)[0]  # [G]
            for g, label in enumerate(self.truth_labels):
                if label != self.labels[i] or g in claimed or overlaps[g] < self.overlap:
                    overlaps[g] = -1
            best = int(overlaps.argmax())
            claimed.append(best if overlaps[best] >= 0 else -1)
        return claimed

    def precision_recall(self) -> tuple[float, float]:
        """Share of the reported that are right, share of the objects that are found.

        With nothing reported nothing is wrong: a precision of 1. Without objects recall is 1.
        """
        claims = self.claims()
        right = sum(g >= 0 for g in claims)
        total = len(self.truth_labels)
        return right / len(claims) if claims else 1.0, right / total if total else 1.0

    def figure(self) -> Figure:
        """The picture with what is reported, right and wrong."""
        height, width = self.size
        figure = Figure(figsize=(4, 4 * height / max(1, width) + 0.4))
        axis = figure.subplots()
        show_image(axis, self._picture())
        claims = self.claims()
        boxes = self._boxes(self.candidates)

        lost = [g for g in range(len(self.truth_labels)) if g not in claims]
        show_boxes(axis, self._boxes(self.truths)[lost], "black", linewidth=1.6, linestyle=":")
        shown, right = boxes[self.shown()], torch.tensor(claims, dtype=torch.long) >= 0
        show_boxes(axis, shown[~right], RED, linewidth=0.8)
        show_boxes(axis, shown[right], GREEN, linewidth=1.8)
        precision, recall = self.precision_recall()
        axis.set_title(f"{len(claims)} reported: precision {precision:.2f}, recall {recall:.2f}")
        return figure

    def _picture(self) -> Tensor:
        file = io.BytesIO(base64.b64decode(self.image.partition(",")[2]))
        return torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1)  # [3, H, W]

    def _scores(self) -> Tensor:
        return torch.from_numpy(unpack(self.scores, (-1,)).copy())

    @staticmethod
    def _boxes(values: bytes) -> Tensor:
        return torch.from_numpy(unpack(values, (-1, 4)).copy())
