"""What the experiments run on: Shapes, its persons alone, and nuclei.

Sets are made once a process. All arms and seeds of a profile see the same images. Chapter 15.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from mrcnn_edu.ablations.table import DataName
from mrcnn_edu.data.coco import CocoDataset
from mrcnn_edu.data.dataset import Dataset, InMemory
from mrcnn_edu.data.shapes import ShapesConfig, ShapesDataset, ShapesSet, generate
from mrcnn_edu.errors import UserError

SEEDS = {"train": 1, "val": 2}  # those of the course's default sets, which begin the same way


class First:
    """The first images of a data set."""

    def __init__(self, whole: CocoDataset, count: int) -> None:
        self.whole, self.count = whole, min(count, len(whole))
        self.num_classes, self.class_names = whole.num_classes, whole.class_names
        self.image_ids: list[int] = whole.image_ids[: self.count]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        """(image uint8 [3, H, W], target)."""
        if not 0 <= index < self.count:
            raise IndexError(index)
        return self.whole[index]

    def to_category_id(self, label: int) -> int:
        """The file's category id of a label."""
        return self.whole.to_category_id(label)

    def coco_gt(self) -> Any:
        """The ground truth of these images as a ``pycocotools.coco.COCO``."""
        from pycocotools.coco import COCO

        truth = self.whole.coco_gt().dataset
        ids = set(self.image_ids)
        found = COCO()
        found.dataset = truth | {
            "images": [i for i in truth["images"] if i["id"] in ids],
            "annotations": [a for a in truth["annotations"] if a["image_id"] in ids],
        }
        found.createIndex()
        return found


@lru_cache(maxsize=4)
def load(
    data: DataName, split: Literal["train", "val"], count: int, nuclei: Path | None = None
) -> Dataset:
    """One of the sets, at most ``count`` images of it.

    Args:
        data: which.
        split: training or validation images.
        count: images to generate, or to take of those there are.
        nuclei: the folder that ``mrcnn-edu data nuclei`` wrote.

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
        return InMemory(First(whole, count))  # decoding a mask costs more than a step's share
    shapes = generate(ShapesConfig(), count, SEEDS[split])
    return ShapesDataset(persons(shapes) if data == "persons" else shapes)


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
