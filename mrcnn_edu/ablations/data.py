"""What the experiments run on: Shapes, its persons alone, and nuclei.

Sets are made once a process. All arms and seeds of a profile see the same images. Chapter 15.
"""

from functools import lru_cache
from pathlib import Path
from typing import Literal

from mrcnn_edu.ablations.table import DataName
from mrcnn_edu.data.coco import CocoDataset
from mrcnn_edu.data.dataset import Dataset, InMemory
from mrcnn_edu.data.shapes import ShapesConfig, ShapesDataset, ShapesSet, generate
from mrcnn_edu.data.subset import Subset
from mrcnn_edu.errors import UserError

SEEDS = {"train": 1, "val": 2}  # of Shapes; the same images for all arms and seeds of a profile


@lru_cache(maxsize=4)
def load(
    data: DataName,
    split: Literal["train", "val"],
    count: int,
    shapes: ShapesConfig | None,
    nuclei: Path | None = None,
) -> Dataset:
    """One of the sets, at most `count` images of it.

    Args:
        data: which.
        split: training or validation images.
        count: images to generate, or to take of those there are.
        shapes: what is generated; nuclei need none.
        nuclei: the folder that `mrcnn-edu data nuclei` wrote.

    Raises:
        UserError: nuclei were asked for and no folder, or a wrong one, was named.
    """
    if data == "nuclei":
        if nuclei is None:
            raise UserError(
                "These experiments need the nuclei set: convert it with `mrcnn-edu data nuclei` "
                "and name its folder with --nuclei, or leave nuclei out with --data shapes."
            )
        annotations = nuclei / "annotations" / f"instances_{split}.json"
        try:
            whole = CocoDataset(nuclei / split, annotations)
        except (ValueError, OSError) as error:
            raise UserError(str(error)) from error
        first = Subset(whole, range(min(count, len(whole))))
        return InMemory(first)  # decoding a mask costs more than a step's share
    if shapes is None:
        raise ValueError(f"The set {data!r} is generated: say what with shapes=ShapesConfig(…).")
    made = generate(shapes, count, SEEDS[split])
    return InMemory(ShapesDataset(persons(made) if data == "persons" else made))


def persons(shapes: ShapesSet) -> ShapesSet:
    """The images of a Shapes set with a person, and their persons only."""
    truth = shapes.ground_truth
    (category,) = (c for c in truth["categories"] if c["name"] == "person")
    kept = [a for a in truth["annotations"] if a["category_id"] == category["id"]]
    ids = sorted({a["image_id"] for a in kept})
    place = {old: new for new, old in enumerate(ids, start=1)}
    images = [i | {"id": place[i["id"]]} for i in truth["images"] if i["id"] in place]
    annotations = [
        a | {"id": n, "image_id": place[a["image_id"]]} for n, a in enumerate(kept, start=1)
    ]
    found = truth | {"images": images, "annotations": annotations, "categories": [category]}
    pixels = shapes.images[[i - 1 for i in ids]]  # [N, H, W, 3]
    return ShapesSet(shapes.config, shapes.seed, pixels, found)
