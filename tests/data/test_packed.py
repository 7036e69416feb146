"""The packed list is a list, and workers share its memory."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrcnn_edu.data.packed import PackedList
from tests.fake_data import small_shapes


@given(st.lists(st.lists(st.dictionaries(st.text(max_size=3), st.integers()), max_size=3)))
def test_it_gives_back_what_was_put_in(items):
    packed = PackedList(items)
    assert [packed[i] for i in range(len(packed))] == items
    again = pickle.loads(pickle.dumps(packed))
    assert [again[i] for i in range(len(again))] == items


def test_outside():
    for index in (-1, 2):
        with pytest.raises(IndexError, match="of 2"):
            PackedList([1, 2])[index]


def test_workers_get_a_handle_and_no_copy():
    """What a worker is started with holds the bytes as shared memory."""
    from multiprocessing.reduction import ForkingPickler

    packed = PackedList(["x" * 1_000_000] * 3)
    assert len(bytes(ForkingPickler.dumps(packed))) < 10_000
    assert packed._bytes.is_shared()


def test_data_sets_keep_their_annotations_in_one():
    shapes = small_shapes(2)
    assert shapes.annotations(1)[0]["image_id"] == shapes.image_ids[1]
