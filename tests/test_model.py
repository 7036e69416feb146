"""The model as a whole: what it returns, what it refuses, and that every part of it learns."""

import copy

import pytest
import torch

from mrcnn_edu.model import MaskRCNN, parameter_count
from mrcnn_edu.presets import R50_FPN, TINY_FPN
from mrcnn_edu.record import Detections
from tests.scenes import generators, random_scene


def close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4 * float(theirs.abs().max()))


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
