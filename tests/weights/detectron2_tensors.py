"""The tensors of detectron2's published models: names and shapes by architecture.

Written from detectron2's modules, not from ours: ``modeling/backbone/resnet.py`` (BasicStem,
BottleneckBlock), ``backbone/fpn.py``, ``proposal_generator/rpn.py`` (StandardRPNHead),
``roi_heads/`` (box_head, fast_rcnn, mask_head, keypoint_head, Res5ROIHeads in roi_heads) and the
``Base-RCNN-*.yaml`` configurations.
"""

from dataclasses import dataclass

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Architecture:
    depth: int = 50
    neck: str = "fpn"  # "fpn" or "c4"
    groups: int = 1
    width_per_group: int = 64
    num_classes: int = 80
    mask: bool = True
    keypoints: int = 0


# The files of the model zoo that this project reads, by what they are called there.
ZOO = {
    "mask_rcnn_R_50_C4_3x": Architecture(neck="c4"),
    "mask_rcnn_R_101_C4_3x": Architecture(depth=101, neck="c4"),
    "mask_rcnn_R_50_FPN_3x": Architecture(),
    "mask_rcnn_R_101_FPN_3x": Architecture(depth=101),
    "mask_rcnn_X_101_32x8d_FPN_3x": Architecture(depth=101, groups=32, width_per_group=8),
    "faster_rcnn_R_50_FPN_3x": Architecture(mask=False),
    "keypoint_rcnn_R_50_FPN_3x": Architecture(num_classes=1, mask=False, keypoints=17),
}

BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


def conv(name: str, out: int, inside: int, kernel: int, bias: bool = True) -> Shapes:
    shapes: Shapes = {f"{name}.weight": (out, inside, kernel, kernel)}
    return shapes | ({f"{name}.bias": (out,)} if bias else {})


def linear(name: str, out: int, inside: int) -> Shapes:
    return {f"{name}.weight": (out, inside), f"{name}.bias": (out,)}


def frozen_bn(name: str, channels: int) -> Shapes:
    return {f"{name}.{n}": (channels,) for n in ("weight", "bias", "running_mean", "running_var")}


def conv_bn(name: str, out: int, inside: int, kernel: int) -> Shapes:
    return conv(name, out, inside, kernel, bias=False) | frozen_bn(f"{name}.norm", out)


def stage(prefix: str, number: int, a: Architecture) -> Shapes:
    """res2 to res5: BottleneckBlocks."""
    bottleneck = a.groups * a.width_per_group * 2 ** (number - 2)
    out = 256 * 2 ** (number - 2)
    inside = 64 if number == 2 else out // 2
    shapes: Shapes = {}
    for block in range(BLOCKS[a.depth][number - 2]):
        name = f"{prefix}res{number}.{block}"
        if inside != out:
            shapes |= conv_bn(f"{name}.shortcut", out, inside, 1)
        shapes |= conv_bn(f"{name}.conv1", bottleneck, inside, 1)
        shapes |= conv_bn(f"{name}.conv2", bottleneck, bottleneck // a.groups, 3)
        shapes |= conv_bn(f"{name}.conv3", out, bottleneck, 1)
        inside = out
    return shapes


def detectron2_tensors(a: Architecture) -> Shapes:
    """Every tensor of a published file."""
    fpn = a.neck == "fpn"
    backbone = "backbone.bottom_up." if fpn else "backbone."
    shapes = conv_bn(f"{backbone}stem.conv1", 64, 3, 7)
    for number in (2, 3, 4, 5) if fpn else (2, 3, 4):
        shapes |= stage(backbone, number, a)
    if fpn:
        for number in (2, 3, 4, 5):
            shapes |= conv(f"backbone.fpn_lateral{number}", 256, 256 * 2 ** (number - 2), 1)
            shapes |= conv(f"backbone.fpn_output{number}", 256, 256, 3)
    channels, anchors = (256, 3) if fpn else (1024, 15)
    head = "proposal_generator.rpn_head."
    shapes |= conv(f"{head}conv", channels, channels, 3)
    shapes |= conv(f"{head}objectness_logits", anchors, channels, 1)
    shapes |= conv(f"{head}anchor_deltas", 4 * anchors, channels, 1)
    if fpn:
        shapes |= linear("roi_heads.box_head.fc1", 1024, 256 * 7 * 7)
        shapes |= linear("roi_heads.box_head.fc2", 1024, 1024)
    else:
        shapes |= stage("roi_heads.", 5, a)
    hidden = 1024 if fpn else 2048
    shapes |= linear("roi_heads.box_predictor.cls_score", a.num_classes + 1, hidden)
    shapes |= linear("roi_heads.box_predictor.bbox_pred", 4 * a.num_classes, hidden)
    if a.mask:
        if fpn:
            for i in range(1, 5):
                shapes |= conv(f"roi_heads.mask_head.mask_fcn{i}", 256, 256, 3)
        deconv = "roi_heads.mask_head.deconv"
        shapes |= {f"{deconv}.weight": (256 if fpn else 2048, 256, 2, 2), f"{deconv}.bias": (256,)}
        shapes |= conv("roi_heads.mask_head.predictor", a.num_classes, 256, 1)
    if a.keypoints:
        for i in range(1, 9):
            shapes |= conv(f"roi_heads.keypoint_head.conv_fcn{i}", 512, 256 if i == 1 else 512, 3)
        low = "roi_heads.keypoint_head.score_lowres"
        shapes |= {f"{low}.weight": (512, a.keypoints, 4, 4), f"{low}.bias": (a.keypoints,)}
    return shapes


def imagenet_tensors(a: Architecture) -> Shapes:
    """The backbone that detectron2's ImageNet files hold, without its classifier."""
    shapes = conv_bn("stem.conv1", 64, 3, 7)
    for number in (2, 3, 4, 5):
        shapes |= stage("", number, a)
    return shapes


def caffe2_name(name: str) -> str:
    """The name that ``ImageNetPretrained/MSRA/R-50.pkl`` has for one of those tensors."""
    for ours, theirs in {"shortcut": "branch1", "conv1": "branch2a", "conv2": "branch2b"}.items():
        name = name.replace(f".{ours}.", f".{theirs}.") if name.startswith("res") else name
    name = name.replace(".conv3.", ".branch2c.")
    name = name.replace("norm.weight", "bn.gamma").replace("norm.bias", "bn.beta")
    name = name.replace("norm.running", "bn.running").replace("stem.conv1.bn", "res.conv1.bn")
    return name.removeprefix("stem.").removesuffix("eight").replace(".", "_")
