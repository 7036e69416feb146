"""NMS: `mrcnn_edu.boxes` against torchvision on the CPU.

Run with `python -m benchmarks.nms`. Prints one row a case, the ratio torchvision / ours from
interleaved calls, and writes results/nms_cpu.json. Every case first checks that both keep the
same boxes. "uniform" boxes seldom overlap, so most are kept; "clustered" ones lie around 60
objects, as a detector's do.
"""

from __future__ import annotations

import torch
import torchvision
from torch import Tensor

from benchmarks.timing import interleave, medians, ratio, table
from mrcnn_edu import boxes as ops
from mrcnn_edu.files import write_json
from mrcnn_edu.provenance import provenance

SEED = 0
IMAGE = (800, 1066)
COUNTS = (1000, 2000, 4000, 12000)
THRESHOLDS = (0.5, 0.7)
REPEATS = 7


def make_boxes(kind: str, n: int, generator: torch.Generator) -> Tensor:
    """[n, 4] in an image of 800 × 1066, sides of 12 to 245 pixels."""
    image = torch.tensor([IMAGE[1], IMAGE[0]], dtype=torch.float32)
    objects = n if kind == "uniform" else 60
    centre = torch.rand(objects, 2, generator=generator) * image
    side = torch.exp(torch.rand(objects, 2, generator=generator) * 3 + 2.5)
    if kind == "clustered":
        of = torch.randint(objects, (n,), generator=generator)
        centre = centre[of] + torch.randn(n, 2, generator=generator) * side[of] * 0.2
        side = side[of] * torch.exp(torch.randn(n, 2, generator=generator) * 0.25)
    return ops.clip(torch.cat((centre - side / 2, centre + side / 2), dim=1), IMAGE)


def torchvision_per_group(boxes: Tensor, scores: Tensor, groups: Tensor, t: float) -> Tensor:
    """torchvision's nms once per group, survivors by score: what `batched_nms` promises."""
    kept = torch.zeros(len(boxes), dtype=torch.bool)
    for group in groups.unique():
        members = (groups == group).nonzero()[:, 0]
        kept[members[torchvision.ops.nms(boxes[members], scores[members], t)]] = True
    order = scores.argsort(descending=True, stable=True)
    return order[kept[order]]


def main() -> None:
    generator = torch.Generator().manual_seed(SEED)
    rows: list[dict[str, object]] = []
    for kind in ("uniform", "clustered"):
        for n in COUNTS:
            boxes = make_boxes(kind, n, generator)
            scores = torch.rand(n, generator=generator)
            levels = torch.randint(5, (n,), generator=generator)
            for t in THRESHOLDS:
                calls = {
                    "nms": (
                        lambda b=boxes, s=scores, t=t: torchvision.ops.nms(b, s, t),
                        lambda b=boxes, s=scores, t=t: ops.nms(b, s, t),
                    ),
                    "5 levels": (
                        lambda b=boxes, s=scores, g=levels, t=t: torchvision_per_group(b, s, g, t),
                        lambda b=boxes, s=scores, g=levels, t=t: ops.batched_nms(b, s, g, t),
                    ),
                }
                for what, (theirs, ours) in calls.items():
                    kept = ours()
                    if not torch.equal(kept, theirs()):
                        raise AssertionError(f"{kind}, {n} boxes, {t}: other boxes kept")
                    seconds = interleave({"torchvision": theirs, "ours": ours}, REPEATS)
                    rows.append(
                        {
                            "boxes": kind,
                            "what": what,
                            "n": n,
                            "iou": t,
                            "kept": len(kept),
                            "ms_torchvision": medians(seconds)["torchvision"] * 1e3,
                            "ms_ours": medians(seconds)["ours"] * 1e3,
                            "ratio": ratio(seconds, "torchvision", "ours"),
                        }
                    )
    print(table("NMS on the CPU, torchvision / ours", rows))
    config = {"repeats": REPEATS, "threads": torch.get_num_threads(), "image": IMAGE}
    write_json("results/nms_cpu.json", {**provenance(config, SEED), "rows": rows})


if __name__ == "__main__":
    main()
