"""The whole model against torchvision's, stage by stage, with the same weights.

Tolerances: both run the same float32 convolutions, but RoIAlign and the losses sum in another
order, so equality is to about 1e-4 of the largest value of a stage.
"""

import copy
import dataclasses
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from mrcnn_edu.model import Detections, MaskRCNN, Record, parameter_count
from mrcnn_edu.nn.detections import select_detections
from mrcnn_edu.nn.mask_head import predicted_class_masks
from mrcnn_edu.presets import R50_FPN, TINY_FPN
from tests.torchvision_twin import (
    SameSampler,
    randomise_frozen_statistics,
    strip_background,
    torchvision_name,
    twin_of,
)

SMALL_R50 = dataclasses.replace(R50_FPN, num_classes=7, short_side=160, long_side=224)
SIZES = [(160, 224), (224, 160), (160, 192)]


def random_scene(size: tuple[int, int], objects: int, generator: torch.Generator, classes: int):
    """An image of noise with ellipses as objects."""
    height, width = size
    image = torch.rand(3, height, width, generator=generator)
    rows, columns = torch.arange(height)[:, None] + 0.5, torch.arange(width)[None, :] + 0.5
    masks, boxes = [], []
    for _ in range(objects):
        w, h = (16 + torch.rand(2, generator=generator) * 60).tolist()
        x = float(torch.rand((), generator=generator)) * (width - w)
        y = float(torch.rand((), generator=generator)) * (height - h)
        inside = ((columns - x - w / 2) / (w / 2)) ** 2 + ((rows - y - h / 2) / (h / 2)) ** 2 <= 1
        masks.append(inside)
        boxes.append([x, y, x + w, y + h])
    labels = torch.randint(1, classes + 1, (objects,), generator=generator)
    return image, {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "labels": labels,
        "masks": torch.stack(masks).to(torch.uint8)
        if masks
        else torch.zeros((0, height, width), dtype=torch.uint8),
    }


def generators(n: int, seed: int = 5) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed + i) for i in range(n)]


@pytest.fixture(scope="module")
def pair():
    """Our R50-FPN and torchvision's with the same weights, busy enough to detect things."""
    g = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    ours = MaskRCNN(SMALL_R50)
    with torch.no_grad():
        randomise_frozen_statistics(ours, g)
        image = [torch.rand(3, 160, 192)]
        record = ours.eval()(image)
        ours.rpn.objectness.weight.mul_(2 / record.objectness.std())
        ours.rpn.deltas.weight.mul_(0.3 / record.deltas.std())
        logits = torch.cat(ours.detect(ours(image)).class_logits)  # [R, K + 1]
        assert len(logits) > 100
        # Every class scores about as often as every other, with a spread of 3 between RoIs.
        scale = 3 / logits.std(dim=0)  # [K + 1]
        ours.box_head.classes.weight.mul_(scale[:, None])
        ours.box_head.classes.bias.sub_(logits.mean(dim=0)).mul_(scale)
        pooled = torch.rand(4, 256, 14, 14)  # masks near 0.5, where an error shows
        ours.mask_head.masks.weight.div_(30 * ours.mask_head(pooled).std())
    return ours, twin_of(ours).eval()


@pytest.fixture(scope="module")
def scenes():
    g = torch.Generator().manual_seed(1)
    pairs = [random_scene(s, n, g, 7) for s, n in zip(SIZES, (4, 0, 9), strict=True)]
    return [p[0] for p in pairs], [p[1] for p in pairs]


@pytest.fixture(scope="module")
def our_record(pair, scenes) -> Record:
    with torch.no_grad():
        return pair[0].detect(pair[0](scenes[0]))


@pytest.fixture(scope="module")
def their_stages(pair, scenes) -> SimpleNamespace:
    """What torchvision's model computes on the way, in evaluation mode."""
    theirs = pair[1]
    heads = theirs.roi_heads
    with torch.no_grad():
        images, _ = theirs.transform([x.clone() for x in scenes[0]])
        features = theirs.backbone(images.tensors)
        maps, n = list(features.values()), len(SIZES)
        logits, deltas = theirs.rpn.head(maps)
        proposals, _ = theirs.rpn(images, features)
        pooled = heads.box_roi_pool(features, proposals, images.image_sizes)
        class_logits, box_deltas = heads.box_predictor(heads.box_head(pooled))
        detections, _ = heads(features, proposals, images.image_sizes)
    return SimpleNamespace(
        images=images,
        maps=maps,
        objectness=torch.cat([x.permute(0, 2, 3, 1).reshape(n, -1) for x in logits], 1),
        deltas=torch.cat(
            [
                d.reshape(n, 3, 4, *d.shape[2:]).permute(0, 3, 4, 1, 2).reshape(n, -1, 4)
                for d in deltas
            ],
            1,
        ),
        anchors=theirs.rpn.anchor_generator(images, maps),
        proposals=proposals,
        class_logits=class_logits,
        box_deltas=box_deltas.unflatten(1, (-1, 4))[:, 1:],
        detections=detections,
    )


def close(ours: Tensor, theirs: Tensor, tolerance: float = 1e-4) -> None:
    scale = max(1e-6, float(theirs.abs().max())) if theirs.numel() else 1.0
    torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance * scale)


def test_batch_features_and_rpn_are_torchvisions(our_record, their_stages):
    close(our_record.images, their_stages.images.tensors, 1e-6)
    assert our_record.image_sizes == [tuple(s) for s in their_stages.images.image_sizes]
    for level, theirs in zip(our_record.pyramid, their_stages.maps, strict=True):
        close(level, theirs)
    close(our_record.objectness, their_stages.objectness)
    close(our_record.deltas, their_stages.deltas)
    for of_image in their_stages.anchors:
        assert torch.equal(torch.cat(our_record.anchors), of_image)


# Selection is a chain of decisions: one IoU that falls on the other side of a threshold by rounding
# changes all that follows. So each selection is given torchvision's own inputs, and must then agree
# exactly in what it keeps; the last test runs from end to end and allows a few flips.


def test_proposals_are_torchvisions(our_record, their_stages, pair):
    given = dataclasses.replace(
        our_record, objectness=their_stages.objectness, deltas=their_stages.deltas
    )
    for ours, theirs in zip(
        pair[0].propose(given, training=False), their_stages.proposals, strict=True
    ):
        assert len(theirs) > 100
        torch.testing.assert_close(ours.boxes, theirs, rtol=0, atol=1e-4)


@torch.no_grad()
def test_box_head_and_detections_are_torchvisions(our_record, their_stages, pair):
    ours = pair[0]
    given = dataclasses.replace(our_record, pyramid=their_stages.maps)
    logits, deltas = ours.box_head(ours.pool(given, their_stages.proposals, 7))
    close(logits, their_stages.class_logits)
    close(deltas, their_stages.box_deltas)
    counts = [len(p) for p in their_stages.proposals]
    for of_image, d, proposals, size, theirs in zip(
        their_stages.class_logits.split(counts),
        their_stages.box_deltas.split(counts),
        their_stages.proposals,
        our_record.image_sizes,
        their_stages.detections,
        strict=True,
    ):
        found = select_detections(of_image, d, proposals, size, ours.config)
        assert len(found.labels) >= 20  # otherwise this test compares nothing
        assert torch.equal(found.labels, theirs["labels"])
        torch.testing.assert_close(found.boxes, theirs["boxes"], rtol=0, atol=1e-4)
        torch.testing.assert_close(found.scores, theirs["scores"], rtol=0, atol=1e-5)


@torch.no_grad()
def test_masks_are_torchvisions(our_record, their_stages, pair):
    ours = pair[0]
    given = dataclasses.replace(our_record, pyramid=their_stages.maps)
    pooled = ours.pool(given, [d["boxes"] for d in their_stages.detections], 14)
    labels = torch.cat([d["labels"] for d in their_stages.detections])
    masks = predicted_class_masks(ours.mask_head(pooled), labels)
    expected = torch.cat([d["masks"][:, 0] for d in their_stages.detections])
    assert 0.1 < expected.mean() < 0.9
    torch.testing.assert_close(masks, expected, rtol=0, atol=1e-4)


def test_end_to_end_detections_are_torchvisions(our_record, their_stages):
    """All but a few detections, whose NMS decision a rounding error turned, are the same."""
    same = total = 0
    for ours, theirs in zip(our_record.detections, their_stages.detections, strict=True):
        near = (ours.boxes[:, None] - theirs["boxes"][None]).abs().amax(dim=2) < 0.05
        near &= ours.labels[:, None] == theirs["labels"][None]
        near &= (ours.scores[:, None] - theirs["scores"][None]).abs() < 1e-3
        same += int(near.any(dim=0).sum())
        total += len(theirs["labels"])
    assert same >= 0.95 * total > 50


def test_losses_and_all_gradients_are_torchvisions(pair, scenes, monkeypatch):
    ours, theirs = pair
    images, targets = scenes
    config = ours.config
    same = generators(len(images))
    theirs.rpn.fg_bg_sampler = SameSampler(config.rpn_samples, config.rpn_positive_fraction, same)
    theirs.roi_heads.fg_bg_sampler = SameSampler(
        config.box_samples, config.box_positive_fraction, same
    )
    proposals = []  # torchvision's own: see the note on selection above
    hook = theirs.roi_heads.register_forward_pre_hook(
        lambda module, inputs: proposals.extend(SimpleNamespace(boxes=b) for b in inputs[1])
    )
    theirs.train()
    try:
        expected = theirs([x.clone() for x in images], targets)
        sum(expected.values()).backward()
    finally:
        theirs.eval()
        hook.remove()
    monkeypatch.setattr(ours, "propose", lambda record, training: proposals)
    losses = ours.losses(ours(images), targets, generators(len(images)))
    sum(losses.values()).backward()
    names = {
        "rpn_objectness": "loss_objectness",
        "rpn_box": "loss_rpn_box_reg",
        "box_class": "loss_classifier",
        "box": "loss_box_reg",
        "mask": "loss_mask",
    }
    for name, value in losses.items():
        torch.testing.assert_close(value, expected[names[name]], rtol=1e-4, atol=1e-6)
    gradients = dict(theirs.named_parameters())
    compared = 0
    for name, parameter in ours.named_parameters():
        their_gradient = gradients[torchvision_name(name)].grad
        if not parameter.requires_grad:
            assert their_gradient is None
            continue
        reference = strip_background(name, their_gradient)
        error = (parameter.grad - reference).norm() / reference.norm()
        assert error < 2e-3, (name, float(error))
        compared += 1
    assert compared == sum(p.requires_grad for p in theirs.parameters())


def test_parameter_counts():
    counts = parameter_count(MaskRCNN(R50_FPN))
    # torchvision publishes 44,401,393 for maskrcnn_resnet50_fpn with 91 classes. With 81 it has 50
    # rows of class logits and deltas (1,024 weights, a bias) and 10 mask channels (256, a bias)
    # fewer. Its unused background rows, 4 of deltas and 1 mask channel, are not ours.
    torchvision_81 = 44_401_393 - 50 * 1025 - 10 * 257
    assert counts["total"] == torchvision_81 - 4 * 1025 - 257
    assert 1.2e6 < parameter_count(MaskRCNN(TINY_FPN))["total"] < 1.8e6


@pytest.fixture(scope="module")
def tiny() -> MaskRCNN:
    torch.manual_seed(3)
    model = MaskRCNN(TINY_FPN)
    with torch.no_grad():
        model.rpn.objectness.weight.mul_(30)
        model.box_head.classes.weight.mul_(4)
    return model.eval()


@torch.no_grad()
def test_an_image_does_not_see_the_others_of_its_batch(tiny):
    g = torch.Generator().manual_seed(2)
    images = [torch.rand(3, 128, 128, generator=g) for _ in range(2)]
    together = tiny.detect(tiny(images))
    for i, image in enumerate(images):
        alone = tiny.detect(tiny([image]))
        for ours, theirs in zip(alone.pyramid, together.pyramid, strict=True):
            close(ours[0], theirs[i])
        close(alone.proposals[0].boxes, together.proposals[i].boxes)
        one, two = alone.detections[0], together.detections[i]
        assert torch.equal(one.labels, two.labels)
        assert len(one.labels) > 10
        close(one.boxes, two.boxes)
        close(one.masks, two.masks)


def test_losses_do_not_depend_on_the_mode_of_the_module(tiny):
    """A validation loss is one call: no mode decides what comes out."""
    g = torch.Generator().manual_seed(4)
    image, target = random_scene((128, 128), 3, g, 10)
    with torch.no_grad():
        evaluating = tiny.losses(tiny([image]), [target], generators(1))
        tiny.train()
        training = tiny.losses(tiny([image]), [target], generators(1))
        tiny.eval()
    assert evaluating == training


@pytest.mark.parametrize("objects", [(0, 0), (0, 1), (500, 0)])
def test_any_number_of_objects_trains(tiny, objects):
    g = torch.Generator().manual_seed(6)
    pairs = [random_scene((128, 128), n, g, 10) for n in objects]
    tiny.zero_grad()
    losses = tiny.losses(tiny([p[0] for p in pairs]), [p[1] for p in pairs], generators(2))
    sum(losses.values()).backward()
    assert all(torch.isfinite(value) for value in losses.values())
    if sum(objects) == 0:
        assert losses["mask"] == losses["box"] == losses["rpn_box"] == 0
    for name, parameter in tiny.named_parameters():
        assert parameter.grad is not None, name  # even a loss of zero has a gradient
        assert torch.isfinite(parameter.grad).all(), name


@torch.no_grad()
def test_no_detections_are_legal(tiny):
    blind = copy.deepcopy(tiny)
    blind.box_head.classes.bias.fill_(-50)
    blind.box_head.classes.bias[0] = 50
    found: Detections = blind.detect(blind([torch.rand(3, 64, 96)])).detections[0]
    assert found.boxes.shape == (0, 4)
    assert found.masks.shape == (0, 28, 28)


@pytest.mark.parametrize(
    "image", [torch.zeros(1, 8, 8), torch.zeros(3, 8, 8, dtype=torch.uint8), torch.zeros(8, 8)]
)
def test_wrong_images_are_refused(tiny, image):
    with pytest.raises(ValueError, match=r"float RGB images \[3, H, W\]"):
        tiny([image])
    with pytest.raises(ValueError, match="No images"):
        tiny([])
