"""Typical wrong answers to the exercises of chapter 05, and how each is told."""

import math

import torch
import torch.nn.functional as F


def pool_iou(rounding, last_pixel=1, square=False):
    def my_pool_iou(box, stride):
        x1, y1, x2, y2 = (rounding(v / stride) for v in box)
        if square:
            y1, y2 = x1, x2
        read = [v * stride for v in (x1, y1, x2 + last_pixel, y2 + last_pixel)]
        width = max(min(box[2], read[2]) - max(box[0], read[0]), 0)
        height = max(min(box[3], read[3]) - max(box[1], read[1]), 0)
        areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (box, read)]
        return width * height / (sum(areas) - width * height)

    return my_pool_iou


def nearest(value):
    return math.floor(value + 0.5)


def bilinear(a_of=lambda a: a, exchanged=False, clamp=True, limit=True, keep=True, ends=True):
    def my_bilinear(x, row, column):
        channels, height, width = x.shape
        if exchanged:
            row, column = column, row
        if limit and not (-1 <= row <= height and -1 <= column <= width):
            return torch.zeros(channels)
        if not ends and not (-1 < row <= height and -1 < column <= width):
            return torch.zeros(channels)
        if not clamp:
            x, row, column = F.pad(x, (2, 2, 2, 2)), row + 2, column + 2
            height, width = height + 4, width + 4
        row, column = min(max(row, 0), height - 1), min(max(column, 0), width - 1)
        i, j = math.floor(row), math.floor(column)
        i2, j2 = (min(i + 1, height - 1), min(j + 1, width - 1)) if keep else (i + 1, j + 1)
        a, b = a_of(row - i), a_of(column - j)
        top = (1 - b) * x[:, i, j] + b * x[:, i, j2]
        bottom = (1 - b) * x[:, i2, j] + b * x[:, i2, j2]
        return (1 - a) * top + a * bottom

    return my_bilinear


def aligned_roi_align(
    half=0.0,
    exchanged=False,
    corners=False,
    padding="border",
    one=False,
    middle=0.5,
    square=False,
    scaled=True,
):
    def my_roi_align(x, box, bins, scale, samples):
        x1, y1, x2, y2 = (v * (scale if scaled else 1) + half for v in box)
        if one:
            samples = 1
        steps = (torch.arange(bins * samples) + middle) / (bins * samples)
        rows, columns = y1 + (y2 - y1) * steps, x1 + (x2 - x1) * steps
        height, width = (x.shape[1], x.shape[1] if square else x.shape[2])
        rows, columns = 2 * rows / height - 1, 2 * columns / width - 1
        grid = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1)
        if exchanged:
            grid = grid.flip(-1)
        read = F.grid_sample(x[None], grid[None], align_corners=corners, padding_mode=padding)
        return F.avg_pool2d(read, samples)[0]

    return my_roi_align


def sampled_weights(samples):
    def my_exact_weights(start, side, bins, length):
        steps = (torch.arange(bins * samples) + 0.5) / (bins * samples)
        at = (start + side * steps).reshape(bins, samples)
        hats = (1 - (at[:, :, None] - torch.arange(length)).abs()).clamp(min=0)
        return hats.mean(dim=1)

    return my_exact_weights


def undivided_weights(start, side, bins, length):
    edges = start + side * torch.arange(bins + 1) / bins
    d = (edges[:, None] - torch.arange(length)).clamp(-1, 1)
    area = torch.where(d < 0, (d + 1) ** 2 / 2, 1 - (1 - d) ** 2 / 2)
    return area[1:] - area[:-1]


def flat_weights(start, side, bins, length):
    """How much of each pixel, from half before to half behind its centre, lies in the bin."""
    edges = start + side * torch.arange(bins + 1) / bins
    area = (edges[:, None] - torch.arange(length) + 0.5).clamp(0, 1)
    return (area[1:] - area[:-1]) / (side / bins)


def transposed_weights(start, side, bins, length):
    return sampled_weights(200)(start, side, bins, length).T


def pool_iou_of_negative_sides(box, stride):
    x1, y1, x2, y2 = (math.copysign(nearest(abs(v) / stride), v) for v in box)
    read = [v * stride for v in (x1, y1, x2 + 1, y2 + 1)]
    width = min(box[2], read[2]) - max(box[0], read[0])
    height = min(box[3], read[3]) - max(box[1], read[1])
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (box, read)]
    return width * height / (sum(areas) - width * height)


def many_samples(start, side, bins, length):
    return sampled_weights(200)(start, side, bins, length)


def shifted_weights(start, side, bins, length):
    return sampled_weights(200)(start - 0.5, side, bins, length)


def detached_roi_align(x, box, bins, scale, samples):
    return aligned_roi_align()(x.detach(), box, bins, scale, samples)


WRONG = {
    "check_pool_iou": {
        "the last pixel is left out": (pool_iou(nearest, last_pixel=0), "belongs to the box"),
        "rounds down": (pool_iou(math.floor), "not down to 1"),
        "Python's round": (pool_iou(round), "even neighbour"),
        "halves of negative places go up": (pool_iou(nearest), "on this side of it too"),
        "sides of the overlap below 0": (pool_iou_of_negative_sides, "at least 0"),
        "x twice": (pool_iou(nearest, square=True), "is not a square"),
    },
    "check_bilinear": {
        "weights exchanged": (bilinear(lambda a: 1 - a), "the larger its weight"),
        "nearest pixel": (
            lambda x, row, column: x[:, round(row), round(column)],
            "not the nearest pixel",
        ),
        "column first": (bilinear(exchanged=True), "the row comes first"),
        "reads behind the last pixel": (bilinear(keep=False), "has no neighbour"),
        "zeros around the map": (bilinear(clamp=False), "it is not mixed with 0"),
        "leaves out the near end": (bilinear(ends=False), "includes both ends"),
        "continues for ever": (bilinear(limit=False), "nothing to read"),
    },
    "check_roi_align": {
        "half a pixel added": (aligned_roi_align(half=0.5), "every value is 3 too large"),
        "y first": (aligned_roi_align(exchanged=True), "rows and columns are exchanged"),
        "the other corners": (aligned_roi_align(corners=True), "left edge of the first pixel"),
        "starts of the parts": (aligned_roi_align(middle=0.0), "at the start of their parts"),
        "zeros around the map": (aligned_roi_align(padding="zeros"), "left of the first pixel's"),
        "one length for both axes": (aligned_roi_align(square=True), "columns by W"),
        "scale forgotten": (aligned_roi_align(scaled=False), "at scale 0.5"),
        "no gradient": (detached_roi_align, "No gradient goes back"),
        "one sample": (aligned_roi_align(one=True), "a smooth slope could not tell"),
    },
    "check_exact_weights": {
        "not divided": (undivided_weights, "divided by the width"),
        "two hundred samples": (many_samples, "further apart than pixels"),
        "shifted by half a pixel": (shifted_weights, "by half a pixel any more"),
        "two samples": (sampled_weights(2), "the integral is exact"),
        "flat pixels": (flat_weights, "not flat inside each"),
        "transposed": (transposed_weights, "a matrix [1, 4]"),
    },
}

EQUIVALENT = {
    "check_pool_iou": {
        "max(box[2] - max(": "the last pixel read ends at least half a pixel behind the box",
        "max(box[3] - max(": "the last pixel read ends at least half a pixel below the box",
    },
    "check_roi_align": {"avg_pool2d(read, samples)[-1]": "of a batch of one the last is the first"},
    "check_exact_weights": {"torch.where(d <= 0": "at d = 0 both halves of the hat hold ½"},
}
