"""One image on its way to the network: the same wherever and whenever it is made."""

import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2.functional import resize as resize_by_torchvision

from mrcnn_edu.data.transforms import (
    augment,
    crop_window,
    draw_window,
    resize,
    resize_target,
    to_float,
)
from mrcnn_edu.training.batches import load_sample, make_batch, read_sample
from mrcnn_edu.training.config import TrainConfig
from mrcnn_edu.training.order import image_generator
from tests.fake_data import small_config, small_shapes

PLAIN = TrainConfig(flip_probability=0.0)


def test_targets_follow_the_image_when_it_is_resized():
    for index in range(3):
        small = load_sample(small_shapes(), (0, index), PLAIN, small_config())
        large = load_sample(
            small_shapes(), (0, index), PLAIN, small_config(short_side=96, long_side=96)
        )
        torch.testing.assert_close(small.target["boxes"] * 1.5, large.target["boxes"])
        assert large.target["masks"].shape[1:] == (96, 96)
        assert large.image.shape == (3, 96, 96)


def test_a_sample_depends_on_epoch_and_seed_only():
    config = TrainConfig(short_sides=(48, 64, 80), quarter_turns=True)
    model = small_config(long_side=200)

    def load(epoch, config=config):
        return load_sample(small_shapes(), (epoch, 2), config, model)

    assert torch.equal(load(3).image, load(3).image)
    different = [load(epoch) for epoch in range(8)]
    assert len({tuple(s.image.flatten()[:50].tolist()) for s in different}) > 3
    assert {s.image.shape[1] for s in different} == {48, 64, 80}


@pytest.mark.parametrize("crop", [0, 40, 500])
def test_a_sample_is_what_the_straightforward_way_makes(crop):
    """Draw a size, resize image and whole masks, then crop, flip and turn: the same draws."""
    config = TrainConfig(
        seed=5,
        short_sides=(48, 80, 128),
        crop=crop,
        vertical_flip_probability=0.5,
        quarter_turns=True,
    )
    model, shapes = small_config(long_side=200), small_shapes()
    for place in ((epoch, index) for epoch in range(4) for index in range(6)):
        read = read_sample(shapes, place)
        generator = image_generator(5, place[0], read.image_id)
        side = config.short_sides[int(torch.randint(3, (), generator=generator))]
        image = resize(to_float(read.image), side, 200)
        target = resize_target(read.target, (64, 64), (side, side))
        target["masks"] = resize_by_torchvision(
            read.target["masks"], [side, side], InterpolationMode.NEAREST_EXACT
        )
        if crop:
            window = draw_window((side, side), crop, generator)
            image, target = crop_window(image, target, *window)
        image, target = augment(
            image, target, generator, vertical_flip_probability=0.5, quarter_turns=True
        )
        sample = load_sample(shapes, place, config, model)
        assert torch.equal(sample.image, image)
        assert sample.target.keys() == target.keys()
        assert all(torch.equal(sample.target[key], target[key]) for key in target)


def test_rois_are_drawn_from_generators_that_augmentation_does_not_move():
    samples = [load_sample(small_shapes(), (1, i), PLAIN, small_config()) for i in (0, 1)]
    flipped = [
        load_sample(small_shapes(), (1, i), TrainConfig(flip_probability=1.0), small_config())
        for i in (0, 1)
    ]
    draws = [
        [float(torch.rand((), generator=g)) for g in make_batch(s).generators(0, "cpu")]
        for s in (samples, flipped)
    ]
    assert draws[0] == draws[1]
    assert len(set(draws[0])) == 2


def test_a_batch_moves_whole():
    samples = [load_sample(small_shapes(), (0, i), PLAIN, small_config()) for i in (0, 1)]
    batch = make_batch(samples).to("meta")
    assert batch.image_ids == [s.image_id for s in samples]
    assert all(t.is_meta for t in batch.images)
    assert all(t.is_meta for target in batch.targets for t in target.values())
