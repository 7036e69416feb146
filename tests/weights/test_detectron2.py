"""detectron2's model zoo, written by a list of its tensors and read by us.

There is no detectron2 here to compare with. So every tensor of the list holds numbers of its own,
and what arrives in our model is compared, tensor by tensor, with what detectron2's documentation
and code say the number means.
"""

import dataclasses
import pickle
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mrcnn_edu.anchors import cell_anchors
from mrcnn_edu.errors import UserError
from mrcnn_edu.presets import preset
from mrcnn_edu.weights import begin_from, load_detector
from mrcnn_edu.weights.files import WeightsFile
from mrcnn_edu.weights.fit import matching_preset, problems, settings
from tests.weights.detectron2_tensors import (
    ZOO,
    Architecture,
    Shapes,
    caffe2_name,
    detectron2_tensors,
    imagenet_tensors,
)

PRESETS = {
    "mask_rcnn_R_50_C4_3x": "r50_c4",
    "mask_rcnn_R_101_C4_3x": "r101_c4",
    "mask_rcnn_R_50_FPN_3x": "r50_fpn",
    "mask_rcnn_R_101_FPN_3x": "r101_fpn",
    "mask_rcnn_X_101_32x8d_FPN_3x": "x101_fpn",
    "faster_rcnn_R_50_FPN_3x": "faster_r50_fpn",
    "keypoint_rcnn_R_50_FPN_3x": "keypoint_r50_fpn",
}


def meta(shapes: Shapes) -> dict[str, Tensor]:
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def numbers(shapes: Shapes) -> dict[str, np.ndarray]:
    """Arrays whose every number is different from all others of its array and of the file."""
    rng = np.random.default_rng(0)
    return {name: rng.random(shape, np.float32) + 0.5 for name, shape in shapes.items()}


def write(path: Path, arrays: dict[str, np.ndarray], **more: object) -> Path:
    content = {"model": arrays, "__author__": "Detectron2 Model Zoo", **more}
    path.write_bytes(pickle.dumps(content, protocol=4))
    return path


@pytest.mark.parametrize("published", ZOO)
def test_every_tensor_of_every_published_model_has_its_place(published):
    """Names and shapes: nothing missing, nothing left over, and one preset that fits."""
    architecture = ZOO[published]
    file = WeightsFile(Path(published), "detectron2", meta(detectron2_tensors(architecture)))
    name = PRESETS[published]
    config = preset(name, "detectron2")
    assert config.num_classes == architecture.num_classes
    assert problems(file, config) == []
    assert matching_preset(file) == name
    own = settings(file, config)
    assert own["pixel_mean"] == pytest.approx((0.485, 0.456, 0.406))
    if "X_101" in published:
        assert own["pixel_std"] == pytest.approx((58.395 / 255, 57.120 / 255, 57.375 / 255))
        assert own["stride_in"] == "3x3"
    else:
        assert own["pixel_std"] == pytest.approx((1 / 255,) * 3)
        assert own["stride_in"] == "1x1"


@pytest.fixture(scope="module")
def fpn():
    """A file like R50-FPN's, what is in it, and our model of it."""
    arrays = numbers(detectron2_tensors(Architecture(num_classes=6)))
    anchors = {
        f"proposal_generator.anchor_generator.cell_anchors.{i}": np.ones((3, 4), np.float32)
        for i in range(5)
    }
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "model_final.pkl", arrays | anchors)
        yield arrays, load_detector(str(path)).model


def test_fpn_tensor_by_tensor(fpn):
    arrays, model = fpn
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    zoo, pairs = "backbone.bottom_up.", {}
    pairs["backbone.stages.0.0.conv2.weight"] = f"{zoo}res2.0.conv2.weight"
    pairs["backbone.stages.3.2.conv3.weight"] = f"{zoo}res5.2.conv3.weight"
    pairs["backbone.stages.1.0.downsample.0.weight"] = f"{zoo}res3.0.shortcut.weight"
    pairs["backbone.stages.1.0.downsample.1.running_var"] = f"{zoo}res3.0.shortcut.norm.running_var"
    pairs["backbone.stages.2.5.bn3.bias"] = f"{zoo}res4.5.conv3.norm.bias"
    pairs["backbone.stem.1.running_mean"] = f"{zoo}stem.conv1.norm.running_mean"
    pairs["neck.fpn.lateral.0.0.weight"] = "backbone.fpn_lateral2.weight"
    pairs["neck.fpn.output.3.0.bias"] = "backbone.fpn_output5.bias"
    pairs["rpn.convs.0.weight"] = "proposal_generator.rpn_head.conv.weight"
    pairs["rpn.objectness.weight"] = "proposal_generator.rpn_head.objectness_logits.weight"
    pairs["rpn.deltas.bias"] = "proposal_generator.rpn_head.anchor_deltas.bias"
    pairs["box_head.fcs.1.weight"] = "roi_heads.box_head.fc2.weight"
    pairs["box_head.deltas.weight"] = "roi_heads.box_predictor.bbox_pred.weight"
    pairs["mask_head.convs.3.0.weight"] = "roi_heads.mask_head.mask_fcn4.weight"
    pairs["mask_head.deconv.weight"] = "roi_heads.mask_head.deconv.weight"
    pairs["mask_head.masks.bias"] = "roi_heads.mask_head.predictor.bias"
    for ours, theirs in pairs.items():
        assert np.array_equal(state[ours], arrays[theirs]), ours
    classes = arrays["roi_heads.box_predictor.cls_score.weight"]
    assert np.array_equal(state["box_head.classes.weight"][0], classes[6])  # background last
    assert np.array_equal(state["box_head.classes.weight"][1:], classes[:6])
    # All the rest is a matter of names, and every number of the file is somewhere.
    moved = sum(float(v.astype(np.float64).sum()) for v in state.values())
    assert moved == pytest.approx(sum(float(v.astype(np.float64).sum()) for v in arrays.values()))


def test_bgr_in_0_to_255_becomes_rgb_in_0_to_1(fpn):
    """The stem's output on an image, computed as detectron2 does, from its own tensors."""
    arrays, model = fpn
    image = torch.rand(3, 64, 96, generator=torch.Generator().manual_seed(1))
    bgr = image.flip(0) * 255  # as cv2 reads it
    mean = torch.tensor([103.530, 116.280, 123.675])[:, None, None]
    weight = torch.from_numpy(arrays["backbone.bottom_up.stem.conv1.weight"])
    expected = torch.nn.functional.conv2d((bgr - mean)[None], weight, stride=2, padding=3)
    with torch.no_grad():
        batch, _ = model.batch([image])
        found = model.backbone.stem[0](batch)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-2)
    assert model.config.stride_in == "1x1"
    assert model.backbone.stages[1][0].conv1.stride == (2, 2)
    assert model.config.roi_aligned


def test_pixel_statistics_in_the_file_count(scratch):
    statistics = {"pixel_mean": torch.tensor([1.0, 2, 3])[:, None, None],
                  "pixel_std": torch.tensor([4.0, 5, 6])[:, None, None]}  # fmt: skip
    tensors = meta(detectron2_tensors(Architecture())) | statistics
    file = WeightsFile(scratch, "detectron2", tensors)
    config = preset("r50_fpn", "detectron2")
    assert problems(file, config) == []
    own = settings(file, config)
    assert own["pixel_mean"] == pytest.approx((3 / 255, 2 / 255, 1 / 255))
    assert own["pixel_std"] == pytest.approx((6 / 255, 5 / 255, 4 / 255))


def test_c4_has_res5_in_the_head_and_anchors_by_ratio(scratch):
    """detectron2 goes through 15 anchors size by size; each output must stay with its anchor."""
    arrays = numbers(detectron2_tensors(Architecture(neck="c4", num_classes=3)))
    their_anchors = []  # as DefaultAnchorGenerator.generate_cell_anchors enumerates them
    for size in (32, 64, 128, 256, 512):
        for ratio in (0.5, 1.0, 2.0):
            width = (size**2 / ratio) ** 0.5
            height = ratio * width
            their_anchors.append([-width / 2, -height / 2, width / 2, height / 2])
    head = "proposal_generator.rpn_head."
    arrays[f"{head}objectness_logits.bias"] = np.arange(15, dtype=np.float32)
    arrays[f"{head}anchor_deltas.bias"] = np.arange(60, dtype=np.float32)
    path = write(scratch / "c4.pkl", arrays)
    model = load_detector(str(path)).model
    ours = cell_anchors(model.config.anchor_sizes, model.config.anchor_ratios, "none")
    which = model.rpn.objectness.bias.long()
    torch.testing.assert_close(torch.tensor(their_anchors)[which], ours)
    deltas = model.rpn.deltas.bias.detach().reshape(15, 4)
    assert torch.equal(deltas, torch.arange(60.0).reshape(15, 4)[which])
    weight = torch.from_numpy(arrays[f"{head}objectness_logits.weight"])
    assert torch.equal(model.rpn.objectness.weight.detach(), weight[which])
    res5 = torch.from_numpy(arrays["roi_heads.res5.1.conv2.weight"])
    assert torch.equal(model.res5[1].conv2.weight.detach(), res5)
    assert model.res5[0].conv1.stride == (2, 2)


def test_keypoints_are_a_person_detectors(scratch):
    architecture = dataclasses.replace(ZOO["keypoint_rcnn_R_50_FPN_3x"])
    arrays = numbers(detectron2_tensors(architecture))
    path = write(scratch / "keypoint.pkl", arrays)
    loaded = load_detector(str(path))
    assert loaded.categories.names == ("person",)
    lowres = arrays["roi_heads.keypoint_head.score_lowres.weight"]
    assert np.array_equal(loaded.model.keypoint_head.deconv.weight.detach().numpy(), lowres)
    first = arrays["roi_heads.keypoint_head.conv_fcn1.weight"]
    assert np.array_equal(loaded.model.keypoint_head.convs[0][0].weight.detach().numpy(), first)


@pytest.mark.parametrize("caffe2", [False, True])
def test_training_begins_from_msra(scratch, caffe2):
    """R-50.pkl: its backbone, its BGR, its stride; its classifier is left."""
    arrays = numbers(imagenet_tensors(Architecture()))
    named = {caffe2_name(n): v for n, v in arrays.items()} if caffe2 else arrays
    if caffe2:
        content = named | {"fc1000_w": np.ones((1000, 2048), np.float32),
                           "conv1_w_momentum": np.ones(3, np.float32)}  # fmt: skip
        (scratch / "R-50.pkl").write_bytes(pickle.dumps(content, protocol=2))
    else:
        write(scratch / "R-50.pkl", named | {"stem.fc.weight": np.ones((1000, 2048), np.float32)})
    names = [f"c{i}" for i in range(4)]
    for name in ("r50_fpn", "r50_c4"):
        config = dataclasses.replace(preset(name), num_classes=4)
        begun = begin_from(str(scratch / "R-50.pkl"), name, config, names, seed=0)
        assert begun.config.stride_in == "1x1"
        assert begun.config.pixel_std == pytest.approx((1 / 255,) * 3)
        got = begun.weights
        stem = arrays["stem.conv1.weight"]
        assert np.array_equal(got["backbone.stem.0.weight"].numpy(), stem[:, ::-1])
        var = arrays["res4.5.conv1.norm.running_var"]
        assert np.array_equal(got["backbone.stages.2.5.bn1.running_var"].numpy(), var)
        res5 = "res5." if name == "r50_c4" else "backbone.stages.3."
        shortcut = arrays["res5.0.shortcut.weight"]
        assert np.array_equal(got[f"{res5}0.downsample.0.weight"].numpy(), shortcut)
        assert any("stride_in is '1x1' instead of '3x3'" in note for note in begun.notes)
        assert any("begin at random" in note and "rpn" in note for note in begun.notes)


def test_folded_norms_get_statistics_that_change_nothing(scratch):
    """X-101-32x8d.pkl holds a factor and a shift for each norm and no statistics."""
    architecture = Architecture(depth=101, groups=32, width_per_group=8)
    arrays = numbers(imagenet_tensors(architecture))
    named = {}
    for name, value in arrays.items():
        if "running" not in name:
            name = caffe2_name(name).replace("bn_gamma", "bn_s").replace("bn_beta", "bn_b")
            named[name] = value
    (scratch / "X-101.pkl").write_bytes(pickle.dumps(named, protocol=2))
    config = preset("x101_fpn")
    begun = begin_from(str(scratch / "X-101.pkl"), "x101_fpn", config, ["c"] * 80, seed=0)
    assert begun.config.stride_in == "3x3"
    assert begun.config.pixel_std == pytest.approx((58.395 / 255, 57.120 / 255, 57.375 / 255))
    assert (begun.weights["backbone.stages.3.2.bn3.running_var"] == 1).all()
    assert not begun.weights["backbone.stages.3.2.bn3.running_mean"].any()
    shift = arrays["res5.2.conv3.norm.bias"]
    assert np.array_equal(begun.weights["backbone.stages.3.2.bn3.bias"].numpy(), shift)


def test_what_detectron2_made_of_torchvisions_file_is_rgb(scratch):
    arrays = numbers(imagenet_tensors(Architecture()))
    content = {"model": arrays, "__author__": "torchvision", "matching_heuristics": True}
    (scratch / "r50.pkl").write_bytes(pickle.dumps(content))
    config = preset("r50_fpn")
    begun = begin_from(str(scratch / "r50.pkl"), "r50_fpn", config, ["c"] * 80, seed=0)
    assert begun.config == config
    stem = arrays["stem.conv1.weight"]
    assert np.array_equal(begun.weights["backbone.stem.0.weight"].numpy(), stem)


def test_a_backbone_is_not_a_detector_and_must_be_the_right_one(scratch):
    arrays = numbers(imagenet_tensors(Architecture()))
    path = write(scratch / "R-50.pkl", arrays)
    with pytest.raises(UserError, match="holds a classifier's backbone without a detector"):
        load_detector(str(path))
    with pytest.raises(UserError, match=r"res4\.6\.conv1\.weight is missing .* and \d+ more"):
        begin_from(str(path), "r101_fpn", preset("r101_fpn"), ["c"] * 80, seed=0)
