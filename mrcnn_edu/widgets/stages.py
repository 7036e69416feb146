"""The stage explorer: an image on its way through the machine, and a probe. Chapter 00."""

from collections.abc import Sequence

import numpy as np
import torch
import traitlets
from matplotlib.figure import Figure
from torch import Tensor

from mrcnn_edu.config import ModelConfig
from mrcnn_edu.pictures.colours import COLOURS
from mrcnn_edu.pictures.overlay import draw_detections
from mrcnn_edu.record import Detections, Record, input_image
from mrcnn_edu.widgets.common import Widget, bundle, pack

STAGES = ("image", "backbone", "pyramid", "rpn", "proposals", "boxes", "masks")


class StageExplorer(Widget):
    """Every stage of one image of a record, read at a point that the reader moves.

    Maps are stored with one byte a number, from 0 to the largest of their map: enough to look at.
    Boxes are xyxy in pixels of the network's input.
    """

    _esm = bundle("stages")
    stage = traitlets.Enum(STAGES, default_value="image").tag(sync=True)
    level = traitlets.Int(0).tag(sync=True)  # 0 is C2 or P2
    probe = traitlets.List([96.0, 96.0]).tag(sync=True)  # x, y in pixels
    size = traitlets.List([0, 0]).tag(sync=True)  # H, W
    image = traitlets.Bytes().tag(sync=True)  # uint8 [H, W, 3]
    backbone = traitlets.List(traitlets.Dict()).tag(
        sync=True
    )  # of C2 … C5: {channels, height, width, stride}
    pyramid = traitlets.List(traitlets.Dict()).tag(sync=True)  # of P2 … P5
    features = traitlets.Bytes().tag(sync=True)  # uint8, all maps [H_l, W_l, C_l], backbone first
    cells = traitlets.Bytes().tag(sync=True)  # float32: of P2 … P6 the anchors [a, 4] of a cell
    rpn = traitlets.Bytes().tag(sync=True)  # float32 [A, 5]: objectness 0..1 and deltas
    proposals = traitlets.Bytes().tag(sync=True)  # float32 [R, 5]: boxes and scores
    detections = traitlets.Bytes().tag(sync=True)  # float32 [D, 6]: boxes, scores, labels
    masks = traitlets.Bytes().tag(sync=True)  # uint8 [D, M, M], 255 is a probability of 1
    names = traitlets.List(traitlets.Unicode()).tag(sync=True)  # of the classes
    colours = traitlets.List([list(c) for c in COLOURS]).tag(sync=True)  # r, g, b of the classes

    @classmethod
    def from_record(
        cls,
        record: Record,
        config: ModelConfig,
        names: Sequence[str],
        index: int = 0,
        min_score: float = 0.5,
        proposals: int = 40,
    ) -> "StageExplorer":
        """Make one of an image of a record that `detect` has completed.

        Args:
            record: with proposals and detections.
            config: of the model.
            names: of the classes, label 1 first.
            index: which image of the batch.
            min_score: detections below it are left out.
            proposals: the best so many are shown.

        Raises:
            ValueError: the record has no detections yet.
        """
        if not record.detections or record.detections[index].masks is None:
            raise ValueError("The record has no detections with masks; give model.detect(record).")
        height, width = record.image_sizes[index]
        maps = [m[index].detach().cpu() for m in [*record.backbone_maps, *record.pyramid[:4]]]
        found = record.detections[index]
        masks = found.masks
        assert masks is not None  # seen above
        good = found.scores >= min_score
        best = record.proposals[index]
        objectness = record.objectness[index].detach().sigmoid()[:, None]  # [A, 1]
        per_cell = len(config.anchor_ratios)
        cells = [a[:per_cell].cpu() for a in record.anchors]  # those of cell (0, 0)
        shapes = [
            {
                "channels": m.shape[0],
                "height": m.shape[1],
                "width": m.shape[2],
                "stride": record.images.shape[2] // m.shape[1],
            }
            for m in maps
        ]
        return cls(
            size=[height, width],
            probe=[width / 2, height / 2],
            image=input_image(record, config, index).permute(1, 2, 0).numpy().tobytes(),
            backbone=shapes[:4],
            pyramid=shapes[4:],
            features=b"".join(_bytes(m.permute(1, 2, 0)) for m in maps),
            cells=pack(torch.cat(cells)),
            rpn=pack(torch.cat([objectness, record.deltas[index].detach()], dim=1)),
            proposals=pack(
                torch.cat([best.boxes, best.scores[:, None]], dim=1)[:proposals].detach()
            ),
            detections=pack(
                torch.cat(
                    [found.boxes, found.scores[:, None], found.labels[:, None].float()], dim=1
                )[good]
            ),
            masks=(masks[good].cpu() * 255).round().byte().numpy().tobytes(),
            names=list(names),
        )

    def figure(self) -> Figure:
        """The image beside its detections: the first stage and the last."""
        height, width = self.size
        image = np.frombuffer(self.image, np.uint8).reshape(height, width, 3)
        figure = Figure(figsize=(7, 3.4))
        left, right = figure.subplots(1, 2)
        left.imshow(image)
        right.imshow(_painted(self))
        left.set_title("image")
        right.set_title("detections")
        for axis in (left, right):
            axis.set_axis_off()
        return figure


def _bytes(values: Tensor) -> bytes:
    """Numbers scaled so that their largest absolute value is 255."""
    scaled = values.abs() / values.abs().max().clamp(min=1e-9)
    return (scaled * 255).round().byte().numpy().tobytes()


def _painted(widget: StageExplorer) -> np.ndarray:
    height, width = widget.size
    found = torch.from_numpy(np.frombuffer(widget.detections, "<f4").reshape(-1, 6).copy())
    image = np.frombuffer(widget.image, np.uint8).reshape(height, width, 3).copy()
    side = round((len(widget.masks) / max(1, len(found))) ** 0.5)
    masks = np.frombuffer(widget.masks, np.uint8).reshape(len(found), side, side).copy()
    detections = Detections(
        found[:, :4], found[:, 5].long(), found[:, 4], torch.from_numpy(masks).float() / 255
    )
    picture = draw_detections(
        torch.from_numpy(image).permute(2, 0, 1), detections, widget.names, scale=3
    )
    return np.asarray(picture)
