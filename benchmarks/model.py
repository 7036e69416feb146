"""R50-FPN Mask R-CNN against torchvision's with the same weights: inference and a training step.

    python -m benchmarks.model                  # CPU, writes results/model_cpu.json
    python -m benchmarks.model --device cuda

Weights are random, and scaled so that 1,000 proposals and 100 detections come out, as they do of a
trained model on a busy image. Inference goes from the image to masks of the image's size, which is
what torchvision's model returns. A training step is forward, losses, backward and SGD, on two
images with ten objects each. Calls of both are interleaved. A second table says where our time
goes. Before timing, the detections are compared.
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.timing import interleave, medians, ratio, table
from mrcnn_edu import masks as mask_ops
from mrcnn_edu.model import Detections, MaskRCNN
from mrcnn_edu.nn.box_head import box_losses, sample_rois
from mrcnn_edu.nn.detections import select_detections
from mrcnn_edu.nn.mask_head import mask_loss
from mrcnn_edu.nn.rpn import rpn_losses
from mrcnn_edu.presets import R50_FPN
from mrcnn_edu.provenance import provenance, write_json
from tests.scenes import random_scene
from tests.torchvision_twin import busy_model, twin_of

SEED = 0
SIZE = (800, 1066)
OBJECTS = 10


class Race:
    """Both models, one batch, and the steps that are timed."""

    def __init__(self, device: str, autocast: bool) -> None:
        generator = torch.Generator().manual_seed(SEED)
        scenes = [random_scene(SIZE, OBJECTS, generator, R50_FPN.num_classes) for _ in range(2)]
        self.images = [image.to(device) for image, _ in scenes]
        self.targets = [{k: v.to(device) for k, v in target.items()} for _, target in scenes]
        ours = busy_model(R50_FPN, [scenes[0][0]])
        self.theirs = twin_of(ours).to(device)
        self.ours: MaskRCNN = ours.to(device)
        self.optimizers = {
            name: torch.optim.SGD(
                [p for p in model.parameters() if p.requires_grad], lr=1e-9, momentum=0.9
            )
            for name, model in (("ours", self.ours), ("torchvision", self.theirs))
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
    def detect(self) -> tuple[Detections, Tensor]:
        """Our detections of one image, and its masks [D, 1, H, W]."""
        self.ours.eval()
        with self.precision():
            found = self.ours.detect(self.ours(self.images[:1])).detections[0]
        assert found.masks is not None
        masks = mask_ops.paste(found.masks, found.boxes, SIZE, "torchvision")
        self.wait()
        return found, masks[:, None]

    @torch.no_grad()
    def detect_torchvision(self) -> dict[str, Tensor]:
        """torchvision's."""
        self.theirs.eval()
        with self.precision():
            found = self.theirs(self.images[:1])[0]
        self.wait()
        return found

    def train(self) -> None:
        """Our training step."""
        self.ours.train()
        with self.precision():
            losses = self.ours.losses(self.ours(self.images), self.targets, self.generators)
        self._step("ours", losses)

    def train_torchvision(self) -> None:
        """torchvision's."""
        self.theirs.train()
        with self.precision():
            losses = self.theirs(self.images, [dict(t) for t in self.targets])
        self._step("torchvision", losses)

    def _step(self, name: str, losses: dict[str, Tensor]) -> None:
        self.optimizers[name].zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()
        self.optimizers[name].step()
        self.wait()

    def check(self) -> dict[str, float]:
        """How many boxes came out, and how many of torchvision's detections we have too."""
        ours, masks = self.detect()
        theirs = self.detect_torchvision()
        near = (ours.boxes[:, None] - theirs["boxes"][None]).abs().amax(dim=2) < 0.1
        near &= ours.labels[:, None] == theirs["labels"][None]
        assert masks.shape == theirs["masks"].shape
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
            maps = clock("trunk", lambda: m.trunk(batch))
            pyramid = clock("pyramid", lambda: m.fpn(maps))
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
            record = clock("trunk, pyramid, RPN head", lambda: m(self.images))
            anchors = torch.cat(record.anchors)
            losses = clock(
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
            losses |= clock("box losses", lambda: box_losses(logits, deltas, samples, gt, c))
            positives = [s.boxes[: s.num_positive] for s in samples]
            pooled = clock("mask RoIAlign", lambda: m.roi_features(record, positives, c.mask_pool))
            masks = clock("mask head", lambda: m.mask_head(pooled))
            truth = [t["masks"] for t in self.targets]
            losses |= clock("mask loss", lambda: mask_loss(masks, samples, truth, c))
        optimizer = self.optimizers["ours"]
        optimizer.zero_grad(set_to_none=True)
        clock("backward", lambda: torch.stack(list(losses.values())).sum().backward())
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
    race = Race(arguments.device, arguments.autocast)
    outcome = race.check()
    print(outcome)
    rows: list[dict[str, object]] = []
    for name, ours, theirs in (
        ("inference, one image 800 × 1066", race.detect, race.detect_torchvision),
        ("training step, two images", race.train, race.train_torchvision),
    ):
        seconds = interleave({"torchvision": theirs, "ours": ours}, arguments.repeats, warmup=1)
        m = medians(seconds)
        rows.append(
            {
                "case": name,
                "torchvision ms": round(1e3 * m["torchvision"], 1),
                "ours ms": round(1e3 * m["ours"], 1),
                "ratio": round(ratio(seconds, "torchvision", "ours"), 3),
            }
        )
        print(table(f"torchvision / ours on {arguments.device}", rows[-1:]), flush=True)
    stages = race.stages(max(3, arguments.repeats // 2))
    print(table("where our time goes", stages))
    if not arguments.dry:
        suffix = "_bf16" if arguments.autocast else ""
        result = {**origin, **outcome, "rows": rows, "stages": stages}
        if arguments.device == "cuda":
            result["gpu"] = torch.cuda.get_device_name()
        write_json(f"results/model_{arguments.device}{suffix}.json", result)


if __name__ == "__main__":
    main()
