"""The paper's variants and other code's habits, each against a definition we did not write."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from torchvision.models import resnet as their_resnet
from torchvision.ops import FrozenBatchNorm2d

from mrcnn_edu.anchors import cell_anchors, pyramid_anchors
from mrcnn_edu.masks import crop_to_boxes
from mrcnn_edu.model import MaskRCNN, positive_rows
from mrcnn_edu.nn.box_head import box_losses, of_class
from mrcnn_edu.nn.layers import FrozenBatchNorm, conv3x3, group_norm, norm_layer
from mrcnn_edu.nn.losses import divide
from mrcnn_edu.nn.mask_head import MLPMaskHead, mask_loss, predicted_class_masks
from mrcnn_edu.nn.proposals import propose
from mrcnn_edu.nn.resnet import PLANS, Bottleneck, ResNet
from mrcnn_edu.nn.rpn import RPNHead, inside, rpn_losses, sample_anchors
from mrcnn_edu.presets import TINY_C4, TINY_C5, TINY_FPN
from mrcnn_edu.record import RoISample
from mrcnn_edu.roi import assign_levels
from tests.scenes import generators, random_scene

BN = torch.nn.BatchNorm2d


# Backbones.


@pytest.mark.parametrize(
    ("name", "build"),
    [
        ("resnet50", their_resnet.resnet50),
        ("resnet101", their_resnet.resnet101),
        ("resnext101_32x8d", their_resnet.resnext101_32x8d),
        ("resnext101_64x4d", their_resnet.resnext101_64x4d),
    ],
)
def test_backbones_have_torchvisions_tensors(name, build):
    with torch.device("meta"):
        ours, theirs = ResNet(PLANS[name], BN), build(weights=None)
    expected = {k: v.shape for k, v in theirs.state_dict().items() if not k.startswith("fc.")}
    renamed = {}
    for key, value in ours.state_dict().items():
        key = key.replace("stem.0.", "conv1.").replace("stem.1.", "bn1.")
        for stage in range(4):
            key = key.replace(f"stages.{stage}.", f"layer{stage + 1}.")
        renamed[key] = value.shape
    assert renamed == expected


@pytest.mark.parametrize("stride_in_1x1", [False, True])
@pytest.mark.parametrize(("groups", "base_width"), [(1, 64), (32, 8), (64, 4)])
@torch.no_grad()
def test_bottlenecks_are_torchvisions(groups, base_width, stride_in_1x1):
    width = 64 * base_width // 64 * groups
    ours = Bottleneck(128, width, 256, 2, BN, groups, stride_in_1x1).eval()
    shortcut = torch.nn.Sequential(torch.nn.Conv2d(128, 256, 1, 2, bias=False), BN(256))
    theirs = their_resnet.Bottleneck(128, 64, 2, shortcut, groups, base_width).eval()
    if stride_in_1x1:  # as the ResNet of 2015 has it
        theirs.conv1.stride, theirs.conv2.stride = (2, 2), (1, 1)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 128, 14, 18)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("eps", [0.0, 1e-5])
def test_folded_batch_norm_is_torchvisions_with_its_gradients(eps):
    torch.manual_seed(0)
    layer = conv3x3(6, 8, lambda channels: FrozenBatchNorm(channels, eps)).double()
    reference = FrozenBatchNorm2d(8, eps=eps).double()
    for name, buffer in layer[1].named_buffers():
        buffer.copy_(torch.rand_like(buffer) + 0.5)
        getattr(reference, name).copy_(buffer)
    results = []
    for forward in (layer, lambda x: reference(layer[0](x))):
        x = torch.linspace(-1, 1, 2 * 6 * 5 * 7, dtype=torch.float64).reshape(2, 6, 5, 7)
        x.requires_grad_()
        y = forward(x)
        layer.zero_grad()
        (y**3).sum().backward()
        results.append((y.detach(), x.grad, layer[0].weight.grad.clone()))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_unknown_norms_are_refused():
    assert norm_layer("none") is None
    with pytest.raises(ValueError, match="no norm 'layer_norm'"):
        norm_layer("layer_norm")


# Anchors.


def test_legacy_anchors_are_those_printed_in_py_faster_rcnn():
    """generate_anchors.py prints them with inclusive ends: x2 and y2 are one more here."""
    printed = [
        [-84, -40, 99, 55], [-176, -88, 191, 103], [-360, -184, 375, 199],
        [-56, -56, 71, 71], [-120, -120, 135, 135], [-248, -248, 263, 263],
        [-36, -80, 51, 95], [-80, -168, 95, 183], [-168, -344, 183, 359],
    ]  # fmt: skip
    ours = cell_anchors((128, 256, 512), (0.5, 1.0, 2.0), "legacy", stride=16)
    assert torch.equal(ours, torch.tensor(printed).float() + torch.tensor([0, 0, 1, 1]))
    with pytest.raises(ValueError, match="rounding"):
        cell_anchors((32,), (1.0,), "floor")  # type: ignore[arg-type]


def test_strides_are_the_maps_or_the_levels():
    """800 pixels make 13 cells of P6: 61 pixels each in torchvision, 64 in detectron2."""
    arguments = ([(512,)], (1.0,), [(13, 13)], (800, 800), "none")
    (of_map,) = pyramid_anchors(*arguments)
    (of_level,) = pyramid_anchors(*arguments, strides=[64])
    assert float(of_map[1, 0] - of_map[0, 0]) == 61
    assert float(of_level[1, 0] - of_level[0, 0]) == 64


def test_anchors_that_leave_the_image_are_dropped_before_matching():
    anchors = torch.tensor([[-1.0, 0, 9, 10], [0, 0, 10, 10], [30, 30, 40, 40], [30, 30, 41, 40]])
    assert inside(anchors, (40, 40)).tolist() == [False, True, True, False]
    config = dataclasses.replace(TINY_FPN, border_anchors="drop")
    gt = torch.tensor([[0.0, 0, 9, 9], [31, 31, 41, 40]])  # the second fits anchor 3 best
    drop = sample_anchors(anchors, gt, config, torch.Generator(), (40, 40))
    assert drop.positive.tolist() == [1, 2]  # … but anchor 2 is the best of those inside
    assert drop.matched.tolist() == [0, 1]
    assert drop.negative.tolist() == []
    keep = sample_anchors(anchors, gt, TINY_FPN, torch.Generator())
    assert 3 in keep.positive.tolist()
    with pytest.raises(ValueError, match="size of the image"):
        sample_anchors(anchors, gt, config, torch.Generator())


# Levels.


def test_level_rules_differ_within_rounding_of_a_boundary():
    side = 112 * (1 - 5e-7)
    box = torch.tensor([[0.0, 0.0, side, side]])
    levels = {
        rule: int(assign_levels(box, rule=rule))
        for rule in ("torchvision", "detectron2", "detectron")
    }
    assert levels == {"torchvision": 3, "detectron2": 2, "detectron": 3}
    exact = torch.tensor([[0.0, 0, 112, 112], [0, 0, 224, 224], [0, 0, 448, 448], [5, 5, 5, 9]])
    for rule in levels:
        assert assign_levels(exact, rule=rule).tolist() == [3, 4, 5, 2]
    with pytest.raises(ValueError, match="rule is one of"):
        assign_levels(box, rule="mmdetection")  # type: ignore[arg-type]


# Region proposals.


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 1000))
def test_two_class_softmax_is_the_sigmoid_of_the_difference(seed):
    torch.manual_seed(seed)
    head = RPNHead(8, 3, softmax=True)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter)
    level = torch.randn(2, 8, 4, 5)
    logits, _ = head([level])
    x = F.relu(head.convs[0](level))
    pairs = head.objectness(x).permute(0, 2, 3, 1).reshape(2, -1, 2)  # background, object
    torch.testing.assert_close(logits.sigmoid(), pairs.softmax(dim=2)[..., 1])
    truth = torch.randint(0, 2, logits.shape)
    ours = F.binary_cross_entropy_with_logits(logits, truth.float())
    torch.testing.assert_close(ours, F.cross_entropy(pairs.flatten(0, 1), truth.flatten()))


def test_two_convolutions_in_the_rpn():
    head = RPNHead(8, 3, convs=2)
    logits, deltas = head([torch.randn(1, 8, 4, 5), torch.randn(1, 8, 2, 3)])
    assert logits.shape == (1, 78)
    assert deltas.shape == (1, 78, 4)


@pytest.mark.parametrize("beta", [0.0, 1 / 9, 1.0])
def test_beta_of_the_box_losses(beta):
    """By hand: |e| − β/2 above β, e² / 2β below; β = 0 is |e|."""
    config = dataclasses.replace(TINY_FPN, box_smooth_l1_beta=beta, box_weights=(1, 1, 1, 1))
    box = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
    sample = RoISample(box, torch.tensor([1]), torch.tensor([0]), 1)
    deltas = torch.tensor([[[0.05, 0.5, -2.0, 0.0]]])
    logits = torch.zeros(1, 2)
    _, loss, count = box_losses(logits, deltas, [sample], [box], config)
    assert count == 1
    expected = sum(
        e if beta == 0 else (e * e / (2 * beta) if e < beta else e - beta / 2)
        for e in (0.05, 0.5, 2.0, 0.0)
    )
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_top_proposals_of_the_batch_or_of_each_image():
    """Detectron's training shares the number: an image with surer boxes takes from the other."""
    side = torch.arange(8.0)
    anchors = torch.stack([20 * side, 0 * side, 20 * side + 10, 0 * side + 10], dim=1)  # apart
    objectness = torch.stack([side, side - 5])  # image 0 is surer
    config = dataclasses.replace(TINY_FPN, rpn_top_after_nms=(6, 6))
    arguments = (objectness, torch.zeros(2, 8, 4), anchors, [8], [(10, 200)] * 2)
    per_image = propose(*arguments, config, True)
    assert [len(p.boxes) for p in per_image] == [6, 6]
    shared = dataclasses.replace(config, rpn_top_scope="batch")
    per_batch = propose(*arguments, shared, True)
    assert [len(p.boxes) for p in per_batch] == [5, 1]  # logits 7, 6, 5, 4, 3 and 2
    assert torch.equal(per_batch[0].boxes, per_image[0].boxes[:5])
    assert [len(p.boxes) for p in propose(*arguments, shared, False)] == [6, 6]  # test: per image


@pytest.mark.parametrize("min_size", [0.0, 1e-3])
def test_a_box_without_area_is_never_a_proposal(min_size):
    config = dataclasses.replace(TINY_FPN, rpn_min_size=min_size)
    anchors = torch.tensor([[0.0, 0, 10, 10], [-20, 0, -10, 10]])  # clipped: a line
    found = propose(
        torch.zeros(1, 2), torch.zeros(1, 2, 4), anchors, [2], [(50, 50)], config, False
    )
    assert found[0].boxes.tolist() == [[0, 0, 10, 10]]


# Losses over several processes.


def test_losses_are_divided_by_the_average_count():
    six = torch.tensor(6.0, requires_grad=True)
    sums = {"a": (six, 2), "b": (torch.tensor(3.0), torch.tensor(1.0))}
    assert {k: v.item() for k, v in divide(sums).items()} == {"a": 3, "b": 3}
    assert {k: v.item() for k, v in divide(sums, lambda n: n + 1).items()} == {"a": 2, "b": 1.5}
    for agree in (None, lambda n: n):
        for zero in (0, torch.tensor(0.0)):
            nothing = divide({"a": (six * 0, zero)}, agree)["a"]
            assert float(nothing) == 0
            nothing.backward()
    half = divide({"a": (six, 1)}, lambda n: n * 0.5)["a"]  # one of two processes has none
    assert float(half) == 12


def test_all_losses_agree_on_their_counts_at_once():
    """What a process divides by is what all agree on: twice the count halves every loss."""
    torch.manual_seed(0)
    model = MaskRCNN(dataclasses.replace(TINY_FPN, keypoints=17, keypoint_convs=1)).eval()
    image, target = random_scene((96, 96), 3, torch.Generator().manual_seed(2), 10)
    target["keypoints"][..., 2] = 2
    asked = []

    def twice(counts):
        asked.append(counts)
        return 2 * counts

    with torch.no_grad():
        record = model([image])
        alone = model.losses(record, [target], generators(1))
        shared = divide(model.loss_sums(record, [target], generators(1)), twice)
    assert len(alone) == 6
    assert [len(counts) for counts in asked] == [6]
    for name, value in alone.items():
        assert value > 0
        torch.testing.assert_close(shared[name], value / 2)


# Heads.


def test_class_agnostic_predictions_serve_every_class():
    predicted = torch.arange(6.0).reshape(3, 2)
    labels = torch.tensor([2, 1, 2])
    assert of_class(predicted, labels).tolist() == [1.0, 2.0, 5.0]
    assert of_class(predicted[:, :1], labels).tolist() == [0.0, 2.0, 4.0]


def test_mlp_mask_head_is_the_papers():
    """Table 2e: 1024 → 1024 → 80 · 28² behind pooled features of 14 × 14."""
    with torch.device("meta"):
        head = MLPMaskHead(256, 14, 1024, 2, 80)
    widths = [(layer.in_features, layer.out_features) for layer in [*head.fcs, head.masks]]
    assert widths == [(256 * 14 * 14, 1024), (1024, 1024), (1024, 80 * 28 * 28)]
    small = MLPMaskHead(4, 7, 16, 3, 5)
    assert small(torch.randn(2, 4, 7, 7)).shape == (2, 5, 14, 14)
    assert small(torch.randn(0, 4, 7, 7)).shape == (0, 5, 14, 14)


def masks_case() -> tuple[RoISample, torch.Tensor]:
    masks = torch.zeros(2, 64, 64, dtype=torch.uint8)
    masks[0, 10:40, 5:33] = 1
    masks[1, 20:60, 30:64] = 1
    boxes = torch.tensor([[0.0, 0, 40, 48], [16, 16, 64, 64], [3, 7, 20, 50]])
    return RoISample(boxes, torch.tensor([3, 5, 3]), torch.tensor([0, 1, 0]), 3), masks


def test_softmax_masks_are_a_cross_entropy_over_classes():
    torch.manual_seed(1)
    config = dataclasses.replace(TINY_FPN, mask_prediction="softmax")
    sample, masks = masks_case()
    logits = torch.randn(3, 11, 14, 14, requires_grad=True)
    total, count = mask_loss(logits, [sample], [masks], config)
    loss = total / count
    inside_object = crop_to_boxes(masks, sample.boxes, sample.matched, 14, aligned=True) >= 0.5
    classes = inside_object * sample.labels[:, None, None]
    torch.testing.assert_close(loss, F.cross_entropy(logits, classes))
    loss.backward()
    assert (logits.grad != 0).all()  # every class competes for every pixel
    chosen = predicted_class_masks(logits, sample.labels, softmax=True)
    torch.testing.assert_close(chosen[1], logits.softmax(dim=1)[1, 5])


def test_agnostic_masks_and_binary_targets():
    torch.manual_seed(1)
    config = dataclasses.replace(
        TINY_FPN, mask_prediction="agnostic", mask_targets_aligned=False, mask_targets_binary=True
    )
    sample, masks = masks_case()
    logits = torch.randn(3, 1, 14, 14)
    soft = crop_to_boxes(masks, sample.boxes, sample.matched, 14, aligned=False)
    assert ((soft > 0) & (soft < 1)).any()  # else both kinds of targets are the same
    total, count = mask_loss(logits, [sample], [masks], config)
    loss = total / count
    expected = F.binary_cross_entropy_with_logits(logits[:, 0], (soft >= 0.5).float())
    torch.testing.assert_close(loss, expected)
    chosen = predicted_class_masks(logits, sample.labels)
    torch.testing.assert_close(chosen, logits[:, 0].sigmoid())


# Whole models.

ARMS = {
    "c4": TINY_C4,
    "c5": TINY_C5,
    "deep": dataclasses.replace(TINY_FPN, backbone="tiny_deep"),
    "grouped": dataclasses.replace(TINY_FPN, backbone="tiny_grouped"),
    "pool": dataclasses.replace(TINY_C4, roi_op="pool"),
    "warp max": dataclasses.replace(TINY_C4, roi_op="warp", roi_reduce="max"),
    "softmax masks": dataclasses.replace(TINY_C4, mask_prediction="softmax"),
    "mlp": dataclasses.replace(TINY_FPN, mask_head="mlp", mask_hidden=64, mask_fcs=3),
    "no masks": dataclasses.replace(TINY_FPN, mask_head="none"),
    "agnostic": dataclasses.replace(TINY_FPN, box_class_agnostic=True, mask_prediction="agnostic"),
    "rpn softmax": dataclasses.replace(TINY_FPN, rpn_classifier="softmax", rpn_convs=2),
    "keypoints": dataclasses.replace(TINY_FPN, keypoints=17, keypoint_convs=2),
    "batch norm": dataclasses.replace(
        TINY_FPN, backbone_norm="batch_norm", head_norm="sync_bn", lateral_norm=True
    ),
    "detectron": dataclasses.replace(
        TINY_C5,
        anchor_rounding="legacy",
        anchor_stride="level",
        border_anchors="drop",
        rpn_top_scope="batch",
        size_multiple=1,
        roi_level_rule="detectron",
    ),
}


@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_trains_every_parameter_and_detects(arm):
    config = dataclasses.replace(ARMS[arm], detections_per_image=20, score_threshold=0.0)
    torch.manual_seed(0)
    model = MaskRCNN(config).train()
    g = torch.Generator().manual_seed(3)
    pairs = [random_scene((120, 104), n, g, 10) for n in (4, 0)]
    losses = model.losses(model([p[0] for p in pairs]), [p[1] for p in pairs], generators(2))
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
    assert all(torch.isfinite(value) for value in losses.values())
    assert ("mask" in losses) == (config.mask_head != "none")
    found = model.eval().detect(model([pairs[0][0]])).detections[0]
    assert len(found.boxes) == 20
    side = {"c4": 14, "pool": 14, "warp max": 14, "softmax masks": 14}.get(arm, 28)
    if config.mask_head == "none":
        assert found.masks is None
    else:
        assert found.masks.shape == (20, side, side)
        assert ((found.masks >= 0) & (found.masks <= 1)).all()
    assert (found.keypoints is not None) == (config.keypoints > 0)


def test_heads_of_a_c4_model_share_res5():
    """Training runs res5 once: the mask head gets the positives' rows of the same features."""
    torch.manual_seed(0)
    model = MaskRCNN(TINY_C4).eval()
    g = torch.Generator().manual_seed(3)
    pairs = [random_scene((128, 128), n, g, 10) for n in (3, 2)]
    record = model([p[0] for p in pairs])
    calls = []
    model.res5.register_forward_hook(lambda m, x, y: calls.append(y))
    model.losses(record, [p[1] for p in pairs], generators(2))
    assert len(calls) == 1
    boxes = [torch.tensor([[0.0, 0, 50, 60], [9, 9, 30, 30]]), torch.tensor([[5.0, 5, 90, 90]])]
    samples = [
        RoISample(b, torch.tensor([1] + [0] * (len(b) - 1)), torch.tensor([0]), 1) for b in boxes
    ]
    assert positive_rows(samples).tolist() == [0, 2]
    together = model.roi_features(record, boxes, 14)[positive_rows(samples)]
    alone = model.roi_features(record, [b[:1] for b in boxes], 14)
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_group_norm_has_groups_of_eight():
    assert [group_norm(c).num_groups for c in (4, 8, 48, 256)] == [1, 1, 6, 32]


def test_rpn_losses_need_image_sizes_to_drop_border_anchors():
    config = dataclasses.replace(TINY_FPN, border_anchors="drop")
    with pytest.raises(ValueError, match="size of the image"):
        rpn_losses(
            torch.zeros(1, 1),
            torch.zeros(1, 1, 4),
            torch.zeros(1, 4),
            [torch.zeros(0, 4)],
            config,
            generators(1),
        )
