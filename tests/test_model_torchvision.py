"""Whole models against torchvision's, stage by stage and end to end, with the same weights.

Tolerances: both run the same float32 convolutions, but a folded batch norm, RoIAlign and the losses
round in another order, so equality is to about 1e-4 of the largest value of a stage.

Selection is a chain of decisions: one IoU that falls on the other side of a threshold by rounding
changes all that follows. So each selection is given torchvision's own inputs, and must then agree
exactly in what it keeps; the end-to-end test allows a few flips.
"""

import dataclasses
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from mrcnn_edu.config import ModelConfig
from mrcnn_edu.data.transforms import resize, to_float
from mrcnn_edu.nn.detections import select_detections
from mrcnn_edu.nn.mask_head import predicted_class_masks
from mrcnn_edu.presets import PRESETS
from mrcnn_edu.record import Detections, Record
from tests.scenes import generators, photographs, random_scene
from tests.torchvision_twin import (
    SameSampler,
    background_rows,
    busy_model,
    torchvision_name,
    twin_of,
)


@dataclass
class Case:
    """A model, the sizes of its batch and the objects in each image."""

    config: ModelConfig
    sizes: list[tuple[int, int]]
    objects: list[int]


SMALL = {
    "short_side": 160,
    "long_side": 224,
    "box_samples": 64,
    "rpn_top_after_nms": (300, 200),
}


def case(preset: str, sizes: list[tuple[int, int]], objects: list[int], **changes: object) -> Case:
    changes = SMALL | {"num_classes": min(7, PRESETS[preset].num_classes)} | changes
    return Case(dataclasses.replace(PRESETS[preset], **changes), sizes, objects)


# Small enough for float64, see the last test.
TRAINED_BN = {
    "backbone_norm": "batch_norm",
    "frozen_stages": 0,
    "short_side": 128,
    "long_side": 160,
}
CASES = {
    "v1": case("r50_fpn", [(160, 224), (224, 160), (160, 192)], [4, 0, 9]),
    "v1, eps 0": case("r50_fpn", [(192, 160)], [3], frozen_bn_eps=0.0),
    "v1, batch norm": case("r50_fpn", [(128, 128), (128, 160)], [5, 2], **TRAINED_BN),
    "v2": case("r50_fpn_v2", [(128, 160), (128, 128)], [2, 6], **TRAINED_BN, box_samples=32),
    "faster": case("faster_r50_fpn", [(160, 192), (224, 160)], [3, 1]),
    "keypoint": case(
        "keypoint_r50_fpn",
        [(160, 160), (160, 192)],
        [4, 3],
        box_samples=32,
        detections_per_image=25,
    ),
}


@pytest.fixture(scope="module", params=CASES)
def this(request) -> SimpleNamespace:
    """Our model and torchvision's with the same weights, scenes, and what both make of them."""
    chosen = CASES[request.param]
    g = torch.Generator().manual_seed(1)
    pairs = [
        random_scene(size, n, g, chosen.config.num_classes)
        for size, n in zip(chosen.sizes, chosen.objects, strict=True)
    ]
    images = [p[0] for p in pairs]
    ours = busy_model(chosen.config, images[:1])
    theirs = twin_of(ours).eval()
    with torch.no_grad():
        record = ours.detect(ours(images))
    return SimpleNamespace(
        name=request.param,
        config=chosen.config,
        ours=ours,
        theirs=theirs,
        images=images,
        targets=[p[1] for p in pairs],
        record=record,
        stages=stages_of(theirs, images),
    )


@torch.no_grad()
def stages_of(theirs: nn.Module, images: list[Tensor]) -> SimpleNamespace:
    """What torchvision's model computes on the way, in evaluation mode."""
    heads, n = theirs.roi_heads, len(images)
    batch, _ = theirs.transform([x.clone() for x in images])
    features = theirs.backbone(batch.tensors)
    maps = list(features.values())
    logits, deltas = theirs.rpn.head(maps)
    proposals, _ = theirs.rpn(batch, features)
    pooled = heads.box_roi_pool(features, proposals, batch.image_sizes)
    class_logits, box_deltas = heads.box_predictor(heads.box_head(pooled))
    detections, _ = heads(features, proposals, batch.image_sizes)
    return SimpleNamespace(
        batch=batch,
        maps=maps,
        objectness=torch.cat([x.permute(0, 2, 3, 1).reshape(n, -1) for x in logits], 1),
        deltas=torch.cat([x.permute(0, 2, 3, 1).reshape(n, -1, 4) for x in deltas], 1),
        anchors=theirs.rpn.anchor_generator(batch, maps),
        proposals=proposals,
        class_logits=class_logits,
        box_deltas=box_deltas.unflatten(1, (-1, 4))[:, 1:],
        detections=detections,
    )


def close(ours: Tensor, theirs: Tensor, tolerance: float = 1e-4) -> None:
    scale = max(1e-6, float(theirs.abs().max())) if theirs.numel() else 1.0
    torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance * scale)


def test_batch_features_and_rpn(this):
    record, theirs = this.record, this.stages
    close(record.images, theirs.batch.tensors, 1e-6)
    assert record.image_sizes == [tuple(s) for s in theirs.batch.image_sizes]
    for level, their_level in zip(record.pyramid, theirs.maps, strict=True):
        close(level, their_level)
    close(record.objectness, theirs.objectness)
    close(record.deltas, theirs.deltas)
    for of_image in theirs.anchors:
        assert torch.equal(torch.cat(record.anchors), of_image)


@pytest.mark.parametrize("training", [False, True])
def test_proposals(this, training):
    given = dataclasses.replace(
        this.record, objectness=this.stages.objectness, deltas=this.stages.deltas
    )
    rpn = this.theirs.rpn.train(training)
    features = dict(zip("0123p", this.stages.maps, strict=True))
    nothing = [{"boxes": torch.zeros(0, 4), "labels": torch.zeros(0)} for _ in this.images]
    try:
        with torch.no_grad():
            expected, _ = rpn(this.stages.batch, features, nothing)
    finally:
        rpn.eval()
    found = this.ours.propose(given, training)
    for ours, theirs in zip(found, expected, strict=True):
        assert len(theirs) > 100
        torch.testing.assert_close(ours.boxes, theirs, rtol=0, atol=1e-4)


@torch.no_grad()
def test_box_head_and_detections(this):
    ours, stages = this.ours, this.stages
    given = dataclasses.replace(this.record, pyramid=stages.maps)
    logits, deltas = ours.box_head(ours.roi_features(given, stages.proposals, 7))
    close(logits, stages.class_logits)
    close(deltas, stages.box_deltas)
    counts = [len(p) for p in stages.proposals]
    for of_image, d, proposals, size, theirs in zip(
        stages.class_logits.split(counts),
        stages.box_deltas.split(counts),
        stages.proposals,
        this.record.image_sizes,
        stages.detections,
        strict=True,
    ):
        found = select_detections(of_image, d, proposals, size, ours.config)
        assert len(found.labels) >= 20  # otherwise this test compares nothing
        assert torch.equal(found.labels, theirs["labels"])
        torch.testing.assert_close(found.boxes, theirs["boxes"], rtol=0, atol=1e-4)
        torch.testing.assert_close(found.scores, theirs["scores"], rtol=0, atol=1e-5)


@torch.no_grad()
def test_masks_and_keypoints(this):
    ours, stages = this.ours, this.stages
    given = dataclasses.replace(this.record, pyramid=stages.maps)
    boxes = [d["boxes"] for d in stages.detections]
    if ours.mask_head is not None:
        labels = torch.cat([d["labels"] for d in stages.detections])
        logits = ours.mask_head(ours.roi_features(given, boxes, 14))
        expected = torch.cat([d["masks"][:, 0] for d in stages.detections])
        assert 0.1 < expected.mean() < 0.9
        masks = predicted_class_masks(logits, labels)
        torch.testing.assert_close(masks, expected, rtol=0, atol=1e-4)
    if ours.keypoint_head is not None:
        given_boxes = [Detections(d["boxes"], d["labels"], d["scores"]) for d in stages.detections]
        found = ours.complete(given, given_boxes)
        for f, theirs in zip(found, stages.detections, strict=True):
            same = (f.keypoints - theirs["keypoints"]).abs().amax(dim=2) < 1e-2  # [D, J]
            assert same.float().mean() > 0.99  # two cells of equal height: either may win
            close(f.keypoint_scores, theirs["keypoints_scores"], 1e-3)
    if this.name == "faster":
        assert this.record.detections[0].masks is None


def share_found(ours: list[Detections], theirs: list[dict[str, Tensor]]) -> tuple[float, int]:
    """The part of torchvision's detections that is among ours, and their number."""
    same = total = 0
    for a, b in zip(ours, theirs, strict=True):
        near = (a.boxes[:, None] - b["boxes"][None]).abs().amax(dim=2) < 0.05
        near &= a.labels[:, None] == b["labels"][None]
        near &= (a.scores[:, None] - b["scores"][None]).abs() < 1e-3
        same += int(near.any(dim=0).sum())
        total += len(b["labels"])
    return same / total, total


def test_end_to_end(this):
    """All but a few detections, whose NMS decision a rounding error turned, are the same."""
    share, total = share_found(this.record.detections, this.stages.detections)
    assert total >= 20 * len(this.images)
    assert share >= 0.95


@torch.no_grad()
def test_photographs(this):
    """Real images of three sizes in one batch, scaled by our rule and by torchvision's own."""
    if this.name != "v1":
        pytest.skip("one model is enough")
    raw = [to_float(x) for x in photographs(3)]
    c = this.config
    record: Record = this.ours.detect(
        this.ours([resize(x, c.short_side, c.long_side, c.resize_rounding) for x in raw])
    )
    batch, _ = this.theirs.transform(raw)
    assert record.image_sizes == [tuple(s) for s in batch.image_sizes]
    close(record.images, batch.tensors, 1e-5)
    features = this.theirs.backbone(batch.tensors)
    proposals, _ = this.theirs.rpn(batch, features)
    found, _ = this.theirs.roi_heads(features, proposals, batch.image_sizes)
    share, total = share_found(record.detections, found)
    assert total >= 60
    assert share >= 0.95


NAMES = {
    "rpn_objectness": "loss_objectness",
    "rpn_box": "loss_rpn_box_reg",
    "box_class": "loss_classifier",
    "box": "loss_box_reg",
    "mask": "loss_mask",
    "keypoint": "loss_keypoint",
}


def test_losses_and_all_gradients(this, monkeypatch):
    """In training mode, where batch norm uses and updates statistics, with the same samples.

    Behind fifty batch norms that share their statistics float32 is too coarse to compare the
    gradients of the first layers, so those models are compared in float64.
    """
    ours, theirs, c, images = this.ours, this.theirs, this.config, this.images
    exact = c.backbone_norm == "batch_norm"
    if exact:
        ours, theirs, images = ours.double(), theirs.double(), [x.double() for x in images]
    targets = [
        {k: v.double() if exact and v.is_floating_point() else v.clone() for k, v in t.items()}
        for t in this.targets
    ]
    same = generators(len(images))
    theirs.rpn.fg_bg_sampler = SameSampler(c.rpn_samples, c.rpn_positive_fraction, same)
    theirs.roi_heads.fg_bg_sampler = SameSampler(c.box_samples, c.box_positive_fraction, same)
    proposals = []  # torchvision's own: see the note on selection above
    theirs.roi_heads.register_forward_pre_hook(
        lambda module, inputs: proposals.extend(SimpleNamespace(boxes=b) for b in inputs[1])
    )
    expected = theirs.train()([x.clone() for x in images], targets)
    sum(expected.values()).backward()
    monkeypatch.setattr(ours, "propose", lambda record, training: proposals)
    losses = ours.train().losses(ours(images), targets, generators(len(images)))
    sum(losses.values()).backward()
    assert {NAMES[name] for name in losses} == expected.keys()
    for name, value in losses.items():
        assert value > 0
        reference = expected[NAMES[name]].to(value.dtype)
        torch.testing.assert_close(value, reference, rtol=1e-4, atol=1e-6)
    gradients = {name: p.grad for name, p in theirs.named_parameters() if p.requires_grad}
    # A bias before a softmax has no gradient but rounding errors: those are compared with this.
    smallest = 1e-6 * max(float(g.norm()) for g in gradients.values())
    compared = 0
    for name, parameter in ours.named_parameters():
        their_name = torchvision_name(name, c)
        if not parameter.requires_grad:
            assert their_name not in gradients
            continue
        reference = gradients[their_name][background_rows(name) :]
        error = (parameter.grad - reference).norm() / max(float(reference.norm()), smallest)
        assert error < (1e-5 if exact else 5e-3), (name, float(error))
        compared += 1
    assert compared == len(gradients)
    their_state = theirs.state_dict()
    for name, buffer in ours.named_buffers():  # running statistics moved alike
        close(buffer.float(), their_state[torchvision_name(name, c)].float())
