"""torchvision's detectors, saved by torchvision and read by us: equal outputs, and back again."""

import dataclasses
import tempfile
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import detection
from torchvision.ops import FrozenBatchNorm2d

from mrcnn_edu.errors import UserError
from mrcnn_edu.model import MaskRCNN
from mrcnn_edu.presets import preset
from mrcnn_edu.weights import begin_from, load_detector, to_torchvision
from mrcnn_edu.weights.fit import blueprint
from mrcnn_edu.weights.torchvision import NEVER, categories

BUILDERS = {
    "r50_fpn": detection.maskrcnn_resnet50_fpn,
    "r50_fpn_v2": detection.maskrcnn_resnet50_fpn_v2,
    "faster_r50_fpn": detection.fasterrcnn_resnet50_fpn,
    "faster_r50_fpn_v2": detection.fasterrcnn_resnet50_fpn_v2,
    "keypoint_r50_fpn": detection.keypointrcnn_resnet50_fpn,
}


def theirs(name: str, rows: int, seed: int = 0) -> nn.Module:
    """One of torchvision's models, no two of its numbers alike, norms of a trained size."""
    torch.manual_seed(seed)
    model = BUILDERS[name](
        weights=None, weights_backbone=None, num_classes=rows, min_size=96, max_size=200
    )
    if not name.endswith("v2"):  # the published ones have frozen norms, as ours
        for parent in model.modules():
            for key, child in list(parent.named_children()):
                if isinstance(child, nn.BatchNorm2d):
                    setattr(parent, key, FrozenBatchNorm2d(child.num_features))
    with torch.no_grad():
        for key, value in model.state_dict().items():
            if key.endswith("running_var"):
                value.uniform_(0.5, 1.5)
            elif value.dim() == 1:
                value.add_(0.1 * torch.randn(value.shape))
    return model.eval()


def close(ours: Tensor, expected: Tensor) -> None:
    assert expected.std() > 0
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


@torch.no_grad()
def assert_same_outputs(ours: MaskRCNN, other: nn.Module, ids: list[int]) -> None:
    """Every output of every part on one image and three RoIs; ``ids`` are the classes' rows."""
    image = torch.rand(3, 96, 128, generator=torch.Generator().manual_seed(9))
    record = ours([image])
    images, _ = other.transform([image])
    features = other.backbone(images.tensors)
    for level, expected in zip(record.pyramid, features.values(), strict=True):
        close(level, expected)
    logits, deltas = other.rpn.head(list(features.values()))
    close(record.objectness, torch.cat([x.permute(0, 2, 3, 1).flatten(1) for x in logits], dim=1))
    shaped = [d.unflatten(1, (3, 4)).permute(0, 3, 4, 1, 2).flatten(1, 3) for d in deltas]
    close(record.deltas, torch.cat(shaped, dim=1))
    rois = [torch.tensor([[5.0, 8, 60, 90], [0, 0, 128, 96], [30.5, 20.25, 50, 45]])]
    config, heads = ours.config, other.roi_heads
    pooled = heads.box_roi_pool(features, rois, images.image_sizes)
    class_logits, box_deltas = heads.box_predictor(heads.box_head(pooled))
    found_logits, found_deltas = ours.box_head(ours.roi_features(record, rois, config.box_pool))
    close(found_logits, class_logits[:, [0, *ids]])
    close(found_deltas, box_deltas.unflatten(1, (-1, 4))[:, ids])
    if config.mask_head != "none":
        pooled = heads.mask_roi_pool(features, rois, images.image_sizes)
        masks = heads.mask_predictor(heads.mask_head(pooled))
        close(ours.mask_head(ours.roi_features(record, rois, config.mask_pool)), masks[:, ids])
    if config.keypoints:
        pooled = heads.keypoint_roi_pool(features, rois, images.image_sizes)
        maps = heads.keypoint_predictor(heads.keypoint_head(pooled))
        close(ours.keypoint_head(ours.roi_features(record, rois, config.keypoint_pool)), maps)


@pytest.fixture(scope="module", params=BUILDERS)
def case(request):
    """A torchvision model of four classes, its file, and what we made of it."""
    name = request.param
    model = theirs(name, 2 if name.startswith("keypoint") else 5)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "any.name"
        torch.save(model.state_dict(), path)
        yield name, model, path, load_detector(str(path))


def test_a_file_is_recognised_and_gives_the_same_outputs(case):
    name, model, _, loaded = case
    config = loaded.model.config
    expected = dataclasses.replace(preset(name), num_classes=config.num_classes)
    if config.keypoints:  # its joints are pixel indices, see to_coco
        expected = dataclasses.replace(expected, keypoint_shift=0.0)
    assert config == expected
    assert not loaded.model.training
    assert_same_outputs(loaded.model, model, list(range(1, config.num_classes + 1)))


def test_every_tensor_goes_back_the_same(case):
    """Theirs to ours to theirs: bit for bit, but for the rows of the background, which are zero."""
    _, model, _, loaded = case
    written = to_torchvision(loaded.model.state_dict(), loaded.model.config)
    expected = model.state_dict()
    assert set(written) == set(expected)
    for key, value in expected.items():
        module = key.rsplit(".", 1)[0]
        rows = {"box_predictor.bbox_pred": 4, "mask_predictor.mask_fcn_logits": 1}
        if background := rows.get(module.removeprefix("roi_heads."), 0):
            assert not written[key][:background].any(), key
            assert torch.equal(written[key][background:], value[background:]), key
        else:
            assert torch.equal(written[key], value), key


def test_ours_in_torchvisions_hands(case, scratch):
    """Weights that torchvision never had: it computes the same, and the way back is exact."""
    _, model, _, loaded = case
    config = loaded.model.config
    ours = MaskRCNN(config).eval()
    state = {k: v * 1.0625 if v.dim() else v for k, v in loaded.model.state_dict().items()}
    ours.load_state_dict(state)
    written = to_torchvision(state, config)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    try:
        model.load_state_dict(written)
        assert_same_outputs(ours, model, list(range(1, config.num_classes + 1)))
    finally:
        model.load_state_dict(before)
    torch.save(written, scratch / "back.pth")
    back = load_detector(str(scratch / "back.pth")).model.state_dict()
    assert set(back) == set(state)
    for key, value in state.items():
        assert torch.equal(back[key], value), key


@pytest.fixture(scope="module")
def coco() -> nn.Module:
    """torchvision's model with COCO's 91 rows, each bias its own number."""
    model = theirs("r50_fpn", 91)
    state = model.state_dict()
    state["roi_heads.box_predictor.cls_score.bias"].copy_(torch.arange(91) / 100)
    state["roi_heads.box_predictor.bbox_pred.bias"].copy_(torch.arange(364) / 100)
    state["roi_heads.mask_predictor.mask_fcn_logits.bias"].copy_(torch.arange(91) / 100)
    return model


def test_coco_rows_are_read_by_their_ids(coco, scratch):
    """91 rows with holes become 80 classes: label 80 is the toothbrush, id 90."""
    torch.save(coco.state_dict(), scratch / "coco.pth")
    loaded = load_detector(str(scratch / "coco.pth"))
    ids = list(categories())
    assert loaded.model.config.num_classes == 80
    assert loaded.categories.ids == tuple(ids)
    assert (loaded.categories.names[0], loaded.categories.names[79]) == ("person", "toothbrush")
    assert len(set(range(1, 91)) - set(ids)) == 10
    head = loaded.model.box_head
    numbers = (100 * head.classes.bias).round().long().tolist()
    assert numbers == [0, *ids]
    numbers = (100 * head.deltas.bias).round().long().tolist()
    assert numbers == [4 * i + k for i in ids for k in range(4)]
    assert (100 * loaded.model.mask_head.masks.bias).round().long().tolist() == ids
    assert_same_outputs(loaded.model, coco, ids)


@torch.no_grad()
def test_unused_ids_get_no_score(coco):
    """Written to 91 rows, the softmax over all of them is ours over 81."""
    config = preset("r50_fpn")
    torch.manual_seed(1)
    written = to_torchvision(MaskRCNN(config).state_dict(), config, rows=91)
    bias = written["roi_heads.box_predictor.cls_score.bias"]
    holes = sorted(set(range(91)) - {0, *categories()})
    assert [i for i in range(91) if bias[i] == NEVER] == holes
    weight = written["roi_heads.box_predictor.cls_score.weight"]
    scores = (torch.randn(7, 1024) @ weight.T + bias).softmax(dim=1)  # [7, 91]
    assert not scores[:, holes].any()
    assert (scores[:, [0, *categories()]] > 0).all()
    # With 90 classes every id is a label of its own and all rows are ours.
    raw = dataclasses.replace(config, num_classes=90)
    with_all = to_torchvision(MaskRCNN(raw).state_dict(), raw)
    bias = with_all["roi_heads.box_predictor.cls_score.bias"]
    assert len(bias) == 91
    assert NEVER not in bias.tolist()


def test_files_of_older_versions_are_read(case, scratch):
    """The published files of 2019 have names from before FPN and RPN had several layers."""
    name, model, _, loaded = case
    if name.endswith("v2"):
        pytest.skip("v2 is younger than those names")
    state, older = model.state_dict(), {}
    for key, value in state.items():
        key = key.replace("rpn.head.conv.0.0.", "rpn.head.conv.")
        for i in range(4):
            key = key.replace(f"inner_blocks.{i}.0.", f"inner_blocks.{i}.")
            key = key.replace(f"layer_blocks.{i}.0.", f"layer_blocks.{i}.")
            key = key.replace(
                f"roi_heads.mask_head.{i}.0.", f"roi_heads.mask_head.mask_fcn{i + 1}."
            )
        older[key] = value
    assert sum(key not in state for key in older) == (26 if name == "r50_fpn" else 18)
    wrapped = {f"module.{key}": value for key, value in older.items()}
    torch.save({"model": wrapped, "epoch": 25}, scratch / "checkpoint.pth")
    then = load_detector(str(scratch / "checkpoint.pth")).model.state_dict()
    for key, value in loaded.model.state_dict().items():
        assert torch.equal(then[key], value), key


def test_misfits_are_named_in_one_error(scratch):
    state = theirs("r50_fpn", 5).state_dict()
    del state["rpn.head.cls_logits.bias"]
    state["roi_heads.extra.weight"] = torch.ones(2, 3)
    state["backbone.body.conv1.weight"] = torch.ones(64, 4, 7, 7)
    torch.save(state, scratch / "odd.pth")
    with pytest.raises(UserError) as caught:
        load_detector(str(scratch / "odd.pth"))
    message = str(caught.value)
    assert "rpn.head.cls_logits.bias is missing (our rpn.objectness.bias)" in message
    assert "roi_heads.extra.weight (2×3) is not part of the model" in message
    assert "backbone.body.conv1.weight is 64×4×7×7 instead of 64×3×7×7" in message
    assert "fits no other preset" in message


def test_the_wrong_preset_is_told_the_right_one(case):
    name, _, path, _ = case
    wrong = "r50_fpn" if name != "r50_fpn" else "faster_r50_fpn"
    with pytest.raises(UserError, match=f"It fits the preset {name}: choose that"):
        load_detector(str(path), wrong)
    with pytest.raises(UserError, match="torchvision has no model with neck='c4'"):
        load_detector(str(path), "r50_c4")


def test_training_begins_from_a_detector(case):
    """Other classes: all is taken but the layers that depend on them, which are named."""
    name, _, path, loaded = case
    k = loaded.model.config.num_classes
    config = dataclasses.replace(preset(name), num_classes=k + 2)
    begun = begin_from(str(path), name, config, [f"c{i}" for i in range(k + 2)], seed=1)
    expected = {key: value.shape for key, value in blueprint(config).items()}
    assert {key: value.shape for key, value in begun.weights.items()} == expected
    fresh = {"box_head.classes", "box_head.deltas", "mask_head.masks"}
    for key, value in loaded.model.state_dict().items():
        if key.rsplit(".", 1)[0] not in fresh:
            assert torch.equal(begun.weights[key], value), key
    assert "box_head.classes, box_head.deltas" in begun.notes[-1]
    assert "begin at random" in begun.notes[-1]
    torch.manual_seed(1)
    random = MaskRCNN(config).box_head.classes.weight
    assert torch.equal(begun.weights["box_head.classes.weight"], random)
    same = begin_from(
        str(path), name, dataclasses.replace(config, num_classes=k), ["person"] * k, 1
    )
    for key, value in loaded.model.state_dict().items():
        assert torch.equal(same.weights[key], value), key
