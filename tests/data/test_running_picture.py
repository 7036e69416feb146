"""The running picture shows what the chapters say it shows."""

import numpy as np
import torch
from scipy import ndimage

from mrcnn_edu.data.shapes import ShapesDataset, default_set, running_picture

RING = ShapesDataset(default_set("val")).class_names.index("ring") + 1


def test_it_has_small_and_large_objects_and_one_that_is_hidden_in_part():
    image, target = running_picture()
    assert image.shape == (3, 128, 128)
    areas = target["masks"].flatten(1).sum(1)
    assert len(areas) == 8
    assert areas.max() > 10 * areas.min()
    overlaps = torch.zeros(8, dtype=torch.bool)
    for i, (x1, y1, x2, y2) in enumerate(target["boxes"].long().tolist()):
        others = torch.cat([target["masks"][:i], target["masks"][i + 1 :]])
        overlaps[i] = others[:, y1:y2, x1:x2].any()
    assert overlaps.sum() >= 3


def test_its_two_rings_are_one_blob_to_a_map_of_classes():
    _, target = running_picture()
    rings = target["masks"][target["labels"] == RING].numpy().astype(bool)
    assert len(rings) == 2
    _, blobs = ndimage.label(rings.any(0), np.ones((3, 3)))
    assert blobs == 1
