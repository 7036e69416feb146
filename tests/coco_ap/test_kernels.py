"""The kernels against their definitions in plain NumPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as rle_ops

from mrcnn_edu.coco_ap import COCO_SIGMAS, match_kernels, overlap_kernels, reference
from mrcnn_edu.coco_ap.groups import group, overlaps
from mrcnn_edu.coco_ap.load import Instances, Runs

several = settings(max_examples=60, deadline=None)
few = st.integers(0, 6)
seeds = st.integers(0, 2**32 - 1)


def instances(n: int, crowd=None, **geometry) -> Instances:
    nothing = np.zeros(n, np.bool_)
    given = {"boxes": np.zeros((n, 4)), "area": np.ones(n), **geometry}
    crowd = nothing if crowd is None else crowd
    zeros = np.zeros(n, np.int64)
    return Instances(image=zeros, label=zeros, score=np.arange(n)[::-1] / (n + 1), crowd=crowd,
                     ignore=crowd, **given)  # fmt: skip


def one_group(found: Instances, truth: Instances, lowest: float = 0.0) -> np.ndarray:
    groups = group(found.label, found.score, truth.label, 100)
    flat = overlaps(found, truth, groups, COCO_SIGMAS, lowest)
    return flat.reshape(len(found), len(truth))


def runs_of(bitmaps: np.ndarray) -> Runs:
    """Bitmaps [n, H, W] as pycocotools encodes them."""
    codes = [rle_ops.encode(np.asfortranarray(b))["counts"] for b in bitmaps]
    chars = np.frombuffer(b"".join(codes), np.uint8)
    ends = np.cumsum([len(c) for c in codes], dtype=np.int64)
    count, area, total = overlap_kernels.measure_runs(chars, ends)
    np.testing.assert_array_equal(total, np.full(len(bitmaps), bitmaps[0].size if codes else 0))
    np.testing.assert_array_equal(area, bitmaps.sum(axis=(1, 2)))
    return Runs(chars, ends, np.tile(bitmaps.shape[1:], (len(bitmaps), 1)), count, area)


@several
@given(seeds, few, few)
def test_boxes(seed, d, g):
    rng = np.random.default_rng(seed)
    boxes = rng.integers(0, 6, (d, 4)).astype(float), rng.random((g, 4)) * 6
    crowd = rng.random(g) < 0.3
    ours = one_group(instances(d, boxes=boxes[0]), instances(g, crowd, boxes=boxes[1]))
    expected = reference.box_overlaps(*boxes, crowd)
    np.testing.assert_allclose(ours, expected, rtol=1e-15)


@several
@given(seeds, few, few, st.sampled_from([(1, 1), (1, 9), (9, 1), (7, 8), (40, 33)]))
def test_masks(seed, d, g, size):
    rng = np.random.default_rng(seed)
    density = rng.choice([0, 0.02, 0.5, 1])
    bitmaps = (rng.random((d + g, *size)) < density).astype(np.uint8)
    found, truth = bitmaps[:d], bitmaps[d:]
    crowd = rng.random(g) < 0.3
    pair = (
        instances(d, runs=runs_of(found)),
        instances(g, crowd, runs=runs_of(truth)),
    )
    expected = reference.mask_overlaps(found, truth, crowd)
    np.testing.assert_allclose(one_group(*pair), expected, rtol=1e-15)
    some = one_group(*pair, lowest=0.5)  # those below may be 0, those above must be there
    np.testing.assert_array_equal(some[expected >= 0.5], one_group(*pair)[expected >= 0.5])
    assert (some <= expected + 1e-12).all()


def test_masks_of_long_runs_and_of_single_pixels():
    """Runs that span columns: their box has every row."""
    whole = np.ones((50, 60), np.uint8)
    dots = np.zeros_like(whole)
    dots[::7, ::11] = 1
    snake = np.zeros(3000, np.uint8)
    snake[495:1510] = 1
    masks = np.stack([whole, dots, snake.reshape(60, 50).T])
    everything = instances(3, runs=runs_of(masks))
    ours = one_group(everything, everything)
    expected = reference.mask_overlaps(masks, masks, np.zeros(3, np.bool_))
    np.testing.assert_allclose(ours, expected, rtol=1e-15)
    assert ours[0, 2] == 1015 / 3000


@pytest.mark.parametrize("lie", [b"", b"0", b"Z", b"0`", b"x" * 30])
def test_damaged_runs_never_add_up(lie):
    chars = np.frombuffer(lie, np.uint8)
    *_, total = overlap_kernels.measure_runs(chars, np.array([len(lie)]))
    assert total[0] != 12


@several
@given(seeds, few, few)
def test_keypoints(seed, d, g):
    rng = np.random.default_rng(seed)
    found, truth = (rng.normal(0, 3, (n, 17, 3)) for n in (d, g))
    truth[..., 2] = rng.integers(0, 3, (g, 17)) * (rng.random((g, 1)) < 0.7)
    boxes, area = rng.random((g, 4)) * 2, rng.random(g) * 100
    pair = instances(d, keypoints=found), instances(g, keypoints=truth, boxes=boxes, area=area)
    expected = reference.keypoint_overlaps(found, truth, boxes, area, COCO_SIGMAS)
    np.testing.assert_allclose(one_group(*pair), expected, rtol=1e-12)


@several
@given(seeds, few, few)
def test_matching(seed, d, g):
    rng = np.random.default_rng(seed)
    values = rng.choice([0, 0.3, 0.5, 0.5, 0.75, 1.0], (d, g))
    crowd = rng.random(g) < 0.2
    outside = np.stack([crowd, crowd | (rng.random(g) < 0.4)])  # [A, G]
    elsewhere = rng.random((2, d)) < 0.3
    thresholds = np.array([0.5, 0.6, 1.0])
    matches, ignored = np.empty((2, 3, d), np.int32), np.empty((2, 3, d), np.bool_)
    match_kernels.match(
        values.ravel(), np.zeros(1, np.int64), np.array([0, d]), np.array([0, g]),
        crowd, outside, elsewhere, thresholds, matches, ignored, 0, 1,
    )  # fmt: skip
    for a in range(2):
        for t, threshold in enumerate(thresholds):
            expected, ignore = reference.match(values, crowd, outside[a], threshold)
            np.testing.assert_array_equal(matches[a, t], expected)
            np.testing.assert_array_equal(ignored[a, t], ignore | ((expected < 0) & elsewhere[a]))


@several
@given(seeds, st.integers(0, 30), st.integers(1, 20))
def test_curves(seed, d, objects):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 6, d) / 5
    right, ignored = rng.random(d) < 0.5, rng.random(d) < 0.2
    matches = np.where(right, 0, -1).astype(np.int32)[None, None]
    points = np.linspace(0, 1, 101)
    precision, found_scores = np.full((2, 1, 101, 1, 1, 1), -1.0)
    recall = np.full((1, 1, 1, 1), -1.0)
    order = np.argsort(-scores, kind="stable")
    match_kernels.accumulate(
        matches, ignored[None, None], scores, np.zeros(d, np.int64), order, np.array([0, d]),
        np.array([[objects]]), np.array([100]), points, precision, recall, found_scores, 0, 1,
    )  # fmt: skip
    p, r, order = reference.precision_recall(scores, right, ~ignored, objects)
    np.testing.assert_array_equal(precision.ravel(), reference.at_recalls(p, r, points))
    np.testing.assert_array_equal(
        found_scores.ravel(), reference.at_recalls(scores[order], r, points)
    )
    assert recall.ravel()[0] == (r[-1] if d else 0)


def test_groups_keep_the_best_and_the_files_order():
    groups = group(
        np.array([4, 1, 4, 4, 1]), np.array([0.2, 0.9, 0.7, 0.2, 0.9]), np.array([4, 2, 4]), 2
    )
    assert groups.key.tolist() == [1, 2, 4]
    assert groups.found.tolist() == [1, 4, 2, 0]  # of the equal 0.2 the earlier one stays
    assert groups.rank.tolist() == [0, 1, 0, 1]
    assert groups.truth.tolist() == [1, 0, 2]
    assert (groups.found_start.tolist(), groups.truth_start.tolist()) == (
        [0, 2, 2, 4],
        [0, 0, 1, 3],
    )
    assert groups.pairs == 4
    assert groups.block.tolist() == [0, 0, 0]
