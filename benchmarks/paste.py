"""Masks: pasting to run lengths and mask targets, against torchvision and pycocotools.

Run with `python -m benchmarks.paste`. Prints one row a case, the ratio reference / ours from
interleaved calls, and writes results/paste_cpu.json. The strings of the "torchvision" dialect
are first checked to be the reference's, byte for byte; targets to within 1e-5.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from pycocotools import mask as coco
from torch import Tensor
from torchvision.models.detection.roi_heads import paste_masks_in_image, project_masks_on_boxes

from benchmarks.timing import interleave, medians, ratio, table
from mrcnn_edu import boxes as box_ops
from mrcnn_edu import masks as ops
from mrcnn_edu.files import write_json
from mrcnn_edu.provenance import provenance

SEED = 0
REPEATS = 5
SIDES = {"small": (8, 48), "COCO-like": (12, 245), "large": (200, 700)}


def make_boxes(n: int, sides: tuple[int, int], size: tuple[int, int], seed: int) -> Tensor:
    """[n, 4] inside the image; sides spread evenly on a logarithmic scale."""
    g = torch.Generator().manual_seed(seed)
    low, high = np.log(sides[0]), np.log(sides[1])
    centre = torch.rand(n, 2, generator=g) * torch.tensor([size[1], size[0]])
    side = torch.exp(low + torch.rand(n, 2, generator=g) * (high - low))
    return box_ops.clip(torch.cat((centre - side / 2, centre + side / 2), dim=1), size)


def make_masks(n: int, cells: int, seed: int) -> Tensor:
    """Probabilities [n, M, M] with smooth outlines and some holes."""
    noise = torch.randn(n, 1, 7, 7, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(noise, size=cells, mode="bicubic")[:, 0].mul(4).sigmoid()


def reference_rle(masks: Tensor, boxes: Tensor, size: tuple[int, int]) -> list[dict[str, Any]]:
    """torchvision's paste, threshold ½, pycocotools' encode."""
    images = paste_masks_in_image(masks[:, None], boxes, size)[:, 0] > 0.5  # [D, H, W]
    return coco.encode(np.asfortranarray(images.numpy().transpose(1, 2, 0).astype(np.uint8)))


def paste_rows() -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    size = (800, 1066)
    for name, sides in SIDES.items():
        boxes = make_boxes(100, sides, size, SEED)
        masks = make_masks(100, 28, SEED)
        if ops.paste_to_rle(masks, boxes, size, 0.5, "torchvision") != reference_rle(
            masks, boxes, size
        ):
            raise AssertionError(f"{name}: the strings differ")
        seconds = interleave(
            {
                "reference": lambda b=boxes, m=masks: reference_rle(m, b, size),
                "ours": lambda b=boxes, m=masks: ops.paste_to_rle(m, b, size, 0.5, "torchvision"),
                "continuous": lambda b=boxes, m=masks: ops.paste_to_rle(m, b, size),
            },
            REPEATS,
            warmup=1,
        )
        for dialect in ("ours", "continuous"):
            rows.append(
                {
                    "what": "paste to RLE, 100 of 28×28 on 800×1066",
                    "boxes": name,
                    "dialect": "torchvision" if dialect == "ours" else dialect,
                    "ms_reference": medians(seconds)["reference"] * 1e3,
                    "ms_ours": medians(seconds)[dialect] * 1e3,
                    "ratio": ratio(seconds, "reference", dialect),
                }
            )
    return rows


def target_rows() -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    cases = {"128×128, 6 masks": (128, 128, 6, 64), "800×1066, 20 masks": (800, 1066, 20, 128)}
    for name, (height, width, n_masks, n_rois) in cases.items():
        size = (height, width)
        noise = torch.randn(n_masks, 1, 9, 9, generator=torch.Generator().manual_seed(SEED))
        masks = (F.interpolate(noise, size=size, mode="bicubic")[:, 0] > 0).to(torch.uint8)
        boxes = make_boxes(n_rois, (min(size) // 16, min(size)), size, SEED)
        index = torch.arange(n_rois) % n_masks
        theirs = project_masks_on_boxes(masks, boxes, index, 28)
        torch.testing.assert_close(
            ops.crop_to_boxes(masks, boxes, index, 28, False), theirs, atol=1e-5, rtol=0
        )
        seconds = interleave(
            {
                "reference": lambda m=masks, b=boxes, i=index: project_masks_on_boxes(m, b, i, 28),
                "ours": lambda m=masks, b=boxes, i=index: ops.crop_to_boxes(m, b, i, 28, False),
            },
            4 * REPEATS,
        )
        rows.append(
            {
                "what": f"mask targets, {n_rois} of 28×28",
                "boxes": name,
                "dialect": "torchvision",
                "ms_reference": medians(seconds)["reference"] * 1e3,
                "ms_ours": medians(seconds)["ours"] * 1e3,
                "ratio": ratio(seconds, "reference", "ours"),
            }
        )
    return rows


def main() -> None:
    rows = paste_rows() + target_rows()
    print(table("Masks on the CPU, torchvision and pycocotools / ours", rows))
    config = {"repeats": REPEATS, "threads": torch.get_num_threads(), "sides": SIDES}
    write_json("results/paste_cpu.json", {**provenance(config, SEED), "rows": rows})


if __name__ == "__main__":
    main()
