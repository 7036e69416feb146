"""What the model cannot compute with is refused in a sentence; what it can, it takes."""

import numpy as np
import pytest
import torch

from mrcnn_edu.model import MaskRCNN
from tests.fake_data import small_config


@pytest.fixture(scope="module")
def model() -> MaskRCNN:
    torch.manual_seed(0)
    return MaskRCNN(small_config(num_classes=3))


def target(**changes):
    mask = torch.zeros(1, 64, 64, dtype=torch.uint8)
    mask[0, 10:40, 20:50] = 1
    boxes = torch.tensor([[20.0, 10, 50, 40]])
    return {"boxes": boxes, "labels": torch.tensor([2]), "masks": mask} | changes


def losses(model, targets):
    record = model([torch.zeros(3, 64, 64)] * 2)
    return model.losses(record, targets, [torch.Generator().manual_seed(i) for i in range(2)])


def test_a_batch_is_a_list_of_images(model):
    batch = torch.rand(2, 3, 64, 64)
    assert torch.equal(model(batch).images, model(list(batch)).images)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([], "No images"),
        (torch.rand(3, 64, 64), r"one tensor of shape \(3, 64, 64\)"),
        ([np.zeros((3, 64, 64), np.float32)], "Image 0 is a ndarray.*from_numpy"),
        ([torch.zeros(3, 8, 8), None], "Image 1 is a NoneType"),
        ([torch.zeros(3, 8, 8, dtype=torch.uint8)], "type torch.uint8; the model takes float"),
        ([torch.zeros(3, 8, 8, dtype=torch.float64)], r"torch.float64.*use image.float\(\)"),
        ([torch.zeros(8, 8, 3)], r"shape \(8, 8, 3\)"),
        ([torch.zeros(3, 0, 8)], "no pixels"),
    ],
)
def test_images_that_are_none_are_refused(model, images, message):
    with pytest.raises(ValueError, match=message):
        model(images)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"masks": 255 * target()["masks"]}, r"masks of image 1 hold 255.*\(masks > 0\)"),
        ({"masks": target()["masks"].float()}, "masks of image 1 are torch.float32"),
        ({"masks": torch.ones(1, 32, 64, dtype=torch.uint8)}, "the image is 64×64"),
        ({"masks": torch.ones(2, 64, 64, dtype=torch.uint8)}, "1 boxes and 2 masks"),
        ({"masks": None}, "has no tensor 'masks'"),
        ({"labels": torch.tensor([0])}, r"label 0 of object 0 in image 1.*count your classes from"),
        ({"labels": torch.tensor([4])}, r"label 4 .* not in 1\.\.3"),
        ({"labels": torch.tensor([1.0])}, "type torch.float32; expected int64"),
        ({"boxes": torch.tensor([[20.0, 10, float("nan"), 40]])}, "Box 0 of image 1"),
        ({"boxes": torch.tensor([[20, 10, 50, 40]])}, r"expected float \[G, 4\]"),
        ({"boxes": torch.zeros(1, 5)}, r"expected float \[G, 4\]"),
    ],
)
def test_targets_that_losses_would_be_wrong_with_are_refused(model, changes, message):
    with pytest.raises(ValueError, match=message):
        losses(model, [target(), target(**changes)])


def test_targets_are_taken_with_masks_of_either_type_and_without_objects(model):
    empty = {k: v[:0] for k, v in target().items()}
    one = losses(model, [target(), empty])
    other = losses(model, [target(masks=target()["masks"].bool()), empty])
    assert one.keys() == other.keys()
    assert all(torch.equal(one[k], other[k]) for k in one)
    with pytest.raises(ValueError, match="2 images and 1 targets"):
        losses(model, [target()])
