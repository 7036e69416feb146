"""Matching against torchvision's Matcher on box_iou, sampling against its sampler: exactly.

Boxes of the property tests lie on quarter pixels, so that equal IoUs are common.
"""

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler, Matcher

from mrcnn_edu.anchors import pyramid_anchors
from mrcnn_edu.matching import BELOW, BETWEEN, _match_blocks, match, sample_balanced

several = settings(deadline=None, max_examples=80)  # no deadline: the first call compiles

seeds = st.integers(0, 2**32 - 1)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def grid_boxes(n: int, seed: int, smallest: int) -> Tensor:
    g = generator(seed)
    start = torch.randint(0, 30, (n, 2), generator=g)
    side = torch.randint(smallest, 30, (n, 2), generator=g)
    return torch.cat((start, start + side), dim=1) / 4


def test_match_by_hand() -> None:
    gt = torch.tensor([[0.0, 0.0, 4.0, 4.0], [10.0, 0.0, 14.0, 4.0]])
    boxes = torch.tensor(
        [
            [0.0, 0.0, 4.0, 3.0],  # IoU 0.75 with object 0
            [0.0, 0.0, 4.0, 2.0],  # 0.5: between
            [0.0, 0.0, 4.0, 1.0],  # 0.25: below
            [10.0, 0.0, 11.0, 4.0],  # 0.25 with object 1, and its best
            [30.0, 0.0, 31.0, 4.0],
        ]
    )
    assert match(gt, boxes, 0.7, 0.3, False).tolist() == [0, BETWEEN, BELOW, BELOW, BELOW]
    assert match(gt, boxes, 0.7, 0.3, True).tolist() == [0, BETWEEN, BELOW, 1, BELOW]
    # Thresholds belong to the upper side.
    assert match(gt, boxes, 0.5, 0.25, False).tolist() == [0, 0, BETWEEN, BETWEEN, BELOW]


@several
@given(
    seeds,
    st.integers(1, 12),
    st.integers(1, 80),
    st.sampled_from([(0.7, 0.3), (0.5, 0.5), (0.25, 0.0), (0.6, 0.2)]),
    st.booleans(),
)
def test_match_is_torchvisions(
    seed: int, g: int, a: int, thresholds: tuple[float, float], low_quality: bool
) -> None:
    gt, boxes = grid_boxes(g, seed, 1), grid_boxes(a, seed + 1, 0)
    overlap = torchvision.ops.box_iou(gt, boxes)
    if low_quality:  # the one documented exception, tested below
        gt, overlap = gt[overlap.amax(1) > 0], overlap[overlap.amax(1) > 0]
    if len(gt) == 0:
        return
    expected = Matcher(*thresholds, low_quality)(overlap)
    assert torch.equal(match(gt, boxes, *thresholds, low_quality), expected)
    for chunk in (1, 3 * a, 10**6):  # what runs on a GPU, in blocks of 1, 3 and all objects
        assert torch.equal(_match_blocks(gt, boxes, *thresholds, low_quality, chunk), expected)


def test_match_on_a_real_pyramid() -> None:
    anchors = torch.cat(
        pyramid_anchors(
            [(8,), (16,), (32,), (64,)], (0.5, 1.0, 2.0), [(32, 32), (16, 16), (8, 8), (4, 4)],
            (128, 128),
        )
    )  # fmt: skip
    g = generator(0)
    start = torch.rand(500, 2, generator=g) * 110
    gt = torch.cat((start, start + torch.rand(500, 2, generator=g) * 60 + 2), dim=1)
    expected = Matcher(0.7, 0.3, True)(torchvision.ops.box_iou(gt, anchors))
    assert torch.equal(match(gt, anchors, 0.7, 0.3, True), expected)
    assert len(expected.unique()) > 100  # many objects have anchors: the test is not empty


def test_object_without_overlap_claims_nothing() -> None:
    """torchvision's low-quality rule makes every box of IoU 0 positive; ours does not."""
    gt = torch.tensor([[0.0, 0.0, 4.0, 4.0], [90.0, 90.0, 94.0, 94.0]])
    boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0], [20.0, 20.0, 24.0, 24.0]])
    theirs = Matcher(0.7, 0.3, True)(torchvision.ops.box_iou(gt, boxes))
    assert theirs.tolist() == [0, 0]
    for ours in (match(gt, boxes, 0.7, 0.3, True), _match_blocks(gt, boxes, 0.7, 0.3, True, 9)):
        assert ours.tolist() == [0, BELOW]


def test_nothing_to_match() -> None:
    none, some = torch.zeros(0, 4), torch.tensor([[0.0, 0.0, 4.0, 4.0]])
    for low_quality in (False, True):
        assert match(none, some, 0.7, 0.3, low_quality).tolist() == [BELOW]
        assert match(none, some, 0.0, 0.0, low_quality).tolist() == [BELOW]
        assert _match_blocks(none, some, 0.0, 0.0, low_quality, 9).tolist() == [BELOW]
        assert match(some, none, 0.7, 0.3, low_quality).shape == (0,)
        assert match(none, none, 0.7, 0.3, low_quality).dtype == torch.int64


def test_match_takes_half_precision_and_strides() -> None:
    wide = torch.cat((grid_boxes(60, 0, 1), grid_boxes(60, 1, 1)), dim=1).half()
    gt, boxes = wide[:5, :4], wide[:, 4:]
    expected = Matcher(0.5, 0.3, True)(torchvision.ops.box_iou(gt.float(), boxes.float()))
    assert torch.equal(match(gt, boxes, 0.5, 0.3, True), expected)


def test_match_wants_ordered_thresholds() -> None:
    with pytest.raises(ValueError, match=r"0\.7 and 0\.3"):
        match(torch.zeros(1, 4), torch.zeros(1, 4), 0.3, 0.7, True)


# ---------------------------------------------------------------- sampling


def random_matches(n: int, seed: int) -> Tensor:
    """[n] in −2 .. 3."""
    return torch.randint(-2, 4, (n,), generator=generator(seed))


@several
@given(seeds, st.integers(0, 300), st.integers(0, 128), st.sampled_from([0.0, 0.25, 0.5, 1.0]))
def test_sampling_is_torchvisions(seed: int, n: int, num: int, fraction: float) -> None:
    matches = random_matches(n, seed)
    # Its labels: 1 and more positive, 0 negative, −1 ignored.
    labels = torch.where(matches >= 0, 1, torch.where(matches == BELOW, 0, -1))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        (positive,), (negative,) = BalancedPositiveNegativeSampler(num, fraction)([labels])
    ours = sample_balanced(matches, num, fraction, generator(seed))
    assert torch.equal(ours[0], positive.nonzero()[:, 0])
    assert torch.equal(ours[1], negative.nonzero()[:, 0])


def test_negatives_fill_up_for_missing_positives() -> None:
    matches = torch.tensor([2, BELOW, BETWEEN] + [BELOW] * 20)
    positive, negative = sample_balanced(matches, 16, 0.5, generator(0))
    assert positive.tolist() == [0]
    assert len(negative) == 15
    assert (matches[negative] == BELOW).all()


def test_only_ignored() -> None:
    positive, negative = sample_balanced(torch.full((5,), BETWEEN), 4, 0.5, generator(0))
    assert positive.shape == negative.shape == (0,)
    assert positive.dtype == torch.int64


def test_sampling_is_uniform() -> None:
    """10 of 40 negatives, 2,000 times: each is expected 500 times, standard deviation 19.4."""
    matches, g = torch.full((40,), BELOW), generator(0)
    counts = torch.zeros(40)
    for _ in range(2000):
        counts[sample_balanced(matches, 10, 0.5, g)[1]] += 1
    assert counts.sum() == 20_000
    assert (counts - 500).abs().max() < 5 * 19.4


def test_sampling_uses_only_its_generator() -> None:
    matches = random_matches(200, 0)
    torch.manual_seed(1)
    first = sample_balanced(matches, 32, 0.5, generator(5))
    torch.manual_seed(2)
    again = sample_balanced(matches, 32, 0.5, generator(5))
    other = sample_balanced(matches, 32, 0.5, generator(6))
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[1], other[1])


def test_sampling_wants_sensible_numbers() -> None:
    with pytest.raises(ValueError, match=r"-1 and 0\.5"):
        sample_balanced(random_matches(5, 0), -1, 0.5, generator(0))
    with pytest.raises(ValueError, match="4 and 25"):
        sample_balanced(random_matches(5, 0), 4, 25, generator(0))
