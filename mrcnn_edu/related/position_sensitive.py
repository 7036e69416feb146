"""Position-sensitive pooling: the cell of a RoI decides which map is read there.

A RoI is cut into k × k cells, and each cell has a map of its own. A bin of cell (i, j) is the mean
over its pixels of map (i, j) and of no other, so what is read depends on where in the RoI it lies,
and nothing with weights runs on a RoI. R-FCN §2 (Dai et al. 2016), FCIS §3 (Li et al. 2017).
Chapter 18.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def cells_of_bins(bins: int, cells: int) -> Tensor:
    """The cell ⌊p · k / P⌋ in which each of P bins of one side lies: [P]."""
    return torch.arange(bins) * cells // bins


def bin_edges(
    low: Tensor, high: Tensor, scale: float, bins: int, length: int
) -> tuple[Tensor, Tensor]:
    """One axis of the pooling: each bin's first pixel, and the one after its last. [R, P] each.

    Ends are rounded in image pixels and then divided by the stride; bin p covers the pixels from
    ⌊start + p · size⌋ to ⌈start + (p + 1) · size⌉. So neighbouring bins share pixels, and a bin
    narrower than a pixel reads a whole one. A bin outside the map is empty.

    Args:
        low, high: the two ends [R], in image coordinates. (FCIS's boxes end on their last pixel,
            and its code adds 1; ours end behind it.)
        scale: 1 / stride.
        bins: P.
        length: pixels of the map's side.
    """
    start = torch.floor(low + 0.5) * scale  # [R]
    end = torch.floor(high + 0.5) * scale
    size = (end - start).clamp(min=0.1) / bins  # [R]
    steps = torch.arange(bins + 1, device=low.device)
    edges = steps * size[:, None] + start[:, None]  # [R, P + 1]
    first = edges[:, :-1].floor().clamp(0, length).long()  # [R, P]
    last = edges[:, 1:].ceil().clamp(0, length).long()
    return first, last


def ps_roi_pool(
    maps: Tensor, rois: Sequence[Tensor], bins: int, cells: int, spatial_scale: float
) -> Tensor:
    """Position-sensitive RoI pooling with more bins than cells.

    The sum over any rectangle of a map is found from four corners of its integral image, the sums
    over all rectangles that begin at the map's corner. With `bins == cells` and corners that are
    multiples of the stride the result equals `torchvision.ops.ps_roi_pool`, which rounds after
    dividing by the stride and never reads the map's last row and column. Gradients reach the maps,
    not the boxes.

    Args:
        maps: [N, C · k², H, W]; map (c · k + i) · k + j serves cell (i, j) of output c.
        rois: for each image [R_i, 4], in pixels of the image.
        bins: P, at least k.
        cells: k.
        spatial_scale: 1 / stride.

    Returns:
        [R, C, P, P]; a bin outside the map is 0.

    Raises:
        ValueError: the number of maps is not a multiple of k², of images not that of lists, or
            there are fewer bins than cells.
    """
    n, channels, height, width = maps.shape
    if channels % cells**2 or len(rois) != n or bins < cells:
        raise ValueError(
            f"Position-sensitive pooling: {n} images of {channels} maps, {len(rois)} lists of RoIs "
            f"and {bins} bins; it takes a list for each image, a multiple of {cells}² maps and at "
            f"least {cells} bins."
        )
    boxes = torch.cat([b.detach().float() for b in rois])  # [R, 4]
    image = torch.repeat_interleave(
        torch.arange(n, device=maps.device), torch.tensor([len(b) for b in rois]).to(maps.device)
    )  # [R]
    top, bottom = bin_edges(boxes[:, 1], boxes[:, 3], spatial_scale, bins, height)  # [R, P]
    left, right = bin_edges(boxes[:, 0], boxes[:, 2], spatial_scale, bins, width)
    cell = cells_of_bins(bins, cells).to(maps.device)
    # The map of each bin, of its row and its column: [R, P, P]
    which = image[:, None, None] * cells**2 + (cell[:, None] * cells + cell)

    by_cell = maps.unflatten(1, (-1, cells**2)).permute(0, 2, 3, 4, 1)  # [N, k², H, W, C]
    sums = by_cell.double().cumsum(2).cumsum(3)  # differences of large sums need the digits
    sums = torch.nn.functional.pad(sums, (0, 0, 1, 0, 1, 0))  # [N, k², H + 1, W + 1, C]
    table = sums.flatten(0, 3)  # a row of C sums for each corner of each map

    def corner(y: Tensor, x: Tensor) -> Tensor:
        rows = (which * (height + 1) + y[:, :, None]) * (width + 1) + x[:, None, :]  # [R, P, P]
        return table.index_select(0, rows.flatten()).unflatten(0, rows.shape)  # [R, P, P, C]

    total = corner(bottom, right) - corner(top, right) - corner(bottom, left) + corner(top, left)
    pixels = (bottom - top)[:, :, None] * (right - left)[:, None, :]  # [R, P, P]
    mean = total / pixels.clamp(min=1)[..., None]
    return mean.to(maps.dtype).permute(0, 3, 1, 2)  # [R, C, P, P]
