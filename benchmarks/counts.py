"""Parameters and multiply-adds of every preset, beside published numbers.

    python -m benchmarks.counts

Counted on the meta device: shapes without memory or time. An image of 800 × 1088 pixels (800 × 1066
padded), detectron2's number of proposals in the box head and 100 detections in the others;
multiply-adds of convolutions and matrix products as torch.utils.flop_counter sees them, halved.
Backbones' norms, RoIAlign, NMS and pasting are not in it. Writes results/counts.json.
"""

from typing import Any

from benchmarks.timing import table
from mrcnn_edu.evaluation.cost import DETECTIONS, count
from mrcnn_edu.files import write_json
from mrcnn_edu.presets import PRESETS, preset
from mrcnn_edu.provenance import provenance

IMAGE = (800, 1088)
TINY_IMAGE = (192, 192)
# Parameters: torchvision's weights' meta data (91 classes; 2 for keypoints), norms' included where
# they are trained. With GMAC: detectron2's models as Papers with Code lists them (80 classes, in
# millions; the mean over 100 COCO images): paperswithcode.com/lib/detectron2/mask-r-cnn.
PUBLISHED: dict[str, dict[str, Any]] = {
    "r50_fpn": {"parameters": 44_401_393, "source": "torchvision 0.29"},
    "r50_fpn_v2": {"parameters": 46_359_409, "source": "torchvision 0.29"},
    "faster_r50_fpn": {"parameters": 41_755_286, "source": "torchvision 0.29"},
    "faster_r50_fpn_v2": {"parameters": 43_712_278, "source": "torchvision 0.29"},
    "keypoint_r50_fpn": {"parameters": 59_137_258, "source": "torchvision 0.29"},
    "r50_c4": {"parameters": 36e6, "gmac": 890, "source": "Papers with Code, detectron2"},
    "r101_c4": {"parameters": 55e6, "gmac": 937, "source": "Papers with Code, detectron2"},
    "r101_fpn": {"parameters": 63e6, "gmac": 290, "source": "Papers with Code, detectron2"},
}


def main() -> None:
    """Count, print, write."""
    config = {"image": IMAGE, "tiny_image": TINY_IMAGE, "detections": DETECTIONS}
    origin = provenance(config, 0)
    models = {}
    for name in PRESETS:
        own = name.startswith("tiny") or name.endswith("_v2")
        chosen = preset(name, None if own else "detectron2")
        models[name] = count(chosen, TINY_IMAGE if name.startswith("tiny") else IMAGE)
        models[name]["published"] = PUBLISHED.get(name)
    rows: list[dict[str, object]] = [
        {
            "preset": name,
            "million parameters": round(m["parameters"] / 1e6, 2),
            "published": round(m["published"]["parameters"] / 1e6, 2) if m["published"] else "–",
            "GMAC": m["gmac_total"],
            "published GMAC": (m["published"] or {}).get("gmac", "–"),
            **{part: m["gmac"].get(part, 0.0) for part in ("backbone", "RPN", "box head")},
        }
        for name, m in models.items()
    ]
    print(table("Parameters and multiply-adds", rows))
    write_json("results/counts.json", {**origin, "models": models})


if __name__ == "__main__":
    main()
