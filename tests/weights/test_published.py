"""torchvision's published files: the cache, the hash, what is said where there is no network."""

import hashlib

import pytest
import torch
from torchvision.models import get_model_weights

from mrcnn_edu.errors import UserError
from mrcnn_edu.presets import PRESETS
from mrcnn_edu.weights import begin_from, load_detector, published
from mrcnn_edu.weights.published import DETECTORS, Published


class Entry:
    """Stands in for one of torchvision's entries, at an address of this machine."""

    def __init__(self, url: str) -> None:
        self.url, self.meta = url, {"_file_size": 170.0}


@pytest.fixture(autouse=True)
def hub(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    return tmp_path / "hub" / "checkpoints"


def test_every_published_detector_has_its_preset_and_a_hash_in_its_name():
    assert {p.preset for p in DETECTORS} <= PRESETS.keys()
    for entry in DETECTORS:
        digits = published._digits(entry.weights.url)
        assert len(digits) == 8
        assert int(digits, 16) > 0
    first = {p.preset: p.frozen_bn_eps for p in DETECTORS}
    assert first == {
        "r50_fpn": 0.0,
        "faster_r50_fpn": 0.0,
        "keypoint_r50_fpn": 0.0,
        "r50_fpn_v2": 1e-5,
        "faster_r50_fpn_v2": 1e-5,
    }


def test_a_file_in_the_cache_is_used_and_checked(hub):
    content = b"weights"
    digest = hashlib.sha256(content).hexdigest()
    entry = Entry(f"http://127.0.0.1:9/model-{digest[:8]}.pth")
    hub.mkdir(parents=True)
    path = hub / f"model-{digest[:8]}.pth"
    path.write_bytes(content)
    assert published.fetch(entry) == path
    path.write_bytes(b"weight")  # cut short
    with pytest.raises(UserError, match=f"damaged: its SHA-256 does not begin with {digest[:8]}"):
        published.fetch(entry)


def test_a_file_is_fetched_into_the_cache(hub, tmp_path):
    content = b"weights from far away"
    digits = hashlib.sha256(content).hexdigest()[:8]
    source = tmp_path / f"model-{digits}.pth"
    source.write_bytes(content)
    assert published.fetch(Entry(source.as_uri())).read_bytes() == content
    wrong = tmp_path / "model-00000000.pth"
    wrong.write_bytes(content)
    with pytest.raises(UserError, match="could not be fetched"):
        published.fetch(Entry(wrong.as_uri()))
    assert not (hub / wrong.name).exists()


def test_without_network_the_message_says_what_to_put_where(hub):
    entry = Entry("http://127.0.0.1:9/maskrcnn-bf2d0c1e.pth")  # nobody listens on port 9
    with pytest.raises(UserError) as caught:
        published.fetch(entry)
    message = str(caught.value)
    assert "maskrcnn-bf2d0c1e.pth (170 MB) could not be fetched" in message
    assert str(hub / "maskrcnn-bf2d0c1e.pth") in message
    assert "SHA-256 begins with bf2d0c1e" in message
    assert "--weights PATH" in message


def test_the_word_torchvision_names_the_presets_there_are():
    with pytest.raises(UserError, match=r"no detector for r101_fpn.*r50_fpn, r50_fpn_v2"):
        load_detector("torchvision", "r101_fpn")
    with pytest.raises(UserError, match="imagenet is a backbone without a detector"):
        load_detector("imagenet")
    with pytest.raises(UserError, match="no ImageNet weights for the backbone 'tiny'"):
        begin_from("imagenet", "tiny_fpn", PRESETS["tiny_fpn"], ["c"] * 10, 0)


def test_torchvision_names_a_hash_for_every_backbone():
    for backbone in ("resnet50", "resnet101", "resnext101_32x8d", "resnext101_64x4d"):
        assert published._digits(next(iter(get_model_weights(backbone))).url)


def test_a_published_file_is_known_by_its_content(tmp_path, monkeypatch):
    path = tmp_path / "renamed.bin"
    path.write_bytes(b"some weights")
    assert published.identify(path) is None
    digits = hashlib.sha256(b"some weights").hexdigest()[:8]
    ours = Published("r50_fpn", Entry(f"http://127.0.0.1:9/x-{digits}.pth"), 0.0)
    monkeypatch.setattr(published, "DETECTORS", (ours,))
    assert published.identify(path) is ours
