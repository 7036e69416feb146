"""Where the time of one image goes: each stage of our model and of torchvision's, in turn.

    python -m benchmarks.time_bars                  # writes results/time_bars_cpu.json
    python -m benchmarks.time_bars --backbones      # writes results/backbones_cpu.json

R50-FPN at 800 × 1066 with the same weights, scaled so that 1,000 proposals and 100 detections come
out (`benchmarks.model`). Both go from the image to the run lengths of its masks. Then what the mask
branch costs: the same model with and without it, without the paste, which the paper counts apart.
Then one pass of the paper's backbones (detectron2's numbers of proposals), random weights.
"""

import argparse
import os
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from pycocotools import mask as coco
from torch import nn

from benchmarks.timing import interleave, medians, table
from mrcnn_edu import masks as mask_ops
from mrcnn_edu.evaluation.cost import count
from mrcnn_edu.files import write_json
from mrcnn_edu.model import MaskRCNN
from mrcnn_edu.nn.detections import select_detections
from mrcnn_edu.presets import R50_FPN, preset
from mrcnn_edu.provenance import provenance
from mrcnn_edu.record import Record
from tests.scenes import random_scene
from tests.torchvision_twin import busy_model, twin_of

SEED = 0
SIZE = (800, 1066)
BACKBONES = ("r50_fpn", "r101_fpn", "x101_fpn", "r50_c4", "r101_c4")
# Which of torchvision's modules are which stage; what is left of a parent is the last name.
THEIRS = {
    "backbone.body": "backbone",
    "backbone.fpn": "pyramid",
    "rpn.head": "RPN head",
    "roi_heads.box_roi_pool": "box RoIAlign",
    "roi_heads.box_head": "box head",
    "roi_heads.box_predictor": "box head",
    "roi_heads.mask_roi_pool": "mask RoIAlign",
    "roi_heads.mask_head": "mask head",
    "roi_heads.mask_predictor": "mask head",
}
STAGES = (
    "batch", "backbone", "pyramid", "RPN head", "proposals", "box RoIAlign", "box head",
    "detections", "mask RoIAlign", "mask head", "paste and encode",
)  # fmt: skip


class Laps:
    """Seconds by stage of one pass."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    def __call__(self, stage: str, function: Callable[..., Any], *given: Any) -> Any:
        start = time.perf_counter()
        result = function(*given)
        self.seconds[stage] += time.perf_counter() - start
        return result


@torch.no_grad()
def our_stages(m: MaskRCNN, image: torch.Tensor) -> dict[str, float]:
    """One pass of ours, stage by stage, through its own parts."""
    c, lap = m.config, Laps()
    batch, sizes = lap("batch", m.batch, [image])
    maps = lap("backbone", m.backbone, batch)
    pyramid = lap("pyramid", m.neck, maps)
    objectness, deltas = lap("RPN head", m.rpn, pyramid)
    anchors = m.neck.anchors(pyramid, (batch.shape[2], batch.shape[3]))
    record = Record(batch, sizes, maps, pyramid, anchors, objectness, deltas)
    rois = [p.boxes for p in lap("proposals", m.propose, record, False)]
    features = lap("box RoIAlign", m.roi_features, record, rois, c.box_pool)
    logits, moves = lap("box head", m.box_head, features)
    found = lap("detections", select_detections, logits, moves, rois[0], SIZE, c)
    pooled = lap("mask RoIAlign", m.roi_features, record, [found.boxes], c.mask_pool)
    masks = lap("mask head", m.mask_head, pooled)
    own = masks[torch.arange(len(masks)), found.labels - 1].sigmoid()  # [D, M, M]
    paste = partial(mask_ops.paste_to_rle, dialect="torchvision")
    runs = lap("paste and encode", paste, own, found.boxes, SIZE)
    assert len(runs) == len(found.boxes)
    return dict(lap.seconds)


class Theirs:
    """torchvision's model, whose modules note when they begin and end."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.seconds = model.eval(), defaultdict[str, float](float)
        self.starts: dict[str, float] = {}
        watched = [*THEIRS, "transform", "rpn", "roi_heads"]
        for name in watched:
            module = model.get_submodule(name)
            module.register_forward_pre_hook(self._begin(name))
            module.register_forward_hook(self._end(name))

    def _begin(self, name: str) -> Callable[..., None]:
        def begin(*_: Any) -> None:
            self.starts[name] = time.perf_counter()

        return begin

    def _end(self, name: str) -> Callable[..., None]:
        def end(*_: Any) -> None:
            self.seconds[name] += time.perf_counter() - self.starts[name]

        return end

    @torch.no_grad()
    def stages(self, image: torch.Tensor) -> dict[str, float]:
        """One pass, and its masks to run lengths with pycocotools."""
        self.seconds.clear()
        start = time.perf_counter()
        found = self.model([image])[0]
        passed = time.perf_counter() - start
        bits = (found["masks"][:, 0] > 0.5).numpy()  # [D, H, W]
        coco.encode(np.asfortranarray(bits.transpose(1, 2, 0).astype(np.uint8)))
        whole = time.perf_counter() - start
        s = self.seconds
        stages: dict[str, float] = defaultdict(float)
        for name, stage in THEIRS.items():
            stages[stage] += s[name]
        stages["batch"] = s["transform"]
        stages["proposals"] = s["rpn"] - s["rpn.head"]
        heads = sum(v for k, v in s.items() if k.startswith("roi_heads."))
        stages["detections"] = s["roi_heads"] - heads
        stages["paste and encode"] = whole - sum(stages.values())
        assert passed < whole
        return dict(stages)


def stage_rows(repeats: int) -> tuple[list[dict[str, object]], dict[str, list[float]]]:
    """Milliseconds of each stage, ours and torchvision's in turn, and seconds of each pass.

    The stages are those of the fastest pass of each, so that they add up to a pass that was.
    """
    image, _ = random_scene(SIZE, 10, torch.Generator().manual_seed(SEED), R50_FPN.num_classes)
    ours = busy_model(R50_FPN, [image])
    theirs = Theirs(twin_of(ours))
    seconds: dict[str, list[dict[str, float]]] = {"ours": [], "torchvision": []}
    for turn in range(repeats + 1):
        passes = {"ours": our_stages(ours, image), "torchvision": theirs.stages(image)}
        for name, stages in passes.items():
            if turn:  # the first warms up
                seconds[name].append(stages)
        print(turn, {k: round(sum(v.values()), 2) for k, v in passes.items()}, flush=True)
    passes = {name: sorted(sum(p.values()) for p in of) for name, of in seconds.items()}
    least = {name: min(of, key=lambda p: sum(p.values())) for name, of in seconds.items()}
    rows: list[dict[str, object]] = [
        {"stage": s, **{f"{name} ms": round(1e3 * of[s], 2) for name, of in least.items()}}
        for s in STAGES
    ]
    return rows, passes


@torch.no_grad()
def detect(model: MaskRCNN, image: torch.Tensor) -> None:
    """One pass, from the image to boxes, and masks of M × M where there is a head."""
    model.detect(model([image]))


def mask_row(repeats: int) -> dict[str, object]:
    """What the mask branch adds to one pass, as the paper counts it: without the paste."""
    image, _ = random_scene(SIZE, 10, torch.Generator().manual_seed(SEED), R50_FPN.num_classes)
    model = busy_model(R50_FPN, [image])
    faster = busy_model(preset("faster_r50_fpn"), [image])
    faster.load_state_dict(model.state_dict(), strict=False)
    calls = {"with": lambda: detect(model, image), "without": lambda: detect(faster, image)}
    m = medians(interleave(calls, repeats, warmup=1))
    row: dict[str, object] = {f"{name} ms": round(1e3 * s, 1) for name, s in m.items()}
    return row | {"overhead": round(m["with"] / m["without"] - 1, 3)}


def depth_rows(repeats: int) -> list[dict[str, object]]:
    """One pass of each of the paper's backbones, the fastest, and its multiply-adds."""
    image, _ = random_scene(SIZE, 10, torch.Generator().manual_seed(SEED), R50_FPN.num_classes)
    models = {name: busy_model(preset(name, "detectron2"), [image]) for name in BACKBONES}
    calls = {n: (lambda m=m: detect(m, image)) for n, m in models.items()}
    m = {name: min(s) for name, s in interleave(calls, repeats, warmup=0).items()}
    return [
        {
            "model": name,
            "ms": round(1e3 * seconds, 1),
            "gmac": count(models[name].config, (800, 1088))["gmac_total"],
        }
        for name, seconds in m.items()
    ]


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--backbones", action="store_true", help="the paper's backbones instead")
    options = parser.parse_args()
    config = {"repeats": options.repeats, "image": SIZE, "threads": torch.get_num_threads()}
    result: dict[str, Any] = {**provenance(config, SEED), "load_before": os.getloadavg()[0]}
    if options.backbones:
        result["backbones"] = depth_rows(options.repeats)
        print(table("one pass of each backbone", result["backbones"]))
        write_json("results/backbones_cpu.json", result)
        return
    result["stages"], result["seconds of passes"] = stage_rows(options.repeats)
    print(table("milliseconds by stage", result["stages"]), flush=True)
    result["mask branch"] = mask_row(2 * options.repeats)
    print(result["mask branch"], flush=True)
    write_json("results/time_bars_cpu.json", result)


if __name__ == "__main__":
    main()
