"""Typical mistakes in the exercises of chapter 17."""

import dataclasses
import math
import statistics

import torch

from mrcnn_edu.record import Detections


# ---------------------------------------------------------------- 17.2
def _out(size, kernel, stride, padding):
    return (size + 2 * padding - kernel) // stride + 1


def _counts(x, weight, stride, padding):
    n, _, h, w = x
    c_out, c_in, kh, kw = weight
    rows, columns = _out(h, kh, stride, padding), _out(w, kw, stride, padding)
    work = n * c_out * rows * columns * c_in * kh * kw
    return work, math.prod(x), math.prod(weight), n * c_out * rows * columns


def _done(work, numbers, peak, bandwidth, size=4):
    moved = size * numbers
    return work, moved, max(work / peak, moved / bandwidth)


def flops(x, weight, stride, padding, peak, bandwidth):
    work, *parts = _counts(x, weight, stride, padding)
    return _done(2 * work, sum(parts), peak, bandwidth)


def one_channel(x, weight, stride, padding, peak, bandwidth):
    work, *parts = _counts(x, weight, stride, padding)
    return _done(work // weight[1] // weight[0] * 2, sum(parts), peak, bandwidth)


def weights_only(x, weight, stride, padding, peak, bandwidth):
    _, *parts = _counts(x, weight, stride, padding)
    return _done(math.prod(weight), sum(parts), peak, bandwidth)


def unpadded(x, weight, stride, padding, peak, bandwidth):
    work, *parts = _counts(x, weight, stride, 0)
    return _done(work, sum(parts), peak, bandwidth)


def numbers_not_bytes(x, weight, stride, padding, peak, bandwidth):
    work, *parts = _counts(x, weight, stride, padding)
    return _done(work, sum(parts), peak, bandwidth, size=1)


def weight_not_read(x, weight, stride, padding, peak, bandwidth):
    work, a, _, o = _counts(x, weight, stride, padding)
    return _done(work, a + o, peak, bandwidth)


def output_not_written(x, weight, stride, padding, peak, bandwidth):
    work, a, w, _ = _counts(x, weight, stride, padding)
    return _done(work, a + w, peak, bandwidth)


def input_not_read(x, weight, stride, padding, peak, bandwidth):
    work, _, w, o = _counts(x, weight, stride, padding)
    return _done(work, w + o, peak, bandwidth)


def added_up(x, weight, stride, padding, peak, bandwidth):
    work, *parts = _counts(x, weight, stride, padding)
    moved = 4 * sum(parts)
    return work, moved, work / peak + moved / bandwidth


def the_shorter(x, weight, stride, padding, peak, bandwidth):
    work, *parts = _counts(x, weight, stride, padding)
    moved = 4 * sum(parts)
    return work, moved, min(work / peak, moved / bandwidth)


def always_memory(x, weight, stride, padding, peak, bandwidth):
    work, *parts = _counts(x, weight, stride, padding)
    moved = 4 * sum(parts)
    return work, moved, moved / bandwidth


def rounded_up(x, weight, stride, padding, peak, bandwidth):
    n, _, h, w = x
    c_out, c_in, kh, kw = weight
    rows, columns = (
        -(-(s + 2 * padding - k) // stride) + 1 for s, k in ((h, kh), (w, kw))
    )  # as ceil_mode does
    out = n * c_out * rows * columns
    parts = math.prod(x) + math.prod(weight) + out
    return _done(out * c_in * kh * kw, parts, peak, bandwidth)


def no_plus_one(x, weight, stride, padding, peak, bandwidth):
    n, _, h, w = x
    c_out, c_in, kh, kw = weight
    rows, columns = (h // stride, w // stride)
    out = n * c_out * rows * columns
    parts = math.prod(x) + math.prod(weight) + out
    return _done(out * c_in * kh * kw, parts, peak, bandwidth)


def stride_forgotten(x, weight, stride, padding, peak, bandwidth):
    work, *parts = _counts(x, weight, 1, padding)
    return _done(work, sum(parts), peak, bandwidth)


def all_channels(x, weight, stride, padding, peak, bandwidth):
    work, *parts = _counts(x, weight, stride, padding)
    return _done(work // weight[1] * x[1], sum(parts), peak, bandwidth)


def one_image(x, weight, stride, padding, peak, bandwidth):
    work, *parts = _counts((1, *x[1:]), weight, stride, padding)
    return _done(work, sum(parts), peak, bandwidth)


def weight_per_image(x, weight, stride, padding, peak, bandwidth):
    work, a, w, o = _counts(x, weight, stride, padding)
    return _done(work, a + x[0] * w + o, peak, bandwidth)


def square_kernels(x, weight, stride, padding, peak, bandwidth):
    square = (*weight[:3], weight[2])
    work, *parts = _counts(x, square, stride, padding)
    return _done(work, sum(parts), peak, bandwidth)


# ---------------------------------------------------------------- 17.1
def total_seconds(events):
    found = {}
    for name, start, end in events:
        found[name] = found.get(name, 0.0) + end - start
    return found


def leaves_only(events):
    found = {}
    for i, (name, start, end) in enumerate(events):
        leaf = not any(start <= s and e <= end for _, s, e in events[i + 1 :])
        found[name] = found.get(name, 0.0) + (end - start if leaf else 0.0)
    return found


def last_call_only(events):
    found = _own(events)
    seen = {}
    for (name, *_), own in zip(events, found, strict=True):
        seen[name] = own
    return seen


def _own(events, touching=False, all_below=False):
    own, open_ = [], []
    for k, (_, start, end) in enumerate(events):
        while open_ and (events[open_[-1]][2] < start or
                         (not touching and events[open_[-1]][2] <= start)):  # fmt: skip
            open_.pop()
        for parent in open_ if all_below else open_[-1:]:
            own[parent] -= end - start
        own.append(end - start)
        open_.append(k)
    return own


def _by_name(events, own):
    found = {}
    for (name, *_), seconds in zip(events, own, strict=True):
        found[name] = found.get(name, 0.0) + seconds
    return found


def touching_is_inside(events):
    return _by_name(events, _own(events, touching=True))


def all_descendants(events):
    return _by_name(events, _own(events, all_below=True))


def leaves_of_root(events):
    own = [e - s for _, s, e in events]
    for k, (_, start, end) in enumerate(events):
        leaf = not any(start <= s and e <= end for _, s, e in events[k + 1 :] if s < end)
        for j in range(k):
            if leaf and events[j][1] <= start and end <= events[j][2]:
                own[j] -= end - start
                break
    return _by_name(events, own)


def recursion_twice(events):
    found = _by_name(events, _own(events))
    for k, (name, start, end) in enumerate(events):
        if any(n == name and s <= start and end <= e for n, s, e in events[:k]):
            found[name] += end - start
    return found


def list_of_pairs(events):
    return list(_by_name(events, _own(events)).items())


def only_parents_named(events):
    found = _by_name(events, _own(events))
    return {n: s for n, s in found.items() if s > 0}


# ---------------------------------------------------------------- 17.3
def _best(seconds, factors):
    return max(factors, key=lambda n: seconds[n] - seconds[n] / factors[n])


def _law(seconds, factors):
    after = sum(s / factors.get(n, 1.0) for n, s in seconds.items())
    return sum(seconds.values()) / after if after else math.inf


def averaged(seconds, factors):
    whole = sum(seconds.values())
    up = sum(s / whole * factors.get(n, 1.0) for n, s in seconds.items())
    return up, _best(seconds, factors)


def product_of_factors(seconds, factors):
    return math.prod(factors.values()), _best(seconds, factors)


def share_that_is_left(seconds, factors):
    return 1 / _law(seconds, factors), _best(seconds, factors)


def seconds_left(seconds, factors):
    return sum(seconds.values()) / _law(seconds, factors), _best(seconds, factors)


def largest_factor(seconds, factors):
    return _law(seconds, factors), max(factors, key=factors.get)


def longest_stage(seconds, factors):
    return _law(seconds, factors), max(factors, key=lambda n: seconds[n])


def divides_by_nothing(seconds, factors):
    after = sum(s / factors.get(n, 1.0) for n, s in seconds.items())
    return sum(seconds.values()) / after, _best(seconds, factors)


def never_slower(seconds, factors):
    better = {n: max(1.0, f) for n, f in factors.items()}
    return _law(seconds, better), _best(seconds, factors)


def the_law_alone(seconds, factors):
    return _law(seconds, factors)


def saved_of_faster_only(seconds, factors):
    better = {n: f for n, f in factors.items() if f != 1.0}
    return _law(seconds, factors), _best(seconds, better)


# ---------------------------------------------------------------- 17.4
def _timed(calls, repeats, clock, wait, *, warm=True, before=True, after=True, middle=None):
    found = {name: [] for name in calls}
    if warm:
        for call in calls.values():
            call()
    for _ in range(repeats):
        for name, call in calls.items():
            if before:
                wait()
            start = clock()
            call()
            if after:
                wait()
            found[name].append(clock() - start)
    return {name: (middle or statistics.median)(times) for name, times in found.items()}


def the_broken_one(calls, repeats, clock, wait):
    found = {}
    for name, call in calls.items():
        start = clock()
        for _ in range(repeats):
            call()
        found[name] = (clock() - start) / repeats
    return found


def not_warmed_up(calls, repeats, clock, wait):
    return _timed(calls, repeats, clock, wait, warm=False)


def not_waited(calls, repeats, clock, wait):
    return _timed(calls, repeats, clock, wait, before=False, after=False)


def waited_after_only(calls, repeats, clock, wait):
    return _timed(calls, repeats, clock, wait, before=False)


def waited_before_only(calls, repeats, clock, wait):
    return _timed(calls, repeats, clock, wait, after=False)


def mean(calls, repeats, clock, wait):
    return _timed(calls, repeats, clock, wait, middle=statistics.mean)


def fastest(calls, repeats, clock, wait):
    return _timed(calls, repeats, clock, wait, middle=min)


def one_after_the_other(calls, repeats, clock, wait):
    found = {}
    for name, call in calls.items():
        found |= _timed({name: call}, repeats, clock, wait)
    return found


def once(calls, repeats, clock, wait):
    return _timed(calls, 1, clock, wait)


def upper_median(calls, repeats, clock, wait):
    return _timed(calls, repeats, clock, wait, middle=lambda v: sorted(v)[len(v) // 2])


def sums(calls, repeats, clock, wait):
    return _timed(calls, repeats, clock, wait, middle=sum)


def times_not_medians(calls, repeats, clock, wait):
    return list(_timed(calls, repeats, clock, wait).values())


# ---------------------------------------------------------------- 17.5
def _subset(f, k):
    return Detections(f.boxes[k], f.labels[k], f.scores[k])


def _filled(found, kept, done, value=0.0):
    out = []
    for f, k, d in zip(found, kept, done, strict=True):
        masks = torch.full((len(f.boxes), *d.masks.shape[1:]), value)
        masks[k] = d.masks
        out.append(dataclasses.replace(f, masks=masks))
    return out


def afterwards(model, record, found, least):
    done = model.complete(record, found)
    return [
        dataclasses.replace(d, masks=d.masks * (d.scores >= least)[:, None, None]) for d in done
    ]


def sure_only(model, record, found, least):
    return model.complete(record, [_subset(f, f.scores >= least) for f in found])


def above_only(model, record, found, least):
    kept = [f.scores > least for f in found]
    done = model.complete(record, [_subset(f, k) for f, k in zip(found, kept, strict=True)])
    return _filled(found, kept, done)


def half_is_empty(model, record, found, least):
    kept = [f.scores >= least for f in found]
    done = model.complete(record, [_subset(f, k) for f, k in zip(found, kept, strict=True)])
    return _filled(found, kept, done, 0.5)


def the_first_ones(model, record, found, least):
    kept = [torch.arange(len(f.scores)) < (f.scores >= least).sum() for f in found]
    done = model.complete(record, [_subset(f, k) for f, k in zip(found, kept, strict=True)])
    return _filled(found, kept, done)


def as_a_tuple(model, record, found, least):
    kept = [f.scores >= least for f in found]
    done = model.complete(record, [_subset(f, k) for f, k in zip(found, kept, strict=True)])
    return tuple(_filled(found, kept, done))


def first_image_only(model, record, found, least):
    return as_a_tuple(model, record, found, least)[:1] and list(
        as_a_tuple(model, record, found, least)[:1]
    )


def no_masks_where_none_is_sure(model, record, found, least):
    out = []
    for f, d in zip(found, as_a_tuple(model, record, found, least), strict=True):
        out.append(d if bool((f.scores >= least).any()) else f)
    return out


def labels_lost(model, record, found, least):
    kept = [f.scores >= least for f in found]
    few = [_subset(f, k) for f, k in zip(found, kept, strict=True)]
    few = [dataclasses.replace(f, labels=torch.ones_like(f.labels)) for f in few]
    return _filled(found, kept, model.complete(record, few))


def ones(model, record, found, least):
    kept = [f.scores >= least for f in found]
    done = model.complete(record, [_subset(f, k) for f, k in zip(found, kept, strict=True)])
    return _filled(found, kept, done, 1.0)


WRONG = {
    "check_roofline": {
        "FLOPs": (flops, "one pair is 1"),
        "one channel": (one_channel, "*and* the channels"),
        "the weights": (weights_only, "Those are the weights"),
        "no padding": (unpadded, "The padding is missing"),
        "numbers": (numbers_not_bytes, "a float32 has 4 bytes"),
        "weight not read": (weight_not_read, "The weight must be read"),
        "output not written": (output_not_written, "The output must be written"),
        "input not read": (input_not_read, "The input must be read"),
        "sum": (added_up, "That is the sum"),
        "the shorter": (the_shorter, "That is the shorter time"),
        "memory always": (always_memory, "Now the multiply-adds take longer"),
        "no plus one": (no_plus_one, "5 outputs, not 4"),
        "rounded up": (rounded_up, "The output is 5 × 6"),
        "stride": (stride_forgotten, "The stride is missing"),
        "all channels": (all_channels, "a filter sees 2 channels, not 8"),
        "one image": (one_image, "Three images cost"),
        "weight per image": (weight_per_image, "not once per image"),
        "square kernels": (square_kernels, "multiply-adds of x"),
    },
    "check_self_seconds": {
        "total": (total_seconds, "given to model as well"),
        "leaves only": (leaves_only, "model has time of its own"),
        "last call": (last_call_only, "conv ran twice"),
        "touching": (touching_is_inside, "it is beside conv, not within"),
        "descendants": (all_descendants, "taken off model twice"),
        "leaves": (leaves_of_root, "block's own 3 seconds stayed"),
        "recursion": (recursion_twice, "The inner f was counted twice"),
        "pairs": (list_of_pairs, "Return a dictionary"),
        "nothing for zero": (only_parents_named, "expected ['a', 'b', 'c']"),
    },
    "check_speedup": {
        "mean of factors": (averaged, "do not average factors"),
        "product": (product_of_factors, "Only the masks are faster"),
        "inverse": (share_that_is_left, "the speed-up is its inverse"),
        "seconds": (seconds_left, "the seconds that are left"),
        "largest factor": (largest_factor, "NMS ×50 saves less"),
        "longest stage": (longest_stage, "masks ×3 12; you chose 'backbone'"),
        "division by zero": (divides_by_nothing, "stopped with an error"),
        "never slower": (never_slower, "4 seconds become 8"),
        "one value": (the_law_alone, "returned a float"),
        "no gain, no offer": (saved_of_faster_only, "a would be slower"),
    },
    "check_benchmark": {
        "unchanged": (the_broken_one, "The first call compiles"),
        "waits after": (waited_after_only, "the call before was still at work"),
        "waits never": (not_waited, "how long it takes to *ask*"),
        "mean": (mean, "pull a mean up"),
        "minimum": (fastest, "luck"),
        "blocks": (one_after_the_other, "take turns"),
        "once": (once, "`repeats` = 4 times"),
        "upper median": (upper_median, "The median of two is their mean"),
        "sum": (sums, "Seconds per call"),
        "list": (times_not_medians, "Return a dictionary"),
    },
    "check_complete": {
        "afterwards": (afterwards, "leaving masks out later saves nothing"),
        "boxes lost": (sure_only, "only masks are saved, not boxes"),
        "above": (above_only, "from `least` on has the model's own mask"),
        "half": (half_is_empty, "0.5 is no empty mask"),
        "tuple": (as_a_tuple, "Return a list of Detections"),
        "one image": (first_image_only, "2 images, 1 results"),
        "none": (no_masks_where_none_is_sure, "An image came back without masks"),
        "full of ones": (ones, "has a mask of zeros"),
    },
}

OTHER = {
    "check_benchmark": [not_warmed_up, waited_before_only],
    "check_complete": [the_first_ones, labels_lost],
}

EQUIVALENT = {
    "check_roofline": {"strict=False": "both have two numbers"},
    "check_complete": {"strict=False": "there are as many of one as of the other"},
}
