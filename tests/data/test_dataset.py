"""The base class: a set that says four things has all the rest."""

import pytest
import torch

from mrcnn_edu.data.dataset import Categories, Dataset, InMemory
from mrcnn_edu.training.config import TrainConfig
from mrcnn_edu.training.train import train
from tests.fake_data import Wrapped, small_config, small_shapes


def test_defaults_are_what_a_set_that_knows_better_says():
    shapes = small_shapes(4)
    bare = Wrapped(shapes, lambda index, *sample: sample)
    kept = InMemory(shapes)
    for same in (bare, kept):
        assert len(same) == len(shapes) == 4
        assert same.num_classes == shapes.num_classes == 10
        assert same.class_names == shapes.class_names
        for label in (1, 10):
            assert same.to_category_id(label) == shapes.to_category_id(label)
        for index in range(4):
            assert same.image_size(index) == shapes.image_size(index)
            assert same.has_objects(index) == shapes.has_objects(index)
            assert torch.equal(same.target(index)["masks"], shapes.target(index)["masks"])
            assert same.encoded(index) is None
    assert bare.keypoint_labels is None
    assert kept.keypoint_labels == shapes.keypoint_labels == {10}


@pytest.mark.parametrize("label", [0, 11])
def test_a_label_that_is_no_class_is_refused(label):
    with pytest.raises(ValueError, match=rf"label {label} is not in 1\.\.10"):
        small_shapes(1).to_category_id(label)


def test_options_that_ask_for_sizes_and_objects_work_with_any_set(tmp_path):
    bare = Wrapped(small_shapes(4), lambda index, *sample: sample)
    config = TrainConfig(
        steps=1, batch_size=2, warmup_steps=0, skip_empty=True, aspect_group=2, decode_on_gpu=True
    )
    model = train(small_config(), config, bare, tmp_path, progress=False)
    assert all(torch.isfinite(p).all() for p in model.parameters())


def test_what_is_not_said_is_missed_at_once():
    class Half(Dataset):
        categories, image_ids = Categories((1,), ("dot",)), (1,)

        def __getitem__(self, index):
            return torch.zeros(3, 8, 8, dtype=torch.uint8), {}

    with pytest.raises(TypeError, match="ground_truth"):
        Half()
