"""Anchors against torchvision's AnchorGenerator, exactly, and detectron2's formula."""

import math

import pytest
import torch
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from mrcnn_edu.anchors import cell_anchors, grid_anchors, pyramid_anchors

RATIOS = (0.5, 1.0, 2.0)


def test_cell_by_hand() -> None:
    # 32² pixels at height : width of 1 : 2, 1 : 1, 2 : 1; the sides 45.25 and 22.63 are rounded
    # at the corners: 22.63 → 23, 11.31 → 11.
    expected = [[-23, -11, 23, 11], [-16, -16, 16, 16], [-11, -23, 11, 23]]
    assert cell_anchors((32,), RATIOS).tolist() == expected


def test_cell_without_rounding_is_detectron2s() -> None:
    """detectron2: width = √(size² / ratio), height = ratio · width; size slowest, ratio fastest."""
    ours = cell_anchors((32, 64), RATIOS, rounding="none")
    expected = []
    for ratio in RATIOS:
        for size in (32, 64):
            w = math.sqrt(size**2 / ratio)
            expected.append([-w / 2, -ratio * w / 2, w / 2, ratio * w / 2])
    # float32 square roots against double precision: one rounding of 6e-8 · 45.
    torch.testing.assert_close(ours, torch.tensor(expected), rtol=1e-6, atol=0)


def test_grid_by_hand() -> None:
    """2 rows, 3 columns: x runs before y, the stride is (y, x), the anchor runs fastest."""
    cell = torch.tensor([[-1.0, -2.0, 1.0, 2.0], [-4.0, -4.0, 4.0, 4.0]])
    grid = grid_anchors(cell, (2, 3), (10, 100))
    assert grid.shape == (12, 4)
    assert grid[0].tolist() == [-1, -2, 1, 2]
    assert grid[1].tolist() == [-4, -4, 4, 4]
    assert grid[2].tolist() == [99, -2, 101, 2]
    assert grid[6].tolist() == [-1, 8, 1, 12]


def test_counts_of_the_papers() -> None:
    """Faster R-CNN: 9 anchors on a 60×40 map are 21,600 (section 3.1.1)."""
    (faster,) = pyramid_anchors([(128, 256, 512)], RATIOS, [(40, 60)], (640, 960))
    assert len(faster) == 21_600


@pytest.mark.parametrize(
    ("image", "features"),
    [
        ((800, 1088), [(200, 272), (100, 136), (50, 68), (25, 34), (13, 17)]),
        ((130, 70), [(33, 18), (17, 9), (9, 5), (5, 3), (3, 2)]),  # strides that do not divide
        ((128, 128), [(1, 1), (1, 1), (1, 1), (1, 1), (1, 1)]),
    ],
)
@pytest.mark.parametrize("sizes", [((32,), (64,), (128,), (256,), (512,)), ((8, 10, 12.5),) * 5])
def test_pyramid_is_torchvisions(
    image: tuple[int, int],
    features: list[tuple[int, int]],
    sizes: tuple[tuple[float, ...], ...],
) -> None:
    reference = AnchorGenerator(sizes, (RATIOS,) * 5)
    images = ImageList(torch.zeros(1, 3, *image), [image])
    (expected,) = reference(images, [torch.zeros(1, 1, *f) for f in features])
    ours = pyramid_anchors(sizes, RATIOS, features, image)
    assert [len(level) for level in ours] == [h * w * 3 * len(sizes[0]) for h, w in features]
    assert torch.equal(torch.cat(ours), expected)


def test_cache_does_not_mix_up_its_entries() -> None:
    def centre_spacing(image: int, feature: int) -> float:
        (level,) = pyramid_anchors([(16,)], (1.0,), [(feature, feature)], (image, image))
        return (level[1] - level[0])[0].item()

    assert [centre_spacing(64, 16), centre_spacing(128, 16), centre_spacing(64, 16)] == [4, 8, 4]
    rounded = pyramid_anchors([(30,)], (0.5,), [(1, 1)], (64, 64))
    exact = pyramid_anchors([(30,)], (0.5,), [(1, 1)], (64, 64), rounding="none")
    assert not torch.equal(rounded[0], exact[0])


def test_errors_say_what_to_do() -> None:
    with pytest.raises(ValueError, match="2 levels have anchor sizes but there are 1"):
        pyramid_anchors([(32,), (64,)], RATIOS, [(8, 8)], (64, 64))
    with pytest.raises(ValueError, match="80×8 does not fit"):
        pyramid_anchors([(32,)], RATIOS, [(80, 8)], (64, 64))
    with pytest.raises(ValueError, match="positive size"):
        cell_anchors((), RATIOS)
    with pytest.raises(ValueError, match="positive size"):
        cell_anchors((32,), (0.0,))
