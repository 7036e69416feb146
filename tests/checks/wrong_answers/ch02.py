"""Typical mistakes in the exercises of chapter 02."""

import torch
from torch.nn import functional as F


def strides_ignored(layers):
    return 1 + sum(k - 1 for k, _, _ in layers), 0.5 + sum((k - 1) / 2 - p for k, _, p in layers)


def own_stride_first(layers):
    seen, jump, centre = 1, 1, 0.5
    for index, (kernel, stride, padding) in enumerate(layers):
        jump *= stride if index else 1
        seen += (kernel - 1) * jump
        centre += ((kernel - 1) / 2 - padding) * jump
        jump *= 1 if index else stride
    return seen, centre


def padding_forgotten(layers):
    seen, jump, centre = 1, 1, 0.5
    for kernel, stride, _ in layers:
        seen += (kernel - 1) * jump
        centre += (kernel - 1) / 2 * jump
        jump *= stride
    return seen, centre


def pixel_centres_at_integers(layers):
    seen, jump, centre = 1, 1, 0.0
    for kernel, stride, padding in layers:
        seen += (kernel - 1) * jump
        centre += ((kernel - 1) / 2 - padding) * jump
        jump *= stride
    return seen, centre


def padding_takes_sight(layers):
    seen, jump, centre = 1, 1, 0.5
    for kernel, stride, padding in layers:
        seen += (kernel - 1 - 2 * padding) * jump
        centre += ((kernel - 1) / 2 - padding) * jump
        jump *= stride
    return seen, centre


def variance_as_deviation(weight, bias, mean, variance, eps):
    scale = weight / (variance + eps)
    return scale, bias - mean * scale


def mean_not_scaled(weight, bias, mean, variance, eps):
    return weight / (variance + eps).sqrt(), bias - mean


def weight_forgotten(weight, bias, mean, variance, eps):
    scale = 1 / (variance + eps).sqrt()
    return scale, bias - mean * scale


def bias_forgotten(weight, bias, mean, variance, eps):
    scale = weight / (variance + eps).sqrt()
    return scale, -mean * scale


def eps_outside(weight, bias, mean, variance, eps):
    scale = weight / (variance.sqrt() + eps)
    return scale, bias - mean * scale


def bilinear(lateral, coarser):
    enlarged = F.interpolate(coarser, size=lateral.shape[-2:], mode="bilinear")
    return lateral + enlarged


def nearest_exact(lateral, coarser):
    return lateral + F.interpolate(coarser, size=lateral.shape[-2:], mode="nearest-exact")


def twice(lateral, coarser):
    return lateral + F.interpolate(coarser, scale_factor=2, mode="nearest")


def in_place(lateral, coarser):
    lateral += F.interpolate(coarser, size=lateral.shape[-2:], mode="nearest")
    return lateral


def replaced(lateral, coarser):
    return F.interpolate(coarser, size=lateral.shape[-2:], mode="nearest")


def _side(boxes):
    return ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sqrt()


def rounded(boxes):
    return torch.round(4 + torch.log2(_side(boxes) / 224)).clamp(2, 5).long()


def natural_logarithm(boxes):
    return torch.floor(4 + torch.log(_side(boxes) / 224) + 1e-6).clamp(2, 5).long()


def not_clamped(boxes):
    return torch.floor(4 + torch.log2(_side(boxes) / 224) + 1e-6).long()


def width_only(boxes):
    width = boxes[:, 2] - boxes[:, 0]
    return torch.floor(4 + torch.log2(width / 224) + 1e-6).clamp(2, 5).long()


def halves_dropped(layers):
    seen, jump, centre = 1, 1, 0.5
    for kernel, stride, padding in layers:
        seen += (kernel - 1) * jump
        centre += ((kernel - 1) // 2 - padding) * jump
        jump *= stride
    return seen, centre


def strides_added(layers):
    seen, jump, centre = 1, 1, 0.5
    for kernel, stride, padding in layers:
        seen += (kernel - 1) * jump
        centre += ((kernel - 1) / 2 - padding) * jump
        jump += stride - 1
    return seen, centre


def mean_added(weight, bias, mean, variance, eps):
    scale = weight / (variance + eps).sqrt()
    return scale, bias + mean * scale


def side_by_side(lateral, coarser):
    height, width = lateral.shape[-2:]
    return lateral + coarser.repeat(1, 1, 2, 2)[..., :height, :width]


def _level(side):
    return torch.floor(4 + torch.log2(side / 224) + 1e-6).clamp(2, 5).long()


def diagonal(boxes):
    return _level((boxes[:, 2:] - boxes[:, :2]).norm(dim=1))


def far_corner(boxes):
    return _level((boxes[:, 2] * boxes[:, 3]).sqrt())


def no_tolerance(boxes):
    return torch.floor(4 + torch.log2(_side(boxes) / 224)).clamp(2, 5).long()


def much_tolerance(boxes):
    return torch.floor(4 + torch.log2(_side(boxes) / 224) + 1e-3).clamp(2, 5).long()


def as_floats(boxes):
    return _level(_side(boxes)).float()


WRONG = {
    "check_receptive_field": {
        "every layer counts in pixels": (strides_ignored, "2 pixels apart"),
        "a layer's own stride counts for itself": (own_stride_first, "own stride counts"),
        "padding forgotten": (padding_forgotten, "Padding by 1 puts"),
        "halves dropped": (halves_dropped, "`//` drops it"),
        "strides added": (strides_added, "is the product"),
        "padding takes sight": (padding_takes_sight, "a 3×3 still sees 3"),
        "pixel centres at integers": (pixel_centres_at_integers, "whose centre is at ½"),
    },
    "check_scale_and_shift": {
        "mean added": (mean_added, "subtracted, not added"),
        "divides by the variance": (variance_as_deviation, "divide by the square root"),
        "mean not scaled": (mean_not_scaled, "multiplied by the scale"),
        "γ forgotten": (weight_forgotten, "γ multiplies"),
        "β forgotten": (bias_forgotten, "β is added"),
        "ε added after the root": (eps_outside, "before the square root"),
    },
    "check_top_down": {
        "bilinear": (bilinear, "nothing is blended"),
        "nearest-exact": (nearest_exact, "takes other cells"),
        "a factor of two": (twice, "not by a factor of two"),
        "in place": (in_place, "writes into its input `lateral`"),
        "side by side": (side_by_side, "put side by side"),
        "not added": (replaced, "not replaced by it"),
    },
    "check_levels": {
        "rounded to the nearest": (rounded, "round down"),
        "natural logarithm": (natural_logarithm, "log2, not log"),
        "not clamped": (not_clamped, "clamp"),
        "the width for the side": (width_only, "not the width"),
        "the far corner for the sides": (far_corner, "not x2 and y2"),
        "the diagonal": (diagonal, "not the diagonal"),
        "no tolerance": (no_tolerance, "add 1e-6"),
        "too much tolerance": (much_tolerance, "than rounding makes"),
        "floats": (as_floats, "expected torch.int64"),
    },
}

EQUIVALENT = {
    "check_top_down": {
        "size=lateral.shape[2:]": "of four dimensions the last two are all from the second on",
    },
    "check_levels": {
        "level = 4 + torch.log2(": "what is below 2 is cut to 2; from there `long` rounds down too",
    },
}
