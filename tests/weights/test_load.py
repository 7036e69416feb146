"""The word torchvision end to end, backbones from ImageNet, and files that are something else."""

import dataclasses
import hashlib
import pickle
from argparse import Namespace

import pytest
import safetensors.torch
import torch
from torchvision.models import resnet50

from mrcnn_edu.data.dataset import Categories
from mrcnn_edu.errors import UserError
from mrcnn_edu.model import MaskRCNN
from mrcnn_edu.presets import preset
from mrcnn_edu.weights import begin_from, load_detector, published
from mrcnn_edu.weights.checkpoint import save_model
from mrcnn_edu.weights.files import read_weights
from mrcnn_edu.weights.published import Published
from tests.weights.test_published import Entry
from tests.weights.test_torchvision import theirs

TINY = preset("tiny_fpn")


def test_the_word_torchvision_takes_the_cached_file_with_its_epsilon(scratch, monkeypatch):
    """A published file of the first kind: ε of 0, which the same file by its path has too."""
    (scratch / "checkpoints").mkdir()
    state = theirs("faster_r50_fpn", 5).state_dict()
    first = scratch / "file.pth"
    torch.save(state, first)
    digits = hashlib.sha256(first.read_bytes()).hexdigest()[:8]
    cached = first.rename(scratch / "checkpoints" / f"x-{digits}.pth")
    entry = Published("faster_r50_fpn", Entry(f"http://127.0.0.1:9/x-{digits}.pth"), 0.0)
    monkeypatch.setattr(published, "DETECTORS", (entry,))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(scratch))
    by_word = load_detector("torchvision", "faster_r50_fpn").model
    assert by_word.config.frozen_bn_eps == 0.0
    assert by_word.backbone.stem[1].eps == 0.0
    by_path = load_detector(str(cached)).model
    assert by_path.config == by_word.config
    config = dataclasses.replace(preset("faster_r50_fpn"), num_classes=2)
    begun = begin_from("torchvision", "faster_r50_fpn", config, ["a", "b"], seed=0)
    assert begun.config.frozen_bn_eps == 0.0
    assert torch.equal(begun.weights["rpn.deltas.weight"], state["rpn.head.bbox_pred.weight"])


@pytest.mark.parametrize("name", ["r50_fpn", "r50_c4", "r50_c5", "r50_fpn_v2"])
def test_a_backbone_from_imagenet_gives_the_same_maps(name, scratch):
    """torchvision's classifier and our backbone on one image; also res5 of C4."""
    torch.manual_seed(0)
    classifier = resnet50().eval()
    torch.save(classifier.state_dict(), scratch / "resnet50.pth")
    config = dataclasses.replace(preset(name), num_classes=3)
    begun = begin_from(str(scratch / "resnet50.pth"), name, config, ["a", "b", "c"], seed=0)
    assert begun.config == config
    model = MaskRCNN(config).eval()
    model.load_state_dict(begun.weights)
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        maps = model.backbone(x)
        if name == "r50_c4":
            maps.append(model.res5(maps[-1]))
        y = classifier.maxpool(classifier.relu(classifier.bn1(classifier.conv1(x))))
        for found, layer in zip(maps, ("layer1", "layer2", "layer3", "layer4"), strict=True):
            y = getattr(classifier, layer)(y)
            torch.testing.assert_close(found, y, rtol=1e-3, atol=1e-3)


@pytest.fixture
def tiny(scratch):
    torch.manual_seed(0)
    model = MaskRCNN(TINY)
    categories = Categories(tuple(range(1, 11)), tuple("abcdefghij"))
    path = scratch / "model.safetensors"
    save_model(path, model.state_dict(), TINY, categories, 7)
    return model, path


def test_our_own_checkpoints_are_read(tiny):
    model, path = tiny
    for weights in (str(path), str(path.parent)):
        loaded = load_detector(weights)
        assert loaded.categories.names == tuple("abcdefghij")
        for key, value in model.state_dict().items():
            assert torch.equal(loaded.model.state_dict()[key], value)


def test_training_begins_from_our_own_checkpoint(tiny):
    """The same classes: all of it. Others, even as many of them: new class layers, and said."""
    model, path = tiny
    same = begin_from(str(path), "tiny_fpn", TINY, list("abcdefghij"), seed=3)
    other = begin_from(str(path), "tiny_fpn", TINY, list("abcdefghik"), seed=3)
    for key, value in model.state_dict().items():
        assert torch.equal(same.weights[key], value)
        depends = key.startswith(("box_head.classes.", "box_head.deltas.", "mask_head.masks."))
        if not depends:
            assert torch.equal(other.weights[key], value), key
        elif key.endswith("weight"):  # biases begin at zero in any model
            assert not torch.equal(other.weights[key], value), key
    assert len(same.notes) == 1
    assert "(a, b, c …)" in other.notes[-1]
    with pytest.raises(
        UserError, match=r"does not fit this model: res5\.0\.conv1\.weight is missing"
    ):
        begin_from(str(path), "tiny_c4", preset("tiny_c4"), list("abcdefghij"), seed=3)


def refuse(scratch, content: bytes, message: str) -> None:
    path = scratch / "weights.any"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_weights(path)


def test_files_that_are_something_else(scratch, tmp_path):
    refuse(scratch, b"", "neither a safetensors file")
    refuse(scratch, b"<!DOCTYPE html><html>", "It is a web page")
    refuse(scratch, b"\x93NUMPY" + b"\0" * 40, "neither a safetensors file")
    refuse(scratch, (400).to_bytes(8, "little") + b"{" * 30, "cannot be read as safetensors")
    refuse(scratch, pickle.dumps([1, 2]), "holds a list, not a dictionary")
    refuse(scratch, pickle.dumps({"model": {}}), r"unknown model \(no tensors at all")
    refuse(scratch, pickle.dumps({"model": Namespace(a=1)}), "asks for the Python object argparse")
    torch.save({"backbone.x": torch.ones(2)}, scratch / "x.pth")
    refuse(scratch, (scratch / "x.pth").read_bytes(), r"unknown model \(backbone\.x")
    refuse(scratch, (scratch / "x.pth").read_bytes()[:300], "damaged or was cut short")
    torch.save({"model": {}, "args": Namespace(a=1)}, scratch / "x.pth")
    more = r"holds more than tensors, argparse\.Namespace\. Save"
    refuse(scratch, (scratch / "x.pth").read_bytes(), more)
    torch.save({"model": {}, "f": print}, scratch / "x.pth", _use_new_zipfile_serialization=False)
    refuse(scratch, (scratch / "x.pth").read_bytes(), "holds more than tensors")
    with pytest.raises(UserError, match="There is no file"):
        read_weights(tmp_path / "absent.pth")
    with pytest.raises(UserError, match=r"There is no file .*model\.safetensors"):
        read_weights(tmp_path)


def test_containers_do_not_matter(scratch):
    """The same state dict as .pth of either kind and as safetensors."""
    state = {k: v.contiguous() for k, v in resnet50().state_dict().items()}
    torch.save(state, scratch / "zip")
    torch.save(state, scratch / "old", _use_new_zipfile_serialization=False)
    safetensors.torch.save_file(state, scratch / "safe")
    for name in ("zip", "old", "safe"):
        file = read_weights(scratch / name)
        assert file.kind == "torchvision backbone"
        assert set(file.tensors) == set(state)
        assert all(torch.equal(file.tensors[k], state[k]) for k in state)
