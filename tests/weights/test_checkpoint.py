"""model.safetensors: what was saved comes back, and what is broken is refused with a reason."""

import pytest
import safetensors.torch
import torch

from mrcnn_edu.config import to_json
from mrcnn_edu.data.dataset import Categories
from mrcnn_edu.errors import UserError
from mrcnn_edu.model import MaskRCNN
from mrcnn_edu.weights.checkpoint import load_model, misfits_of, save_model
from tests.fake_data import small_config

CATEGORIES = Categories((3, 7), ("cat", "ape"))


@pytest.fixture(scope="module")
def model() -> MaskRCNN:
    torch.manual_seed(0)
    return MaskRCNN(small_config(num_classes=2)).eval()


@pytest.fixture
def path(model, tmp_path):
    path = tmp_path / "model.safetensors"
    save_model(path, model.state_dict(), model.config, CATEGORIES, step=12)
    return path


def test_round_trip(model, path):
    loaded = load_model(path)
    assert loaded.model.config == model.config
    assert loaded.categories == CATEGORIES
    assert loaded.step == 12
    assert not loaded.model.training
    image = torch.rand(3, 64, 64)
    with torch.no_grad():
        assert torch.equal(loaded.model([image]).objectness, model([image]).objectness)


def test_folder_that_holds_one(path):
    assert load_model(path.parent).step == 12


def test_missing(tmp_path):
    with pytest.raises(UserError, match=r"There is no checkpoint .*Train one first"):
        load_model(tmp_path / "nothing.safetensors")


@pytest.mark.parametrize("keep", [0, 7, 2000, -1])
def test_truncated(path, keep):
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match="damaged or was cut short"):
        load_model(path)


def test_someone_elses(path):
    safetensors.torch.save_file({"a": torch.zeros(3)}, path)
    with pytest.raises(UserError, match="not one that mrcnn_edu wrote"):
        load_model(path)


def test_weights_of_another_model(model, path):
    header = {
        "format": "mrcnn_edu 1",
        "model_config": to_json(small_config(num_classes=3)),
        "categories": '{"ids": [1, 2, 3], "names": ["a", "b", "c"]}',
        "step": "1",
    }
    weights = {name: value.contiguous() for name, value in model.state_dict().items()}
    path.write_bytes(safetensors.torch.save(weights, header))
    with pytest.raises(UserError, match=r"box_head.classes.weight is 3×32 instead of 4×32"):
        load_model(path)


def test_unknown_option_in_the_header(model, path):
    text = to_json(model.config).replace("box_samples", "box_sampels")
    header = {"format": "mrcnn_edu 1", "model_config": text, "categories": "{}", "step": "1"}
    weights = {name: value.contiguous() for name, value in model.state_dict().items()}
    path.write_bytes(safetensors.torch.save(weights, header))
    with pytest.raises(UserError, match=r"Unknown option 'box_sampels'.*mean 'box_samples'"):
        load_model(path)


def test_problems_are_listed_by_name():
    a = {"x": torch.zeros(2), "y": torch.zeros(3)}
    b = {"y": torch.zeros(4), "z": torch.zeros(1)}
    assert misfits_of(a, b) == ("x is missing; y is 4 instead of 3; z (1) is not part of the model")
    assert misfits_of(a, a) == ""
    many = {f"t{i}": torch.zeros(1) for i in range(9)}
    assert misfits_of(many, {}).endswith("t4 is missing; and 4 more")


def test_folder_that_cannot_be_written(model, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"Cannot write .*choose a folder"):
        save_model(
            tmp_path / "file" / "model.safetensors", model.state_dict(), model.config, CATEGORIES, 1
        )


def test_a_failed_write_leaves_the_old_file(model, path, monkeypatch):
    import os

    before = path.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="No space left on device"):
        save_model(path, model.state_dict(), model.config, CATEGORIES, step=13)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["model.safetensors"]
