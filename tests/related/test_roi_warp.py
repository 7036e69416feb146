"""RoIWarp against RoIAlign forward, and against finite differences in the box's coordinates."""

import torch

from mrcnn_edu.related.roi_warp import warp_rois
from mrcnn_edu.roi import roi_align


def test_forward_is_roi_align_with_one_sample_a_bin():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 3, 9, 11, generator=generator, dtype=torch.float64)
    corner = 60 * torch.rand(2, 8, 2, generator=generator, dtype=torch.float64) - 10
    side = 50 * torch.rand(2, 8, 2, generator=generator, dtype=torch.float64)
    rois = list(torch.cat([corner, corner + side], dim=2))  # some leave the map of 36 × 44
    ours = warp_rois(features, rois, 5, 1 / 4)
    theirs = roi_align(features, rois, 5, 1 / 4, sampling_ratio=1, aligned=True)
    assert (theirs == 0).any()  # far outside
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_the_gradient_of_a_bin_by_hand():
    # On a map of x² the value at x between pixels 1 and 2 has the slope 3: F = 1 + 3 (x − 1).
    line = (torch.arange(5.0) ** 2).expand(1, 1, 5, 5)
    box = torch.tensor([[1.0, 1, 3, 3]], requires_grad=True)  # one bin, its middle at 2: x = 1.5
    value = warp_rois(line, [box], 1, 1.0)
    assert value.item() == 2.5
    value.sum().backward()
    # r = ½: half the slope goes to each of x1 and x2.
    torch.testing.assert_close(box.grad, torch.tensor([[1.5, 0, 1.5, 0]]))


def test_gradients_are_those_of_finite_differences():
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(1, 2, 6, 7, generator=generator, dtype=torch.float64)
    # No sample on a pixel's centre, where a bilinear value has a corner.
    boxes = torch.tensor([[3.1, 2.3, 17.7, 19.9], [-2.9, 5.3, 9.1, 31.3]], dtype=torch.float64)
    inputs = (features.requires_grad_(), boxes.requires_grad_())
    assert torch.autograd.gradcheck(lambda f, b: warp_rois(f, [b], 3, 1 / 4), inputs)


def test_an_image_without_rois_is_legal_and_images_do_not_mix():
    features = torch.stack([torch.full((1, 4, 4), 1.0), torch.full((1, 4, 4), 2.0)])
    warped = warp_rois(features, [torch.zeros(0, 4), torch.tensor([[1.0, 1, 3, 3]])], 2, 1.0)
    assert warped.tolist() == [[[[2, 2], [2, 2]]]]
