"""Position-sensitive pooling against torchvision, by hand, and by finite differences."""

import pytest
import torch
import torchvision

from mrcnn_edu.related.position_sensitive import bin_edges, cells_of_bins, ps_roi_pool


def boxes_on_the_grid(generator: torch.Generator, count: int, stride: int) -> torch.Tensor:
    corner = torch.randint(0, 8, (count, 2), generator=generator)
    side = torch.randint(1, 12, (count, 2), generator=generator)
    return torch.cat([corner, corner + side], dim=1).float() * stride


@pytest.mark.parametrize("cells", [1, 2, 3, 7])
def test_it_is_torchvisions_where_bins_are_cells_and_corners_lie_on_the_grid(cells):
    generator = torch.Generator().manual_seed(cells)
    maps = torch.randn(2, 5 * cells**2, 24, 26, generator=generator)
    rois = [boxes_on_the_grid(generator, 9, 16) for _ in range(2)]
    ours = ps_roi_pool(maps, rois, cells, cells, 1 / 16)
    theirs = torchvision.ops.ps_roi_pool(maps, rois, cells, 1 / 16)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


def test_a_bin_reads_the_map_of_its_cell_only():
    # 2 × 2 cells, 4 × 4 bins; map i is everywhere i.
    maps = torch.arange(4.0)[None, :, None, None].expand(1, 4, 8, 8)
    pooled = ps_roi_pool(maps, [torch.tensor([[0.0, 0, 8, 8]])], 4, 2, 1.0)
    assert pooled[0, 0].tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]]


def test_a_bin_is_the_mean_of_every_pixel_that_it_touches():
    line = torch.arange(6.0).expand(1, 1, 1, 6)
    # Three bins over 4 pixels: [0, 1.33), [1.33, 2.67), [2.67, 4) touch 0-1, 1-2, 2-3.
    pooled = ps_roi_pool(line.expand(1, 1, 6, 6), [torch.tensor([[0.0, 0, 4, 4]])], 3, 1, 1.0)
    assert pooled[0, 0, 0].tolist() == [0.5, 1.5, 2.5]


def test_corners_are_rounded_in_image_pixels_then_divided_by_the_stride():
    first, last = bin_edges(torch.tensor([7.4]), torch.tensor([24.5]), 1 / 8, 2, 9)
    # 7 / 8 and 25 / 8: bins [0.875, 2), [2, 3.125).
    assert (first.tolist(), last.tolist()) == ([[0, 2]], [[2, 4]])


def test_twenty_one_bins_are_three_a_cell():
    assert cells_of_bins(21, 7).tolist() == [i // 3 for i in range(21)]


def test_a_roi_outside_reads_nothing_and_images_do_not_mix():
    maps = torch.stack([torch.full((4, 5, 5), 1.0), torch.full((4, 5, 5), 2.0)])
    rois = [torch.tensor([[20.0, 20, 30, 30]]), torch.tensor([[0.0, 0, 5, 5], [1.0, 1, 2, 2]])]
    pooled = ps_roi_pool(maps, rois, 6, 2, 1.0)
    assert pooled.shape == (3, 1, 6, 6)
    assert [pooled[i].unique().tolist() for i in range(3)] == [[0.0], [2.0], [2.0]]
    assert ps_roi_pool(maps, [torch.zeros(0, 4)] * 2, 6, 2, 1.0).shape == (0, 1, 6, 6)


def test_its_gradient_is_that_of_finite_differences():
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(2, 8, 5, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    rois = [torch.tensor([[0.0, 3, 17, 20], [5.0, 5, 40, 9]]), torch.tensor([[-4.0, 2, 9, 30]])]
    assert torch.autograd.gradcheck(lambda m: ps_roi_pool(m, rois, 5, 2, 1 / 4), maps)


@pytest.mark.parametrize(("channels", "lists", "bins"), [(7, 1, 4), (8, 2, 4), (8, 1, 1)])
def test_what_does_not_fit_is_refused(channels, lists, bins):
    with pytest.raises(ValueError, match="Position-sensitive pooling"):
        ps_roi_pool(torch.zeros(1, channels, 4, 4), [torch.zeros(1, 4)] * lists, bins, 2, 1.0)
