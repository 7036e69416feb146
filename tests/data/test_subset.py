"""A part of a set is what the whole has at these places, and nothing else."""

import pytest
import torch

from mrcnn_edu.data.subset import Subset
from tests.fake_data import small_shapes


@pytest.mark.parametrize("indices", [[2, 0, 5], [3], []])
def test_a_subset_has_the_samples_of_the_whole(indices):
    whole = small_shapes(6)
    part = Subset(whole, indices)
    assert part.image_ids == sorted(whole.image_ids[i] for i in indices)
    assert part.class_names == whole.class_names
    assert part.to_category_id(3) == whole.to_category_id(3)
    for place, index in enumerate(sorted(indices)):
        (image, target), (expected, truth) = part[place], whole[index]
        assert torch.equal(image, expected)
        assert all(torch.equal(target[name], truth[name]) for name in truth)
    ids = {a["image_id"] for a in part.ground_truth()["annotations"]}
    assert ids <= set(part.image_ids)
    assert sum(len(part[i][1]["boxes"]) for i in range(len(part))) == len(
        part.ground_truth()["annotations"]
    )


def test_an_index_that_is_not_there_is_refused():
    with pytest.raises(IndexError):
        Subset(small_shapes(2), [2])
