"""Hand-made features answer to edges of their direction, and move with the image."""

import math

import pytest
import torch

from mrcnn_edu.nn.edges import edge_features, edge_filters


def wave(degrees, wavelength=12.0, size=96):
    """A grating whose lines are turned by `degrees` from the vertical. uint8 [3, H, W]."""
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    turn = math.radians(degrees)
    along = x * math.cos(turn) + y * math.sin(turn)
    grey = 127.5 + 127.5 * torch.sin(2 * math.pi * along / wavelength)
    return grey.to(torch.uint8).expand(3, size, size)


@pytest.mark.parametrize("channel", range(4))
def test_each_channel_answers_to_its_direction(channel):
    features = edge_features(wave(45 * channel), 16)  # [4, 6, 6]
    middle = features[:, 1:-1, 1:-1].mean(dim=(1, 2))  # [4]
    assert middle.argmax() == channel
    assert middle[channel] > 3 * middle[(channel + 2) % 4]


def test_filters_are_odd_so_flat_colour_gives_nothing():
    filters = edge_filters()
    torch.testing.assert_close(filters.flip(2, 3), -filters)
    assert edge_features(torch.full((3, 40, 50), 200, dtype=torch.uint8), 8).max() < 1e-6


@pytest.mark.parametrize("stride", [1, 4, 16])
def test_shape_range_and_steps_of_the_stride(stride):
    image = torch.randint(256, (3, 70, 101), dtype=torch.uint8)
    features = edge_features(image, stride)
    assert features.shape == (4, 70 // stride, 101 // stride)
    assert 0 <= features.min() <= features.max() <= 0.5
    moved = edge_features(image[:, :, stride:], stride)
    edge = -(-8 // stride)  # map pixels that see the reflected border
    inner = slice(edge, moved.shape[2] - edge)
    torch.testing.assert_close(moved[..., inner], features[..., 1:][..., inner])
