"""R50-FPN Mask R-CNN against torchvision's with the same weights: inference and a training step.

    python -m benchmarks.model                  # CPU, writes results/model_cpu.json
    python -m benchmarks.model --device cuda
    python -m benchmarks.model --compile        # what torch.compile is worth: ours against ours

Weights are random, and scaled so that 1,000 proposals and 100 detections come out, as they do of a
trained model on a busy image. Inference goes from the image to masks of the image's size, which is
what torchvision's model returns. A training step is forward, losses, backward and SGD, on two
images with ten objects each. Calls of both are interleaved. A second table says where our time
goes. Before timing, the detections are compared. With --compile our model runs against a copy
whose backbone, pyramid and heads are compiled, as `mrcnn-edu train --compile` does; compiling,
which takes minutes, is timed apart.
"""

import argparse
import copy
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.timing import interleave, medians, ratio, table
from mrcnn_edu import masks as mask_ops
from mrcnn_edu.files import write_json
from mrcnn_edu.model import MaskRCNN
from mrcnn_edu.nn.box_head import box_losses, sample_rois
from mrcnn_edu.nn.detections import select_detections
from mrcnn_edu.nn.mask_head import mask_loss
from mrcnn_edu.nn.rpn import rpn_losses
from mrcnn_edu.presets import R50_FPN
from mrcnn_edu.provenance import provenance
from mrcnn_edu.record import Detections
from mrcnn_edu.training.train import compile_parts
from tests.scenes import random_scene
from tests.torchvision_twin import busy_model, twin_of

SEED = 0
SIZE = (800, 1066)
OBJECTS = 10


class Race:
    """Our model, its rival, one batch, and the steps that are timed."""

    def __init__(self, device: str, autocast: bool, compiled: bool = False) -> None:
        generator = torch.Generator().manual_seed(SEED)
        scenes = [random_scene(SIZE, OBJECTS, generator, R50_FPN.num_classes) for _ in range(2)]
        self.images = [image.to(device) for image, _ in scenes]
        self.targets = [{k: v.to(device) for k, v in target.items()} for _, target in scenes]
        ours = busy_model(R50_FPN, [scenes[0][0]])
        self.ours: MaskRCNN = ours.to(device)
        self.rival = copy.deepcopy(self.ours) if compiled else twin_of(ours).to(device)
        if compiled:
            compile_parts(self.rival)
        self.optimizers = {
            model: torch.optim.SGD(
                [p for p in model.parameters() if p.requires_grad], lr=1e-9, momentum=0.9
            )
            for model in (self.ours, self.rival)
        }
        self.device, self.autocast = device, autocast
        self.generators = [torch.Generator().manual_seed(SEED + i) for i in range(2)]

    def precision(self) -> torch.autocast:
        """float32, or bfloat16 where it is safe."""
        return torch.autocast(self.device, torch.bfloat16, enabled=self.autocast)

    def wait(self) -> None:
        """A GPU's call returns before its work is done."""
        if self.device == "cuda":
            torch.cuda.synchronize()

    @torch.no_grad()
    def detect(self, model: MaskRCNN) -> tuple[Detections, Tensor]:
        """Detections of one image by a model of ours, and its masks [D, 1, H, W]."""
        model.eval()
        with self.precision():
            found = model.detect(model(self.images[:1])).detections[0]
        assert found.masks is not None
        masks = mask_ops.paste(found.masks, found.boxes, SIZE, "torchvision")
        self.wait()
        return found, masks[:, None]

    @torch.no_grad()
    def detect_torchvision(self) -> dict[str, Tensor]:
        """torchvision's."""
        self.rival.eval()
        with self.precision():
            found = self.rival(self.images[:1])[0]
        self.wait()
        return found

    def train(self, model: MaskRCNN) -> None:
        """The training step of a model of ours."""
        model.train()
        with self.precision():
            losses = model.losses(model(self.images), self.targets, self.generators)
        self._step(model, losses)

    def train_torchvision(self) -> None:
        """torchvision's."""
        self.rival.train()
        with self.precision():
            losses = self.rival(self.images, [dict(t) for t in self.targets])
        self._step(self.rival, losses)

    def _step(self, model: nn.Module, losses: dict[str, Tensor]) -> None:
        self.optimizers[model].zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()
        self.optimizers[model].step()
        self.wait()

    def check(self) -> dict[str, float]:
        """How many boxes came out, and how many of the rival's detections we have too."""
        ours, masks = self.detect(self.ours)
        if isinstance(self.rival, MaskRCNN):
            found, rival_masks = self.detect(self.rival)
            boxes, labels = found.boxes, found.labels
        else:
            theirs = self.detect_torchvision()
            boxes, labels, rival_masks = theirs["boxes"], theirs["labels"], theirs["masks"]
        near = (ours.boxes[:, None] - boxes[None]).abs().amax(dim=2) < 0.1
        near &= ours.labels[:, None] == labels[None]
        assert masks.shape == rival_masks.shape
        with torch.no_grad():
            proposals = self.ours.propose(self.ours(self.images[:1]), training=False)
        return {
            "proposals": len(proposals[0].boxes),
            "detections": len(ours.boxes),
            "same": float(near.any(dim=0).float().mean()),
        }

    def stages(self, repeats: int) -> list[dict[str, object]]:
        """Median milliseconds of each stage of ours."""
        seconds: dict[str, list[float]] = defaultdict(list)
        for i in range(repeats + 1):
            for name, took in [*self._inference_stages(), *self._training_stages()]:
                if i:
                    seconds[name].append(took)
        return [
            {"stage": name, "milliseconds": round(1e3 * sorted(s)[len(s) // 2], 1)}
            for name, s in seconds.items()
        ]

    @torch.no_grad()
    def _inference_stages(self) -> list[tuple[str, float]]:
        m, c, clock = self.ours.eval(), self.ours.config, Clock(self.wait)
        with self.precision():
            batch, _ = clock("batch", lambda: m.batch(self.images[:1]))
            maps = clock("backbone", lambda: m.backbone(batch))
            pyramid = clock("pyramid", lambda: m.neck(maps))
            clock("RPN head", lambda: m.rpn(pyramid))
            record = m(self.images[:1])
            clock.restart()
            rois = [p.boxes for p in clock("proposals", lambda: m.propose(record, False))]
            features = clock("box RoIAlign", lambda: m.roi_features(record, rois, c.box_pool))
            logits, deltas = clock("box head", lambda: m.box_head(features))
            found = clock(
                "box selection", lambda: select_detections(logits, deltas, rois[0], SIZE, c)
            )
            (done,) = clock("masks", lambda: m.complete(record, [found]))
        clock("paste", lambda: mask_ops.paste(done.masks, done.boxes, SIZE, "torchvision"))
        return [(f"inference: {name}", took) for name, took in clock.laps]

    def _training_stages(self) -> list[tuple[str, float]]:
        m, c, clock = self.ours.train(), self.ours.config, Clock(self.wait)
        gt = [t["boxes"] for t in self.targets]
        with self.precision():
            record = clock("backbone, pyramid, RPN head", lambda: m(self.images))
            anchors = torch.cat(record.anchors)
            *of_anchors, sampled = clock(
                "RPN targets and losses",
                lambda: rpn_losses(
                    record.objectness, record.deltas, anchors, gt, c, self.generators
                ),
            )
            proposals = clock("proposals", lambda: m.propose(record, True))
            samples = clock(
                "RoI sampling",
                lambda: [
                    sample_rois(p.boxes, t["boxes"], t["labels"], c, g)
                    for p, t, g in zip(proposals, self.targets, self.generators, strict=True)
                ],
            )
            rois = [s.boxes for s in samples]
            features = clock("box RoIAlign", lambda: m.roi_features(record, rois, c.box_pool))
            logits, deltas = clock("box head", lambda: m.box_head(features))
            *of_rois, count = clock(
                "box losses", lambda: box_losses(logits, deltas, samples, gt, c)
            )
            positives = [s.boxes[: s.num_positive] for s in samples]
            pooled = clock("mask RoIAlign", lambda: m.roi_features(record, positives, c.mask_pool))
            masks = clock("mask head", lambda: m.mask_head(pooled))
            truth = [t["masks"] for t in self.targets]
            of_pixels, pixels = clock("mask loss", lambda: mask_loss(masks, samples, truth, c))
            loss = sum(of_anchors) / sampled + sum(of_rois) / count + of_pixels / max(1, pixels)
        optimizer = self.optimizers[self.ours]
        optimizer.zero_grad(set_to_none=True)
        clock("backward", loss.backward)
        clock("optimiser", optimizer.step)
        return [(f"training: {name}", took) for name, took in clock.laps]


class Clock:
    """Calls a function and notes how long it took."""

    def __init__(self, wait: Callable[[], None]) -> None:
        self.wait, self.laps = wait, list[tuple[str, float]]()
        self.restart()

    def restart(self) -> None:
        """Start the next lap now."""
        self.wait()
        self.start = time.perf_counter()

    def __call__(self, name: str, function: Callable[[], Any]) -> Any:
        self.restart()
        result = function()
        self.wait()
        self.laps.append((name, time.perf_counter() - self.start))
        return result


def main() -> None:
    """Race, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--autocast", action="store_true", help="bfloat16 for both models")
    parser.add_argument("--compile", action="store_true", help="ours against ours, compiled")
    parser.add_argument("--dry", action="store_true", help="write no result")
    arguments = parser.parse_args()
    config = {
        **vars(arguments),
        "threads": torch.get_num_threads(),
        "image": SIZE,
        "objects": OBJECTS,
        "model": "r50_fpn",
    }
    origin = provenance(config, SEED)
    start = time.perf_counter()
    race = Race(arguments.device, arguments.autocast, arguments.compile)
    outcome: dict[str, Any] = race.check()
    print(outcome)
    # Ratios are the time of the first over that of the second.
    first, second = ("ours", "compiled") if arguments.compile else ("torchvision", "ours")
    if arguments.compile:
        steps = (partial(race.detect, race.ours), partial(race.detect, race.rival))
        training = (partial(race.train, race.ours), partial(race.train, race.rival))
        training[1]()
        outcome["first calls, s"] = round(time.perf_counter() - start, 1)
    else:
        steps = (race.detect_torchvision, partial(race.detect, race.ours))
        training = (race.train_torchvision, partial(race.train, race.ours))
    rows: list[dict[str, object]] = []
    for name, calls in (
        ("inference, one image 800 × 1066", steps),
        ("training step, two images", training),
    ):
        seconds = interleave({first: calls[0], second: calls[1]}, arguments.repeats, warmup=1)
        m = medians(seconds)
        rows.append(
            {
                "case": name,
                f"{first} ms": round(1e3 * m[first], 1),
                f"{second} ms": round(1e3 * m[second], 1),
                "ratio": round(ratio(seconds, first, second), 3),
            }
        )
        print(table(f"{first} / {second} on {arguments.device}", rows[-1:]), flush=True)
    result = {**origin, **outcome, "rows": rows}
    if not arguments.compile:
        result["stages"] = race.stages(max(3, arguments.repeats // 2))
        print(table("where our time goes", result["stages"]))
    if arguments.device == "cuda":
        result["gpu"] = torch.cuda.get_device_name()
    if not arguments.dry:
        suffix = ("_bf16" if arguments.autocast else "") + ("_compiled" * arguments.compile)
        write_json(f"results/model_{arguments.device}{suffix}.json", result)


if __name__ == "__main__":
    main()
