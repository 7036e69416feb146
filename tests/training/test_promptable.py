"""Objects to ask about, training on them, measuring, and the file that keeps the result."""

import dataclasses
from pathlib import Path

import pytest
import safetensors.torch
import torch

from mrcnn_edu.data.prompted import PromptedObjects, look_at
from mrcnn_edu.data.shapes import ShapesDataset, generate
from mrcnn_edu.data.shapes_config import ShapesConfig
from mrcnn_edu.errors import UserError
from mrcnn_edu.evaluation.promptable import measure_detector, measure_prompts
from mrcnn_edu.model import MaskRCNN
from mrcnn_edu.presets import TINY_FPN
from mrcnn_edu.related.promptable import PromptableConfig, PromptableSegmenter
from mrcnn_edu.training.promptable import (
    PromptTrainConfig,
    draw,
    make_optimizer,
    meant,
    rate_factor,
    train_promptable,
)
from mrcnn_edu.weights.promptable import load_promptable, promptable_on, save_promptable

SMALL = PromptableConfig(channels=16, inner=8, heads=2, hidden=12, mask_channels=(8, 4))


@pytest.fixture(scope="module")
def shapes() -> ShapesDataset:
    return ShapesDataset(generate(ShapesConfig(min_object_size=16), 4, seed=101))


@pytest.fixture(scope="module")
def detector() -> MaskRCNN:
    torch.manual_seed(0)
    return MaskRCNN(TINY_FPN).eval()


@pytest.fixture(scope="module")
def objects(detector, shapes) -> PromptedObjects:
    return look_at(promptable_on(detector, SMALL).image_encoder.eval(), shapes, batch=3)


def test_what_is_kept_is_what_the_encoder_makes(detector, shapes, objects):
    encoder = promptable_on(detector, SMALL).image_encoder.eval()
    with torch.no_grad():
        pyramid = encoder.pyramid([shapes[3][0].float() / 255])
    for kept, level in zip(objects.pyramid, pyramid, strict=True):
        torch.testing.assert_close(kept[3].float(), level[0], atol=2e-3, rtol=2e-3)


def test_every_object_is_there_once_and_in_its_group(shapes, objects):
    counts = [len(shapes[i][1]["masks"]) for i in range(4)]
    assert torch.bincount(objects.image).tolist() == counts
    for mask, group in zip(objects.masks, objects.group, strict=True):
        assert (objects.group_masks[group] | ~mask).all()
    union = torch.stack([m.any(dim=0) for m in objects.masks.split(counts)])
    for i in range(4):
        of_image = objects.group[objects.image == i].unique()
        assert torch.equal(objects.group_masks[of_image].any(dim=0), union[i])
    single = torch.tensor([(objects.group == g).sum() == 1 for g in objects.group])
    assert torch.equal(objects.alone(), single)


def test_object_and_group_are_meant_equally_often(objects):
    which = torch.zeros(400, dtype=torch.long) + int((~objects.alone()).nonzero()[0])
    targets = meant(objects, which, torch.Generator().manual_seed(0))
    as_group = (targets == objects.group_masks[objects.group[which[0]]]).all(dim=(1, 2))
    assert 150 < as_group.sum() < 250
    assert (targets[~as_group] == objects.masks[which[0]]).all()


def test_images_without_objects_are_not_drawn():
    of_image = [torch.tensor([0, 1]), torch.tensor([], dtype=torch.long), torch.tensor([2])]
    config = PromptTrainConfig(images=50, prompts=3)
    images, which = draw(of_image, config, torch.Generator().manual_seed(0))
    assert set(images.tolist()) == {0, 2}
    assert which.shape == (150,)
    assert set(which[:3].tolist()) <= ({2} if images[0] == 2 else {0, 1})


def test_the_rate_warms_up_stays_and_falls():
    rates = [rate_factor(step, 1000) for step in range(1000)]
    assert rates[0] == 1 / 50
    assert rates[300] == 1
    assert rates[999] == pytest.approx(1 / 350)
    assert max(rates) == 1


def test_every_weight_is_in_one_group_and_learned_tokens_are_adams():
    model = PromptableSegmenter(SMALL)
    optimizer = make_optimizer(model, 1e-3)
    grouped = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters())
    vectors = {id(p) for p in optimizer.param_groups[1]["params"]}
    assert id(model.mask_decoder.answers.weight) in vectors
    assert id(model.prompt_encoder.no_mask) in vectors


def test_training_learns_and_leaves_backbone_and_neck_alone(detector, objects):
    model = promptable_on(detector, SMALL)
    before = {k: v.clone() for k, v in model.image_encoder.backbone.state_dict().items()}
    seen: list[float] = []
    config = PromptTrainConfig(steps=24, images=1, prompts=4, rounds=1)
    train_promptable(
        model, objects, config, lambda _, losses: seen.append(losses[0].total().item())
    )
    assert sum(seen[-5:]) < 0.9 * sum(seen[:5])
    after = model.image_encoder.backbone.state_dict()
    assert all(torch.equal(after[k], v) for k, v in before.items())
    assert not model.training


def test_the_same_seed_trains_the_same(detector, objects):
    config = PromptTrainConfig(steps=2, images=1, prompts=2)
    states = []
    for _ in range(2):
        model = promptable_on(detector, SMALL, seed=5)
        train_promptable(model, objects, config)
        states.append(model.state_dict())
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])


def test_a_file_brings_the_segmenter_back(detector, shapes, tmp_path):
    model = promptable_on(detector, SMALL).eval()
    save_promptable(tmp_path / "p.safetensors", model)
    loaded = load_promptable(tmp_path / "p.safetensors")
    assert loaded.config == model.config
    for name, value in loaded.state_dict().items():
        torch.testing.assert_close(value, model.state_dict()[name].half().float())


def test_a_wrong_file_is_told(tmp_path):
    with pytest.raises(UserError, match="There is no file"):
        load_promptable(tmp_path / "none")
    (tmp_path / "cut").write_bytes(b"123")
    with pytest.raises(UserError, match="damaged or was cut"):
        load_promptable(tmp_path / "cut")
    safetensors.torch.save_file({"x": torch.zeros(1)}, tmp_path / "other")
    with pytest.raises(UserError, match="no promptable segmenter"):
        load_promptable(tmp_path / "other")


def test_weights_that_do_not_fit_are_named(tmp_path):
    model = PromptableSegmenter(SMALL)
    del model.mask_decoder.score
    save_promptable(tmp_path / "p", model)
    with pytest.raises(UserError, match=r"do not fit.*mask_decoder\.score"):
        load_promptable(tmp_path / "p")


class Knowing(PromptableSegmenter):
    """Answers with what it is told is true: its measure must be perfect."""

    truth: list[torch.Tensor]

    def embed(self, images):
        """Remember which image it is."""
        self.masks = self.truth.pop(0)
        return super().embed(images)

    def answer(self, embedding, prompts):
        """The object for mask 0 and 1, nothing for the others."""
        answers = super().answer(embedding, prompts)
        logits = torch.full((len(self.masks), 4, 128, 128), -5.0)
        logits[:, :2] = (self.masks * 10.0 - 5)[:, None]
        scores = torch.tensor([0.9, 0.9, 0.1, 0.1]).expand(len(self.masks), 4)
        return dataclasses.replace(answers, logits=logits, scores=scores)


def test_one_who_knows_is_measured_as_perfect(shapes):
    model = Knowing(SMALL).eval()
    model.truth = [shapes[i][1]["masks"].float() for i in range(4)]
    found = measure_prompts(model, shapes, clicks=2)
    assert found["clicks"].shape[1] == 2
    for name in ("clicks", "box", "best_of_all"):
        assert (found[name] == 1).all()
    assert (found["group_best_of_all"][found["alone"]] == 1).all()
    assert (found["group_best_of_all"][~found["alone"]] < 1).all()
    assert torch.equal(found["group_best_of_all"], found["group_click"])
    assert found["area"].tolist() == [
        float(m.sum()) for i in range(4) for m in shapes[i][1]["masks"]
    ]


def test_a_detector_is_measured_on_the_same_objects(detector, shapes):
    found = measure_detector(detector, shapes)
    assert len(found["box"]) == sum(len(shapes[i][1]["masks"]) for i in range(4))
    assert (found["found"] == 0).all()  # untrained: nothing scores a half
    assert ((found["box"] >= 0) & (found["box"] <= 1)).all()


def test_the_course_weights_do_what_they_are_shipped_for():
    path = Path(__file__).parents[2] / "data" / "promptable_shapes.safetensors"
    assert path.stat().st_size < 4_000_000
    few = ShapesDataset(generate(ShapesConfig(), 12, seed=101))
    found = measure_prompts(load_promptable(path), few, clicks=3)
    assert found["clicks"][found["alone"], 0].mean() > 0.6
    assert found["box"].mean() > 0.5
    assert found["clicks"][:, 2].mean() > found["clicks"][:, 0].mean()
