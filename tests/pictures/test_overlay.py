"""Pictures: the right pixels have the right colour."""

import numpy as np
import torch
from PIL import Image

from mrcnn_edu.pictures.colours import COLOURS
from mrcnn_edu.pictures.curves import save_curves
from mrcnn_edu.pictures.overlay import (
    draw_detections,
    draw_target,
    overlay,
    save_comparison,
    to_image,
)
from mrcnn_edu.record import Detections
from tests.fake_data import small_shapes


def test_mask_and_box_have_their_colour_and_the_rest_is_untouched():
    image = torch.full((3, 60, 80), 10, dtype=torch.uint8)
    mask = torch.zeros(1, 60, 80, dtype=torch.uint8)
    mask[0, 20:40, 30:50] = 1
    box = torch.tensor([[30.0, 20, 50, 40]])
    picture = np.asarray(overlay(image, box, [""], mask, [0], opacity=0.5))
    assert picture.shape == (60, 80, 3)
    assert tuple(picture[20, 30]) == COLOURS[0]  # the outline of the mask
    inside = (np.array([10] * 3) + np.array(COLOURS[0])) / 2
    assert np.abs(picture[30, 40] - inside).max() <= 1
    outside = np.ones((60, 80), bool)
    outside[20:40, 30:50] = False
    assert (picture[outside] == 10).all()


def test_scale_enlarges_the_picture():
    image = torch.randint(0, 255, (3, 8, 9), dtype=torch.uint8)
    none = torch.zeros(0, 4), [], torch.zeros(0, 8, 9), []
    picture = np.asarray(overlay(image, *none, scale=4))
    assert picture.shape == (32, 36, 3)
    assert np.array_equal(picture[::4, ::4], image.permute(1, 2, 0).numpy())


def test_labels_stay_inside_the_picture():
    image = torch.zeros(3, 40, 40, dtype=torch.uint8)
    boxes = torch.tensor([[0.0, 0, 5, 5], [35, 35, 40, 40], [10, 10, 10, 10]])
    text = "a long label that is wider than the picture"
    picture = np.asarray(overlay(image, boxes, [text] * 3, torch.zeros(3, 40, 40), [0, 1, 2]))
    assert picture.shape == (40, 40, 3)
    for colour in COLOURS[:3]:  # the ground of each label is there
        assert (picture == colour).all(axis=2).sum() > 20


def test_low_scores_are_left_out():
    image = torch.zeros(3, 60, 60, dtype=torch.uint8)
    found = Detections(
        torch.tensor([[2.0, 2, 22, 22], [40, 40, 58, 58]]),
        torch.tensor([1, 2]),
        torch.tensor([0.9, 0.2]),
        torch.ones(2, 28, 28),
    )
    picture = np.asarray(draw_detections(image, found, ["a", "b"]))
    assert picture[30:, 30:].max() == 0
    assert picture[19, 12].max() > 0


def test_a_single_class_needs_no_names():
    """In a dense one-class set the names would hide the objects."""
    image = torch.zeros(3, 60, 60, dtype=torch.uint8)
    target = {
        "boxes": torch.tensor([[10.0, 20, 50, 50]]),
        "labels": torch.tensor([1]),
        "masks": torch.zeros(1, 60, 60, dtype=torch.uint8),
    }
    assert np.asarray(draw_target(image, target, ["nucleus"]))[:19].max() == 0
    assert np.asarray(draw_target(image, target, ["nucleus", "other"]))[:19].max() > 0


def test_files_are_pictures(tmp_path):
    dataset = small_shapes(2)
    image, target = dataset[0]
    truth = draw_target(image, target, dataset.class_names, scale=2)
    save_comparison(tmp_path / "pairs.png", [(truth, truth)] * 4, columns=3)
    names = ("rpn_objectness", "rpn_box", "box_class", "box", "mask")
    metrics = [{"step": i + 1, "lr": 0.1, **dict.fromkeys(names, 1 / (i + 1))} for i in range(9)]
    save_curves(tmp_path / "curves.png", metrics)
    save_curves(tmp_path / "one.png", metrics[:1])
    for name in ("pairs.png", "curves.png", "one.png"):
        with Image.open(tmp_path / name) as picture:
            assert picture.width > 600


def test_arrays_become_images():
    array = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    assert torch.equal(to_image(array).permute(1, 2, 0), torch.from_numpy(array))


def test_a_class_has_one_colour_in_every_picture():
    """So a detection and its ground truth look alike, whatever their order."""
    image = torch.zeros(3, 60, 60, dtype=torch.uint8)
    box, mask = torch.tensor([[10.0, 30, 50, 50]]), torch.zeros(1, 60, 60, dtype=torch.uint8)
    mask[0, 30:50, 10:50] = 1
    target = {"boxes": box, "labels": torch.tensor([3]), "masks": mask}
    found = Detections(box, torch.tensor([3]), torch.tensor([0.9]), torch.ones(1, 28, 28))
    names = ["a", "b", "c"]
    truth = np.asarray(draw_target(image, target, names))
    detected = np.asarray(draw_detections(image, found, names))
    assert np.array_equal(truth[32:49, 12:49], detected[32:49, 12:49])
    assert tuple(truth[49, 30]) == COLOURS[2]
