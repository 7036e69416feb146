"""The row of images: every epoch a permutation, for any batch, any number of processes."""

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mrcnn_edu.errors import UserError
from mrcnn_edu.training.config import TrainConfig
from mrcnn_edu.training.order import SampleOrder, image_generator, make_order
from tests.fake_data import Wrapped, small_shapes


def test_every_epoch_is_a_permutation():
    order = SampleOrder(range(10), seed=1)
    seen = [place for step in range(15) for place in order.step(step, 4)]
    assert Counter(seen) == Counter((epoch, i) for epoch in range(6) for i in range(10))
    assert SampleOrder(range(10), seed=1).step(7, 4) == seen[28:32]
    assert [i for _, i in seen[:10]] != [i for _, i in seen[10:20]]


@given(
    wide=st.lists(st.booleans(), min_size=1, max_size=40),
    group=st.integers(2, 5),
    groups_a_step=st.integers(1, 4),
    seed=st.integers(0, 9),
)
def test_groups_share_an_orientation_and_nobody_is_left_out(wide, group, groups_a_step, seed):
    order = SampleOrder(range(len(wide)), seed, wide, group)
    epochs = 3
    places = order.step(0, epochs * len(wide))
    assert Counter(places) == Counter((e, i) for e in range(epochs) for i in range(len(wide)))
    batch = group * groups_a_step
    again = [p for s in range(len(places) // batch) for p in order.step(s, batch)]
    assert again == places[: len(again)]
    chunks = [places[i : i + group] for i in range(0, len(places) - group + 1, group)]
    mixed = sum(len({wide[i] for _, i in chunk}) > 1 for chunk in chunks)
    # Mixed groups only where an epoch ends: what is left over of the two kinds, and the group
    # that an epoch begins for the one before.
    assert mixed <= 3 * epochs


@pytest.mark.parametrize(("parts", "world"), [(1, 1), (1, 2), (2, 2), (4, 1), (2, 4), (1, 8)])
def test_processes_and_parts_share_a_step(parts, world):
    order = SampleOrder(range(50), seed=3)
    for step in (0, 6, 13):
        shares = [order.share(step, 16, parts, rank, world) for rank in range(world)]
        assert all(len(part) == 16 // (parts * world) for share in shares for part in share)
        together = [place for i in range(parts) for share in shares for place in share[i]]
        assert together == order.step(step, 16)


def test_generators_depend_on_all_numbers_and_the_purpose():
    keys = [(0, 0, 1), (1, 0, 1), (0, 1, 1), (0, 0, 2), (0, 0, 1, "rois")]
    draws = {float(torch.rand((), generator=image_generator(*key))) for key in keys}
    assert len(draws) == 5
    again = image_generator(0, 0, 1), image_generator(0, 0, 1)
    assert torch.equal(*(torch.rand(5, generator=g) for g in again))


def six_images(index, image, target):
    """Two images are without objects, and all but one are tall. What is seen is all there is."""
    if index in (1, 4):
        target = {name: value[:0] if value.dim() else value for name, value in target.items()}
    return image[:, :32] if index == 3 else image[..., :32], target


SET = Wrapped(small_shapes(6), six_images)


def test_images_without_objects_are_left_out_if_asked():
    seen = {i for _, i in make_order(SET, TrainConfig(skip_empty=True)).step(0, 12)}
    assert seen == {0, 2, 3, 5}
    assert {i for _, i in make_order(SET, TrainConfig()).step(0, 12)} == set(range(6))


def test_orientation_comes_from_the_sizes():
    order = make_order(SET, TrainConfig(aspect_group=2))
    assert order.wide is not None
    assert order.wide.tolist() == [False, False, False, True, False, False]
    assert make_order(SET, TrainConfig(aspect_group=1)).wide is None


def test_a_set_without_objects():
    empty = Wrapped(SET, lambda index, *sample: six_images(1, *sample))
    with pytest.raises(UserError, match="No image of the training set has objects"):
        make_order(empty, TrainConfig(skip_empty=True))


def test_shapes_know_sizes_and_objects():
    shapes = small_shapes()
    assert shapes.image_size(0) == (64, 64)
    assert all(shapes.has_objects(i) for i in range(len(shapes)))
