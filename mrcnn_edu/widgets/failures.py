"""The loss browser: a training that failed beside one that did not. Chapter 13."""

import base64
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import traitlets
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from mrcnn_edu import boxes as box_ops
from mrcnn_edu import masks as mask_ops
from mrcnn_edu.data.coco import CocoFormatDataset
from mrcnn_edu.pictures.show import BLUE, GREEN, RED, show_boxes, show_image
from mrcnn_edu.widgets.common import Widget, bundle, pack, photograph, unpack

SERIES = ("loss", "rpn_objectness", "rpn_box", "box_class", "box", "mask", "gradient_norm")
OVERLAP = 0.5  # IoU from which a detection is right; failures.js has the same


class FailureBrowser(Widget):
    """Curves and detections of a run, beside those of the first one, which is healthy.

    A detection is [x, y, width, height, label, score, run lengths], in pixels of the image, best
    first; it is right if it overlaps an object of its class by half, and no better detection has
    claimed that object.
    """

    _esm = bundle("failures")
    titles = traitlets.List(traitlets.Unicode()).tag(
        sync=True
    )  # of the runs, the healthy one first
    steps = traitlets.Int(0).tag(sync=True)
    curves = traitlets.Bytes().tag(sync=True)  # float32 [runs, series, steps], NaN where none is
    measured: traitlets.List[Any] = traitlets.List().tag(sync=True)  # of each run (box AP, mask AP)
    images = traitlets.List(traitlets.Unicode()).tag(sync=True)  # data URLs
    size = traitlets.List([0, 0]).tag(sync=True)  # H, W of each
    truths: traitlets.List[Any] = traitlets.List().tag(
        sync=True
    )  # of each image: [x1, y1, x2, y2, label] of each object
    found: traitlets.List[Any] = traitlets.List().tag(
        sync=True
    )  # of each run and image: its detections
    names = traitlets.List(traitlets.Unicode()).tag(sync=True)  # of the classes
    run = traitlets.Int(1).tag(sync=True)
    series = traitlets.Unicode("loss").tag(sync=True)
    width = traitlets.Int(15).tag(sync=True)  # steps of the sliding mean
    step = traitlets.Int(100).tag(sync=True)  # where the curves are read
    picture = traitlets.Int(1).tag(sync=True)
    threshold = traitlets.Float(0.35).tag(sync=True)  # detections with a higher score are shown

    @classmethod
    def from_results(
        cls, files: Sequence[Path], dataset: CocoFormatDataset, **traits: Any
    ) -> "FailureBrowser":
        """Make one of results that `benchmarks.failures` wrote.

        Args:
            files: one for each run, the healthy one first.
            dataset: the images that the runs were measured on.
            traits: what the reader may change, to begin with.
        """
        runs = [json.loads(Path(file).read_text("utf-8")) for file in files]
        shown = runs[0]["config"]["shown"]
        samples = [dataset[i] for i in shown]
        truths = [
            torch.cat([target["boxes"], target["labels"][:, None].float()], dim=1).tolist()
            for _, target in samples
        ]
        length = max(len(run["train"]["loss"]) for run in runs)
        curves = np.full((len(runs), len(SERIES), length), np.nan, np.float32)
        for r, run in enumerate(runs):
            for s, name in enumerate(SERIES):
                values = np.array(run["train"][name], np.float32)  # None becomes NaN
                curves[r, s, : len(values)] = values
        return cls(
            titles=[run["title"] for run in runs],
            steps=length,
            curves=pack(torch.from_numpy(curves)),
            measured=[[run["metrics"][kind]["AP"] for kind in ("box", "mask")] for run in runs],
            images=[photograph(image) for image, _ in samples],
            size=list(samples[0][0].shape[1:]),
            truths=truths,
            found=[
                [
                    [[*d["bbox"], d["label"], d["score"], d["mask"]] for d in of_image]
                    for of_image in run["detections"]
                ]
                for run in runs
            ],
            names=list(dataset.class_names),
            **traits,
        )

    def smoothed(self, run: int, series: str) -> NDArray[np.float64]:
        """A curve as a sliding mean over `width` steps: [steps − width + 1], NaN where one is."""
        shape = (len(self.titles), len(SERIES), self.steps)
        values = unpack(self.curves, shape)[run, SERIES.index(series)].astype(np.float64)
        width = min(self.width, len(values))
        return np.lib.stride_tricks.sliding_window_view(values, width).mean(axis=1)

    def shown(self, run: int) -> list[list[Any]]:
        """The detections of a run in the picture with a score above the threshold."""
        return [d for d in self.found[run][self.picture] if d[5] > self.threshold]

    def claims(self, run: int) -> list[int]:
        """For each detection that is shown the object that it claims; −1 if it is wrong."""
        truths = torch.tensor(self.truths[self.picture]).reshape(-1, 5)  # [G, 5]
        claimed: list[int] = []
        for x, y, w, h, label, *_ in self.shown(run):
            overlaps = box_ops.iou(torch.tensor([[x, y, x + w, y + h]]), truths[:, :4])[0]  # [G]
            free = truths[:, 4] == label
            for g in claimed:
                free[g] = free[g] & (g < 0)
            overlaps = torch.where(free & (overlaps >= OVERLAP), overlaps, -1.0)
            best = int(overlaps.argmax()) if len(overlaps) else -1
            claimed.append(best if best >= 0 and overlaps[best] >= 0 else -1)
        return claimed

    def figure(self) -> Figure:
        """Left the curves, then the healthy run's detections, then the other's."""
        figure = Figure(figsize=(7.6, 2.4), layout="constrained")
        chart, *pictures = figure.subplots(1, 3, width_ratios=(1.7, 1, 1))
        for run, paint in ((0, BLUE), (self.run, RED)):
            values = self.smoothed(run, self.series)
            chart.plot(np.arange(len(values)) + (self.width - 1) / 2, values, color=paint,
                       label=self.titles[run])  # fmt: skip
        chart.set(yscale="log", xlabel="step", title=self.series.replace("_", " "))
        chart.legend(fontsize=6)
        for axis, run in zip(pictures, (0, self.run), strict=True):
            self._draw(axis, run)
        return figure

    def _draw(self, axis: Axes, run: int) -> None:
        right = torch.tensor(self.claims(run), dtype=torch.long) >= 0
        picture = self._picture().float()
        for (*_, counts), good in zip(self.shown(run), right.tolist(), strict=True):
            mask = mask_ops.decode({"size": self.size, "counts": counts}).bool()  # [H, W]
            paint = torch.tensor([47.0, 158, 115] if good else [213.0, 94, 0])[:, None]
            picture[:, mask] = 0.5 * picture[:, mask] + 0.5 * paint
        show_image(axis, picture.to(torch.uint8))
        boxes = torch.tensor([d[:4] for d in self.shown(run)]).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        show_boxes(axis, boxes[~right], RED, linewidth=1.2)
        show_boxes(axis, boxes[right], GREEN, linewidth=1.8)
        box, mask = self.measured[run]
        axis.set_title(f"{self.titles[run]}\nAP {box:.0f} box, {mask:.0f} mask", fontsize=7)

    def _picture(self) -> Tensor:
        file = io.BytesIO(base64.b64decode(self.images[self.picture].partition(",")[2]))
        return torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1)  # [3, H, W]
