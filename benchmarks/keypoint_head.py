"""A keypoint head for the course's model: trained with and without left and right changing names.

The shipped detector stays as it is. A small head (four convolutions of 64 channels) learns to find
the joints of Shapes' persons in the features that it pools: on 400 pictures of persons and their
mirror images. In one arm a mirrored left wrist is called a right wrist, in the other only places
are mirrored, not names. Both see the same features in the same order.

    OMP_NUM_THREADS=1 python -m benchmarks.keypoint_head

Measures keypoint AP on the 200 validation images, on the boxes that the detector finds. Writes
results/keypoint_head.json after every run, and of the first arm's seed 0 the weights in float16,
`data/keypoint_head_shapes.safetensors` (0.3 MB). About nine minutes of one core.
"""

import dataclasses
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from mrcnn_edu.config import ModelConfig
from mrcnn_edu.data.shapes import ShapesConfig, ShapesDataset, default_set, generate
from mrcnn_edu.data.transforms import MIRRORED_JOINTS, horizontal_flip, resize_target, to_float
from mrcnn_edu.data.transforms import resize as resize_image
from mrcnn_edu.evaluation.detect import coco_results
from mrcnn_edu.evaluation.measure import measure
from mrcnn_edu.files import write_atomically, write_json
from mrcnn_edu.model import MaskRCNN
from mrcnn_edu.nn.keypoint_head import keypoint_loss
from mrcnn_edu.provenance import provenance
from mrcnn_edu.weights.checkpoint import load_model

ROOT = Path(__file__).resolve().parent.parent
WEIGHTS = ROOT / "data" / "keypoint_head_shapes.safetensors"
PICTURES, STEPS, BATCH, RATE, SEEDS = 400, 500, 32, 3e-3, 3
JITTER = 0.1  # of a box's sides: its corners are moved by up to so much
ARMS = {"renamed": True, "not renamed": False}


def with_joints(detector: MaskRCNN) -> MaskRCNN:
    """The same detector with a new keypoint head."""
    changes: dict[str, Any] = {"keypoints": 17, "keypoint_convs": 4, "keypoint_channels": 64}
    model = MaskRCNN(dataclasses.replace(detector.config, **changes)).eval()
    model.load_state_dict(detector.state_dict(), strict=False)
    return model


@torch.no_grad()
def examples(detector: MaskRCNN, mirrored: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Features [R, C, P, P], boxes [R, 4] and joints [R, 17, 3] of persons, with names changed."""
    persons = ShapesDataset(generate(ShapesConfig(classes=("person",)), PICTURES, seed=1))
    generator = torch.Generator().manual_seed(0)
    c: ModelConfig = detector.config
    found = []
    for image, target in (persons[i] for i in range(PICTURES)):
        if mirrored:
            image, target = horizontal_flip(image, target)
        large = resize_image(to_float(image), c.short_side, c.long_side)
        t = resize_target(target, image.shape[1:], large.shape[1:])
        sides = (t["boxes"][:, 2:] - t["boxes"][:, :2]).repeat(1, 2)  # [G, 4]
        moves = 2 * torch.rand(sides.shape, generator=generator) - 1
        boxes = t["boxes"] + JITTER * moves * sides
        features = detector.roi_features(detector([large]), [boxes], c.keypoint_pool)
        found.append((features, boxes, t["keypoints"]))
    features, boxes, joints = (torch.cat(part) for part in zip(*found, strict=True))
    return features, boxes, joints


def train(model: MaskRCNN, items: tuple[Tensor, Tensor, Tensor], seed: int) -> list[float]:
    """Train the keypoint head alone; returns its loss at each step."""
    head = model.keypoint_head
    assert head is not None
    optimizer = torch.optim.AdamW(head.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=STEPS)
    draw = torch.Generator().manual_seed(seed)
    losses = []
    for _ in range(STEPS):
        chosen = torch.randint(len(items[0]), (BATCH,), generator=draw)
        features, boxes, joints = (part[chosen] for part in items)
        total, count = keypoint_loss(head(features), boxes, joints)
        loss = total / count.clamp(min=1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return losses


def main() -> None:
    """Train both arms with every seed, measure, write."""
    torch.set_num_threads(1)
    detector = load_model(ROOT / "data" / "tiny_fpn_shapes.safetensors").model
    constants = {"pictures": PICTURES, "steps": STEPS, "batch": BATCH, "rate": RATE}
    settings: dict[str, Any] = {**constants, "jitter": JITTER, "seeds": SEEDS, "arms": list(ARMS)}
    origin = provenance(settings, seed=0)
    plain, mirrored = examples(detector, mirrored=False), examples(detector, mirrored=True)
    validation = ShapesDataset(default_set("val"))
    runs: dict[str, dict[str, Any]] = {arm: {} for arm in ARMS}
    for seed in range(SEEDS):
        for arm, renamed in ARMS.items():
            features, boxes, joints = mirrored
            if not renamed:  # the names that they had before the mirror
                joints = joints[:, list(MIRRORED_JOINTS)]
            both = [torch.cat(p) for p in zip(plain, (features, boxes, joints), strict=True)]
            torch.manual_seed(seed)
            model = with_joints(detector)
            losses = train(model, (both[0], both[1], both[2]), seed)
            if seed == 0 and renamed:
                _save(model)
            results = coco_results(model, validation, batch_size=8, progress=False)
            metrics = measure(validation, results, model.config)["keypoints"]
            final = sum(losses[-50:]) / 50
            runs[arm][str(seed)] = {"loss": round(final, 4), "metrics": metrics}
            print(f"seed {seed}, {arm}: loss {final:.3f}, keypoint AP {metrics['AP']}", flush=True)
            write_json(ROOT / "results" / "keypoint_head.json", {**origin, "runs": runs})


def _save(model: MaskRCNN) -> None:
    assert model.keypoint_head is not None
    half = {k: v.half().contiguous() for k, v in model.keypoint_head.state_dict().items()}
    write_atomically(WEIGHTS, safetensors.torch.save(half))


if __name__ == "__main__":
    main()
