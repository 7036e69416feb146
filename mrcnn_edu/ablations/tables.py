"""The paper's ablation tables (He et al. 2017, tables 2, 3, 5 and 6), and ours beyond them.

Published numbers are the paper's, COCO AP of large networks; ours are small networks on other data,
so only signs can be compared. In the paper the RPN is trained apart and arms with one backbone
share its proposals; ours are trained jointly, but for 2c-shared. Chapter 15.
"""

from typing import Any

from mrcnn_edu.ablations.table import Arm, Effect, Table
from mrcnn_edu.config import suggest
from mrcnn_edu.errors import UserError

PAPER = "He et al. 2017, arXiv:1703.06870v3"
JOINT = "Each arm trains its own RPN; in the paper arms of one backbone share one set of proposals."
ADDED = (
    "The claims that arms are alike were added when two seeds of the profile cpu on Shapes had "
    "been seen."
)

# RoIPool and RoIWarp know no alignment: they round. Their masks are still cut and pasted with the
# proposal's own corners, so that only what the head reads differs.
POOL_MAX: dict[str, Any] = {"roi_op": "pool"}
WARP_MAX: dict[str, Any] = {"roi_op": "warp", "roi_reduce": "max"}
WARP_MEAN: dict[str, Any] = {"roi_op": "warp"}
ALIGN_MAX: dict[str, Any] = {"roi_reduce": "max"}


def _published(box: float | None = None, mask: float | None = None, **more: float) -> dict:
    found = {"box AP": box, "mask AP": mask}
    names = {"mask75": "mask AP75", "box75": "box AP75", "keypoint": "keypoint AP"}
    return {k: v for k, v in found.items() if v is not None} | {
        names[k]: v for k, v in more.items()
    }


TABLES = (
    Table(
        "2a",
        "Backbones",
        "Deeper backbones and feature pyramids are better.",
        (
            Arm("C4", "tiny_c4", published=_published(mask=30.3)),
            Arm("deeper C4", "tiny_c4", {"backbone": "tiny_deep"}, _published(mask=32.7)),
            Arm("FPN", "tiny_fpn", published=_published(mask=33.6)),
            Arm("deeper FPN", "tiny_fpn", {"backbone": "tiny_deep"}, _published(mask=35.4)),
            Arm(
                "deeper grouped FPN",
                "tiny_fpn",
                {"backbone": "tiny_grouped"},
                _published(mask=36.7),
            ),
        ),
        (
            Effect("FPN", "C4", "mask AP", 1.5),
            Effect("deeper C4", "C4", "mask AP", 1.0),
            Effect("deeper FPN", "FPN", "mask AP", 1.0),
            Effect("deeper grouped FPN", "deeper FPN", "mask AP", 0.5),
        ),
        ("box AP", "mask AP"),
        source=f"{PAPER}, table 2a: R50-C4, R101-C4, R50-FPN, R101-FPN, X101-FPN",
        note="Backbones of one and of two blocks a stage stand for ResNet-50 and -101.",
    ),
    Table(
        "2b",
        "How masks compete",
        "A sigmoid for each class beats a softmax over classes at each pixel.",
        (
            Arm("sigmoid", "tiny_c4", published=_published(mask=30.3, mask75=31.5)),
            Arm(
                "softmax",
                "tiny_c4",
                {"mask_prediction": "softmax"},
                _published(mask=24.8, mask75=25.1),
            ),
            Arm(
                "class-agnostic", "tiny_c4", {"mask_prediction": "agnostic"}, _published(mask=29.7)
            ),
        ),
        (
            Effect("sigmoid", "softmax", "mask AP", 1.0),
            Effect("class-agnostic", "softmax", "mask AP", 1.0),
            Effect("class-agnostic", "sigmoid", "mask AP", 1.0, alike=True),
        ),
        ("box AP", "mask AP", "mask AP75"),
        source=f"{PAPER}, table 2b; class-agnostic: text of section 4.2",
        note=f"{JOINT} Softmax needs a class at each pixel, so its targets are binary; those of "
        f"the sigmoids are covered shares. {ADDED}",
    ),
    Table(
        "2c",
        "RoI layer, stride 16",
        "Alignment matters, interpolation alone does not: RoIAlign beats RoIPool and RoIWarp.",
        (
            Arm("RoIPool (max)", "tiny_c4", POOL_MAX, _published(mask=26.9, mask75=26.4)),
            Arm("RoIWarp (max)", "tiny_c4", WARP_MAX, _published(mask=27.2, mask75=27.1)),
            Arm("RoIWarp (mean)", "tiny_c4", WARP_MEAN, _published(mask=27.1, mask75=27.1)),
            Arm("RoIAlign (max)", "tiny_c4", ALIGN_MAX, _published(mask=30.2, mask75=31.8)),
            Arm("RoIAlign (mean)", "tiny_c4", published=_published(mask=30.3, mask75=31.5)),
        ),
        (
            Effect("RoIAlign (mean)", "RoIPool (max)", "mask AP", 1.0),
            Effect("RoIAlign (mean)", "RoIWarp (mean)", "mask AP", 1.0),
            Effect("RoIAlign (max)", "RoIWarp (max)", "mask AP", 1.0),
            Effect("RoIAlign (mean)", "RoIPool (max)", "mask AP75", 1.5),
            Effect("RoIWarp (max)", "RoIPool (max)", "mask AP", 1.0, alike=True),
            Effect("RoIAlign (mean)", "RoIAlign (max)", "mask AP", 1.0, alike=True),
        ),
        ("box AP", "mask AP", "mask AP75"),
        ("shapes", "nuclei"),
        f"{PAPER}, table 2c, R50-C4",
        f"{JOINT} {ADDED}",
    ),
    Table(
        "2c-shared",
        "RoI layer, stride 16, shared proposals",
        "Alignment matters also when all arms read the same features and proposals.",
        (
            Arm("RoIPool (max)", "tiny_c4", POOL_MAX, _published(mask=26.9, mask75=26.4)),
            Arm("RoIWarp (mean)", "tiny_c4", WARP_MEAN, _published(mask=27.1, mask75=27.1)),
            Arm("RoIAlign (mean)", "tiny_c4", published=_published(mask=30.3, mask75=31.5)),
        ),
        (
            Effect("RoIAlign (mean)", "RoIPool (max)", "mask AP", 1.0),
            Effect("RoIAlign (mean)", "RoIWarp (mean)", "mask AP", 1.0),
        ),
        ("box AP", "mask AP", "mask AP75"),
        source=f"{PAPER}, table 2c, R50-C4",
        note="Backbone and RPN are trained without heads first; then the backbone stays as it is.",
        shared_proposals=True,
    ),
    Table(
        "2d",
        "RoI layer, stride 32",
        "At stride 32 the gain of RoIAlign is large, for boxes too, most at AP75.",
        (
            Arm(
                "RoIPool",
                "tiny_c5",
                POOL_MAX,
                _published(28.2, 23.6, box75=26.9, mask75=21.6),
            ),
            Arm("RoIAlign", "tiny_c5", published=_published(34.0, 30.9, box75=36.4, mask75=32.1)),
        ),
        (
            Effect("RoIAlign", "RoIPool", "mask AP", 2.0),
            Effect("RoIAlign", "RoIPool", "box AP", 1.5),
            Effect("RoIAlign", "RoIPool", "mask AP75", 2.0),
            Effect("RoIAlign", "RoIPool", "box AP75", 2.0),
        ),
        ("box AP", "box AP75", "mask AP", "mask AP75"),
        ("shapes", "nuclei"),
        f"{PAPER}, table 2d, R50-C5",
        JOINT,
    ),
    Table(
        "2e",
        "Mask head",
        "A convolutional mask head beats fully connected ones.",
        (
            Arm(
                "MLP, 2 layers",
                "tiny_fpn",
                {"mask_head": "mlp", "mask_hidden": 256},
                _published(mask=31.5, mask75=32.8),
            ),
            Arm(
                "MLP, 3 layers",
                "tiny_fpn",
                {"mask_head": "mlp", "mask_fcs": 3, "mask_hidden": 256},
                _published(mask=31.5, mask75=32.6),
            ),
            Arm("FCN", "tiny_fpn", published=_published(mask=33.6, mask75=35.3)),
        ),
        (
            Effect("FCN", "MLP, 2 layers", "mask AP", 1.0),
            Effect("FCN", "MLP, 3 layers", "mask AP", 1.0),
        ),
        ("box AP", "mask AP", "mask AP75"),
        ("shapes", "nuclei"),
        f"{PAPER}, table 2e, R50-FPN",
        f"{JOINT} The fully connected layers are 256 wide here, 1024 in the paper.",
    ),
    Table(
        "3",
        "Does it help boxes?",
        "RoIAlign helps boxes, and so does learning masks beside them.",
        (
            Arm(
                "Faster R-CNN, RoIPool",
                "tiny_fpn",
                {"mask_head": "none", **POOL_MAX},
                _published(36.2),
            ),
            Arm("Faster R-CNN, RoIAlign", "tiny_fpn", {"mask_head": "none"}, _published(37.3)),
            Arm("Mask R-CNN", "tiny_fpn", published=_published(38.2)),
        ),
        (
            Effect("Faster R-CNN, RoIAlign", "Faster R-CNN, RoIPool", "box AP", 1.0),
            Effect("Mask R-CNN", "Faster R-CNN, RoIAlign", "box AP", 0.5),
        ),
        ("box AP", "box AP75"),
        ("shapes", "nuclei"),
        f"{PAPER}, table 3, R101-FPN, test-dev",
        JOINT,
    ),
    Table(
        "5",
        "Several tasks at once",
        "Masks help boxes; keypoints alone cost the boxes.",
        (
            Arm("boxes", "tiny_fpn", {"mask_head": "none"}, _published(52.5)),
            Arm("boxes and masks", "tiny_fpn", published=_published(53.6, 45.8)),
            Arm(
                "boxes and keypoints",
                "tiny_fpn",
                {"mask_head": "none", "keypoints": 17},
                _published(50.7, keypoint=64.2),
            ),
            Arm(
                "all three",
                "tiny_fpn",
                {"keypoints": 17},
                _published(52.0, 45.1, keypoint=64.7),
            ),
        ),
        (
            Effect("boxes and masks", "boxes", "box AP", 0.5),
            Effect("boxes", "boxes and keypoints", "box AP", 1.0),
            Effect("all three", "boxes and keypoints", "keypoint AP", 0.5),
        ),
        ("box AP", "mask AP", "keypoint AP"),
        ("persons",),
        f"{PAPER}, table 5, R50-FPN, persons",
    ),
    Table(
        "6",
        "RoI layer for keypoints",
        "Alignment matters for keypoints.",
        (
            Arm("RoIPool", "tiny_fpn", {"keypoints": 17, **POOL_MAX}, _published(keypoint=59.8)),
            Arm("RoIAlign", "tiny_fpn", {"keypoints": 17}, _published(keypoint=64.2)),
        ),
        (Effect("RoIAlign", "RoIPool", "keypoint AP", 1.5),),
        ("box AP", "mask AP", "keypoint AP"),
        ("persons",),
        f"{PAPER}, table 6, R50-FPN",
    ),
    Table(
        "code",
        "What code bases disagree on",
        "Half-pixel alignment, exact pasting and more samples should help, if a little.",
        (
            Arm("ours", "tiny_fpn"),
            Arm("not aligned", "tiny_fpn", {"roi_aligned": False}),
            Arm("torchvision's paste", "tiny_fpn", {"mask_paste": "torchvision"}),
            Arm("1 sample a bin side", "tiny_fpn", {"roi_sampling_ratio": 1}),
            Arm("adaptive samples", "tiny_fpn", {"roi_sampling_ratio": 0}),
            Arm("masks 14 × 14", "tiny_fpn", {"mask_pool": 7}),
            Arm("masks 56 × 56", "tiny_fpn", {"mask_pool": 28}),
            Arm(
                "BatchNorm", "tiny_fpn", {"backbone_norm": "batch_norm", "head_norm": "batch_norm"}
            ),
            Arm("positives 1:1", "tiny_fpn", {"box_positive_fraction": 0.5}),
        ),
        (
            Effect("ours", "not aligned", "mask AP", 0.5),
            Effect("ours", "torchvision's paste", "mask AP", 0.5),
            Effect("ours", "1 sample a bin side", "mask AP", 0.5),
            Effect("ours", "masks 14 × 14", "mask AP", 0.5),
            Effect("ours", "BatchNorm", "mask AP", 2.0),
        ),
        ("box AP", "mask AP", "mask AP75"),
    ),
)


def table(key: str) -> Table:
    """The table called `key`.

    Raises:
        UserError: there is none; the message lists those there are.
    """
    found = {t.key: t for t in TABLES}
    if key not in found:
        raise UserError(
            f"There is no table {key!r}{suggest(key, found)}. Tables: {', '.join(found)}."
        )
    return found[key]
