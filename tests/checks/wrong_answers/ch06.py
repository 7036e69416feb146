"""Wrong answers to the exercises of chapter 06: {check: {what is wrong: (answer, message)}}."""

import numpy as np
import torch


def _taps(y, x, height, width):
    y, x = min(max(y, 0.0), height - 1.0), min(max(x, 0.0), width - 1.0)
    i, j = int(y), int(x)
    return i, j, min(i + 1, height - 1), min(j + 1, width - 1), y - i, x - j


def _inside(y, x, height, width):
    return -1 <= y <= height and -1 <= x <= width


def _scatter(g, y, x, height, width, add=True):
    i, j, i2, j2, below, right = _taps(y, x, height, width)
    out = torch.zeros(height, width, dtype=torch.float64)
    for row, wy in ((i, 1 - below), (i2, below)):
        for column, wx in ((j, 1 - right), (j2, right)):
            out[row, column] = g * wy * wx + (out[row, column] if add else 0)
    return out


def swaps_rows_and_columns(g, y, x, height, width):
    if not _inside(y, x, height, width):
        return torch.zeros(height, width, dtype=torch.float64)
    return _scatter(g, x, y, height, width)


def assigns_at_the_border(g, y, x, height, width):
    if not _inside(y, x, height, width):
        return torch.zeros(height, width, dtype=torch.float64)
    return _scatter(g, y, x, height, width, add=False)


def leaves_the_edge_itself_out(g, y, x, height, width):
    if not (-1 < y < height and -1 < x < width):
        return torch.zeros(height, width, dtype=torch.float64)
    return _scatter(g, y, x, height, width)


def never_outside(g, y, x, height, width):
    return _scatter(g, y, x, height, width)


def nothing_outside_at_all(g, y, x, height, width):
    if not (0 <= y <= height - 1 and 0 <= x <= width - 1):
        return torch.zeros(height, width, dtype=torch.float64)
    return _scatter(g, y, x, height, width)


def shares_the_gradient(gradient, bins, feature):
    out = torch.zeros_like(feature)
    for g, pixels in zip(gradient, bins, strict=True):
        for i, j in pixels:
            out[i, j] += g / len(pixels)
    return out


def assigns_the_gradient(gradient, bins, feature):
    out = torch.zeros_like(feature)
    for g, pixels in zip(gradient, bins, strict=True):
        if pixels:
            i, j = max(pixels, key=lambda pixel: feature[pixel].item())
            out[i, j] = g
    return out


def starts_the_maximum_at_zero(gradient, bins, feature):
    out = torch.zeros_like(feature)
    for g, pixels in zip(gradient, bins, strict=True):
        best, where = 0.0, None
        for pixel in pixels:
            if feature[pixel] > best:
                best, where = feature[pixel], pixel
        if where is not None:
            out[where] += g
    return out


def takes_the_last_of_equals(gradient, bins, feature):
    out = torch.zeros_like(feature)
    for g, pixels in zip(gradient, bins, strict=True):
        if pixels:
            i, j = max(reversed(pixels), key=lambda pixel: feature[pixel].item())
            out[i, j] += g
    return out


def overwrites_weights(pixels, weights):
    total = dict(zip(pixels, weights, strict=True))
    return list(total), list(total.values())


def only_looks_at_the_last(pixels, weights):
    kept, sums = [], []
    for pixel, weight in zip(pixels, weights, strict=True):
        for back in (1, 2):
            if len(kept) >= back and kept[-back] == pixel:
                sums[-back] += weight
                break
        else:
            kept.append(pixel)
            sums.append(weight)
    return kept, sums


def normalises(pixels, weights):
    total = {}
    for pixel, weight in zip(pixels, weights, strict=True):
        total[pixel] = total.get(pixel, 0.0) + weight
    return list(total), [weight / sum(weights) for weight in total.values()]


def merges_whole_samples_only(pixels, weights):
    total = {}
    for k in range(0, len(pixels), 2):
        pair, parts = tuple(pixels[k : k + 2]), weights[k : k + 2]
        total[pair] = [a + b for a, b in zip(total.get(pair, (0, 0)), parts, strict=True)]
    return [p for pair in total for p in pair], [w for parts in total.values() for w in parts]


def divides_the_rois(taps, out, first, step):
    for roi in taps[first::step]:
        for i, j, weight, g in roi:
            out[i, j] += weight * g


def leaves_rows_without_owner(taps, out, first, step):
    rows = out.shape[0] // step
    for roi in taps:
        for i, j, weight, g in roi:
            if first * rows <= i < (first + 1) * rows:
                out[i, j] += weight * g


def forgets_the_weight(taps, out, first, step):
    for roi in taps:
        for i, j, _, g in roi:
            if i % step == first:
                out[i, j] += g


def adds_a_whole_array(taps, out, first, step):
    part = np.zeros(out.shape, np.float32)
    for roi in taps:
        for i, j, weight, g in roi:
            if i % step == first:
                part[i, j] += weight * g
    out += part


def changes_the_order(taps, out, first, step):
    for roi in taps[first:] + taps[:first]:
        for i, j, weight, g in roi:
            if i % step == first:
                out[i, j] += weight * g


def forgets_the_gradient(g, y, x, height, width):
    if not _inside(y, x, height, width):
        return torch.zeros(height, width, dtype=torch.float64)
    return _scatter(1.0, y, x, height, width)


def exchanges_the_weights(g, y, x, height, width):
    if not _inside(y, x, height, width):
        return torch.zeros(height, width, dtype=torch.float64)
    i, j, i2, j2, below, right = _taps(y, x, height, width)
    out = torch.zeros(height, width, dtype=torch.float64)
    for row, wy in ((i, below), (i2, 1 - below)):
        for column, wx in ((j, right), (j2, 1 - right)):
            out[row, column] += g * wy * wx
    return out


def returns_doubles(gradient, bins, feature):
    return takes_the_first(gradient, bins, feature).double()


def takes_the_first(gradient, bins, feature):
    out = torch.zeros_like(feature)
    for g, pixels in zip(gradient, bins, strict=True):
        if pixels:
            i, j = max(pixels, key=lambda pixel: feature[pixel].item())
            out[i, j] += g
    return out


def writes_over_the_feature(gradient, bins, feature):
    out = takes_the_first(gradient, bins, feature)
    feature.copy_(out)
    return feature


def all_of_equals(gradient, bins, feature):
    out = torch.zeros_like(feature)
    for g, pixels in zip(gradient, bins, strict=True):
        for pixel in pixels:
            if feature[pixel] == max(feature[p] for p in pixels):
                out[pixel] += g
    return out


def drops_zeros(pixels, weights):
    total = {}
    for pixel, weight in zip(pixels, weights, strict=True):
        total[pixel] = total.get(pixel, 0.0) + weight
    return [p for p, w in total.items() if w], [w for w in total.values() if w]


def sorts(pixels, weights):
    total = dict.fromkeys(sorted(pixels), 0.0)
    for pixel, weight in zip(pixels, weights, strict=True):
        total[pixel] += weight
    return list(total), list(total.values())


def clears_out_first(taps, out, first, step):
    for i in range(first, len(out), step):
        for j in range(out.shape[1]):
            out[i, j] = 0
    for roi in taps:
        for i, j, weight, g in roi:
            if i % step == first:
                out[i, j] += weight * g


def assigns_the_share(taps, out, first, step):
    for roi in taps:
        for i, j, weight, g in roi:
            if i % step == first:
                out[i, j] = weight * g


WRONG = {
    "check_sample_backward": {
        "x is the row": (swaps_rows_and_columns, "y is the row"),
        "g forgotten": (forgets_the_gradient, "multiplied by g"),
        "weights exchanged": (exchanges_the_weights, "The nearer row"),
        "assigns where two taps meet": (assigns_at_the_border, "added, not assigned"),
        "reads outside the map": (never_outside, "so nothing goes back"),
        "the border does not continue": (nothing_outside_at_all, "clamp the coordinate"),
        "the edge is outside": (leaves_the_edge_itself_out, "is too far, the same for x"),
    },
    "check_pool_backward": {
        "shares as a mean does": (shares_the_gradient, "not shared as in a mean"),
        "assigns": (assigns_the_gradient, "the second over the first"),
        "the maximum starts at 0": (starts_the_maximum_at_zero, "a negative value can be"),
        "another type": (returns_doubles, "expected torch.float32"),
        "all of equals": (all_of_equals, "all three have some"),
        "writes over the feature": (writes_over_the_feature, "writes into its input `feature`"),
        "the last of equals": (takes_the_last_of_equals, "yours is the last"),
    },
    "check_merge_taps": {
        "the last weight wins": (overwrites_weights, "those of the last sample"),
        "compares whole samples": (merges_whole_samples_only, "share pixel 4"),
        "looks at the last two taps": (only_looks_at_the_last, "not only at the last ones"),
        "drops weights of 0": (drops_zeros, "Pixel 3 stays"),
        "sorts": (sorts, "the order of first appearance."),
        "normalises": (normalises, "do not normalise"),
    },
    "check_share": {
        "divides the RoIs": (divides_the_rois, "Divide the pixels"),
        "adds a whole array": (adds_a_whole_array, "adding 0 to one is a write"),
        "the last rows have no owner": (leaves_rows_without_owner, "nobody writes pixel"),
        "clears out first": (clears_out_first, "add to what is there"),
        "assigns": (assigns_the_share, "Two taps of pixel (1, 0) add up"),
        "no weight": (forgets_the_weight, "multiplied by its weight"),
        "adds in another order": (changes_the_order, "in the order of the RoIs"),
    },
}

EQUIVALENT = {
    "check_sample_backward": {
        "out[i, j] = g * (1 - below)": "nothing has been added before",
    },
    "check_pool_backward": {
        "zip(gradient, bins, strict=False)": "there is a gradient for each bin",
    },
    "check_merge_taps": {
        "zip(pixels, weights, strict=False)": "there is a weight for each pixel",
    },
}
