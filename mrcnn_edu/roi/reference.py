"""RoIPool, RoIWarp and RoIAlign as NumPy loops, forward and backward: the definition.

In: one map `x` [C, H, W] and one box (x1, y1, x2, y2) in image coordinates. Out: [C, Ph, Pw].
Nothing here is fast; every line is a line of the formula, and the other implementations are tested
against it. Fast R-CNN §2.1, Mask R-CNN §3. Chapters 05 and 06.

**Samples (RoIAlign, RoIWarp).** With s = `spatial_scale`, bin (q, p) of Ph × Pw bins covers
`[y1·s + q·h/Ph, y1·s + (q+1)·h/Ph) × [x1·s + p·w/Pw, ...)`, where h, w are the sides of the box
on the map. It is cut into S × S parts, and the map is read at the middle of each, bilinearly,
where `x[c, i, j]` is the value at coordinate (i, j). The bin is their mean or maximum.

- RoIAlign, `aligned=True`: half a pixel is subtracted from both corners, because the centre of
  pixel j is at j + ½ of the image. Nothing is rounded.
- RoIAlign, `aligned=False`: nothing subtracted; h, w at least 1.
- RoIWarp: the four scaled corners are rounded, halves away from zero; then as `aligned=False`.

**Outside the map** a sample is 0 if it is more than one pixel away (y < −1 or y > H); nearer, it
takes the value of the border. **S** is `sampling_ratio`, or ⌈bin side⌉ if that is 0 or less.

**RoIPool.** Corners are rounded, halves away from zero, and the last pixel belongs to the box:
w = x2 − x1 + 1, at least 1. Bin p covers pixels `x1 + ⌊p·w/Pw⌋` to `x1 + ⌈(p+1)·w/Pw⌉ − 1`, cut
to the map; its value is their maximum, 0 if there is none.

A gradient arriving at a bin goes where the value came from: with the interpolation weights to
the four pixels of each sample, divided by S² (mean); all of it to the first largest sample or
pixel (maximum); nowhere for samples outside.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Taps = list[tuple[int, int, float]]


def round_half_away(value: float) -> int:
    """2.5 → 3, −2.5 → −3: C's `round`, not Python's, which rounds halves to even."""
    whole = math.trunc(value)
    if abs(value - whole) >= 0.5:
        whole += 1 if value > 0 else -1
    return whole


def bilinear(y: float, x: float, height: int, width: int) -> Taps:
    """Pixels and weights that a sample reads; none if it lies more than a pixel outside.

    Args:
        y, x: of the sample, in map pixels, 0 in the middle of the first.
        height, width: of the map.

    Returns:
        (i, j, weight) four times.
    """
    if not (-1 <= y <= height and -1 <= x <= width):
        return []
    y, x = min(max(y, 0.0), height - 1.0), min(max(x, 0.0), width - 1.0)
    i, j = int(y), int(x)
    below, right = y - i, x - j
    i2, j2 = min(i + 1, height - 1), min(j + 1, width - 1)
    return [
        (i, j, (1 - below) * (1 - right)),
        (i, j2, (1 - below) * right),
        (i2, j, below * (1 - right)),
        (i2, j2, below * right),
    ]


def bin_samples(
    box: Sequence[float],
    size: tuple[int, int],
    map_size: tuple[int, int],
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
    rounded: bool,
) -> Iterator[tuple[int, int, list[Taps]]]:
    """For each bin of RoIAlign or RoIWarp, the taps of all its samples.

    Args:
        box: (x1, y1, x2, y2) in image coordinates.
        size: (Ph, Pw).
        map_size: (H, W).
        spatial_scale: 1 / stride.
        sampling_ratio: samples a bin side; 0 or less takes ⌈bin size⌉.
        aligned: half a pixel is subtracted.
        rounded: RoIWarp's corners.

    Returns:
        (q, p, taps of each sample), bin by bin.
    """
    offset = 0.5 if aligned else 0.0
    x1, y1, x2, y2 = (float(v) * spatial_scale - offset for v in box)
    if rounded:
        x1, y1, x2, y2 = (float(round_half_away(v)) for v in (x1, y1, x2, y2))
    h, w = y2 - y1, x2 - x1
    if not aligned:
        h, w = max(h, 1.0), max(w, 1.0)
    bin_h, bin_w = h / size[0], w / size[1]
    rows = sampling_ratio if sampling_ratio > 0 else math.ceil(bin_h)
    columns = sampling_ratio if sampling_ratio > 0 else math.ceil(bin_w)
    for q in range(size[0]):
        for p in range(size[1]):
            samples = []
            for s in range(rows):
                y = y1 + q * bin_h + (s + 0.5) * bin_h / rows
                for t in range(columns):
                    x = x1 + p * bin_w + (t + 0.5) * bin_w / columns
                    samples.append(bilinear(y, x, *map_size))
            yield q, p, samples


def sampled_forward(
    x: Array,
    box: Sequence[float],
    size: tuple[int, int],
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
    rounded: bool = False,
    reduce: str = "mean",
) -> Array:
    """RoIAlign, or RoIWarp with `rounded=True, aligned=False`, of one box.

    Args:
        x: a map [C, H, W].
        box, size, spatial_scale, sampling_ratio, aligned, rounded: as in `bin_samples`.
        reduce: "mean" or "max" of a bin's samples.

    Returns:
        [C, Ph, Pw].
    """
    channels, height, width = x.shape
    out = np.zeros((channels, *size), x.dtype)
    for q, p, samples in bin_samples(
        box, size, (height, width), spatial_scale, sampling_ratio, aligned, rounded
    ):
        for c in range(channels):
            values = [sum(weight * x[c, i, j] for i, j, weight in taps) for taps in samples]
            if values:
                out[c, q, p] = max(values) if reduce == "max" else sum(values) / len(values)
    return out


def sampled_backward(
    gradient: Array,
    x: Array,
    box: Sequence[float],
    size: tuple[int, int],
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
    rounded: bool = False,
    reduce: str = "mean",
) -> Array:
    """Gradient of `sampled_forward` for x.

    Args:
        gradient: of the output [C, Ph, Pw].
        x, box, size, spatial_scale, sampling_ratio, aligned, rounded, reduce: those of
            `sampled_forward`.

    Returns:
        [C, H, W].
    """
    channels, height, width = x.shape
    out = np.zeros_like(x)
    for q, p, samples in bin_samples(
        box, size, (height, width), spatial_scale, sampling_ratio, aligned, rounded
    ):
        for c in range(channels):
            receivers = samples
            if reduce == "max":
                values = [sum(weight * x[c, i, j] for i, j, weight in taps) for taps in samples]
                receivers = [samples[values.index(max(values))]] if values else []
            for taps in receivers:
                for i, j, weight in taps:
                    out[c, i, j] += weight * gradient[c, q, p] / len(receivers)
    return out


def pool_bins(
    box: Sequence[float], size: tuple[int, int], map_size: tuple[int, int], spatial_scale: float
) -> Iterator[tuple[int, int, list[tuple[int, int]]]]:
    """For each bin of RoIPool the pixels that it covers.

    Args:
        box, size, map_size, spatial_scale: as in `bin_samples`.

    Returns:
        (q, p, pixels (i, j) row by row), bin by bin.
    """
    x1, y1, x2, y2 = (round_half_away(float(v) * spatial_scale) for v in box)
    bin_h, bin_w = max(y2 - y1 + 1, 1) / size[0], max(x2 - x1 + 1, 1) / size[1]
    for q in range(size[0]):
        rows = range(
            max(y1 + math.floor(q * bin_h), 0), min(y1 + math.ceil((q + 1) * bin_h), map_size[0])
        )
        for p in range(size[1]):
            columns = range(
                max(x1 + math.floor(p * bin_w), 0),
                min(x1 + math.ceil((p + 1) * bin_w), map_size[1]),
            )
            yield q, p, [(i, j) for i in rows for j in columns]


def pool_forward(
    x: Array, box: Sequence[float], size: tuple[int, int], spatial_scale: float
) -> Array:
    """RoIPool of one box.

    Args:
        x: a map [C, H, W].
        box, size, spatial_scale: as in `bin_samples`.

    Returns:
        [C, Ph, Pw].
    """
    out = np.zeros((x.shape[0], *size), x.dtype)
    for q, p, pixels in pool_bins(box, size, x.shape[1:], spatial_scale):
        for c in range(x.shape[0]):
            if pixels:
                out[c, q, p] = max(x[c, i, j] for i, j in pixels)
    return out


def pool_backward(
    gradient: Array, x: Array, box: Sequence[float], size: tuple[int, int], spatial_scale: float
) -> Array:
    """Gradient of `pool_forward` for x.

    Args:
        gradient: of the output [C, Ph, Pw].
        x, box, size, spatial_scale: those of `pool_forward`.

    Returns:
        [C, H, W].
    """
    out = np.zeros_like(x)
    for q, p, pixels in pool_bins(box, size, x.shape[1:], spatial_scale):
        for c in range(x.shape[0]):
            if pixels:
                i, j = max(pixels, key=lambda pixel: x[c, pixel[0], pixel[1]])
                out[c, i, j] += gradient[c, q, p]
    return out
