"""Data sets in COCO format: the file on disk, and what every data set of the package shares.

In: a COCO instances (or person_keypoints) JSON and its images. Out, one image at a time:
(image uint8 [3, H, W], target), where target is the dictionary torchvision's detectors take:
boxes [G, 4] float32 xyxy, labels [G] int64 in 1..K, masks [G, H, W] uint8 in {0, 1},
area [G] float32, iscrowd [G] int64, image_id int64, and keypoints [G, J, 3] float32 when the
file has them, with mirrored_joints [G, J] int64, their order in a mirror, where it is not COCO's.
COCO's own category ids (1..90 with holes) are known in this module and nowhere else: the rest of
the package counts 1..K, in the order of the ids, with 0 for background.
Format: cocodataset.org, "Data format". Chapter 12.
"""

import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mrcnn_edu import run_lengths
from mrcnn_edu.data.coco_types import typed
from mrcnn_edu.data.dataset import Categories, Dataset, Target
from mrcnn_edu.data.jpeg import plain_size
from mrcnn_edu.data.packed import PackedList
from mrcnn_edu.data.pixels import read_bytes, read_rgb
from mrcnn_edu.data.skeleton import Skeletons
from mrcnn_edu.files import read_json

__all__ = ["CocoDataset", "CocoFormatDataset", "read_rgb", "segmentation_to_rle"]

_CROWD = "crowd regions, which hold many objects"
BROKEN = "broken annotations"
_NO_BOX = "boxes without area in their image"


def segmentation_to_rle(segmentation: Any, height: int, width: int) -> dict[str, Any]:
    """Any of COCO's three forms (polygons, uncompressed and compressed RLE) to compressed RLE.

    Polygons are in continuous coordinates; pycocotools rasterises them, so masks equal those the
    official evaluation uses. Chapter 12.

    Args:
        segmentation: as an annotation holds it.
        height, width: of the image, in pixels.

    Raises:
        ValueError: it is something else, or an RLE of another size.
    """
    return run_lengths.to_rle(segmentation, height, width)


class CocoFormatDataset(Dataset):
    """The half that needs no image files: ids, classes, targets, ground truth.

    A subclass adds `load_image(index)`, which returns RGB uint8 [H, W, 3].

    Parameters: `ground_truth`, a COCO dictionary; `name`, what to call it in messages;
    `keep_crowd`: whether crowd regions are among the targets, marked `iscrowd` 1. Training leaves
    them out, as the paper's code does; the evaluator reads them from `ground_truth()` anyway.

    `skip_broken`: whether annotations whose fields or outlines are wrong are left out, instead of
    refusing the file.

    Images without objects are kept. Objects without area, box or mask, are left out; `left_out`
    counts what is, by reason, as far as it is known without decoding a mask. Where no annotation
    has an outline the set has boxes alone, and targets no masks. Raises ValueError when the
    dictionary is not COCO, naming entry, field and value.
    """

    def __init__(
        self, ground_truth: Any, name: str, keep_crowd: bool = False, skip_broken: bool = False
    ) -> None:
        checked = typed(ground_truth, name, skip_broken)
        self.name = name
        self.keep_crowd = keep_crowd
        self.has_masks = checked.has_masks
        categories = sorted(checked.categories, key=lambda c: c["id"])
        self.categories = Categories(
            tuple(c["id"] for c in categories), tuple(c["name"] for c in categories)
        )
        self._skeletons = Skeletons(categories, name)
        self.num_keypoints = self._skeletons.joints
        # The labels whose objects have joints: of COCO's and Shapes' classes only the person.
        self.keypoint_labels = self._skeletons.labels
        self._label_of = {category: k + 1 for k, category in enumerate(self.categories.ids)}
        self._head = {k: v for k, v in ground_truth.items() if k not in ("images", "annotations")}
        self._head["categories"] = checked.categories
        self.images: list[dict[str, Any]] = sorted(checked.images, key=lambda i: i["id"])
        self.image_ids: list[int] = [image["id"] for image in self.images]
        by_image: dict[int, list[dict[str, Any]]] = {i: [] for i in self.image_ids}
        for a in checked.annotations:
            by_image[a["image_id"]].append(a)
        self._packed = PackedList(by_image[i] for i in self.image_ids)
        self.left_out = self._count_left_out(by_image, checked.broken)

    def __getitem__(self, index: int) -> tuple[Tensor, Target]:
        """(image uint8 [3, H, W], target). The objects' masks are decoded here, not before."""
        pixels = self.load_image(index)  # [H, W, 3]
        return torch.from_numpy(pixels).permute(2, 0, 1).contiguous(), self.target(index)

    def load_image(self, index: int) -> NDArray[np.uint8]:
        """The pixels of one image, RGB uint8 [H, W, 3]."""
        raise NotImplementedError("a subclass says where images come from")

    def annotations(self, index: int) -> list[dict[str, Any]]:
        """The raw annotations of one image, crowd regions included, with COCO's own ids."""
        found: list[dict[str, Any]] = self._packed[index]
        return found

    def image_size(self, index: int) -> tuple[int, int]:
        """(height, width) of one image, as the file says; no image is opened."""
        return self.images[index]["height"], self.images[index]["width"]

    def has_objects(self, index: int) -> bool:
        """Whether anything in the image is annotated, crowd regions apart."""
        return self.count_objects(index) > 0

    def count_objects(self, index: int) -> int:
        """How many objects the image's target holds, but for masks without a pixel."""
        size = self.image_size(index)
        return sum(self._reason(a, *size) is None for a in self.annotations(index))

    def _reason(self, annotation: dict[str, Any], height: int, width: int) -> str | None:
        """Why an object is not among the targets, if that is known without its mask."""
        if annotation.get("iscrowd", 0) and not self.keep_crowd:
            return _CROWD
        x1, y1, x2, y2 = _clipped(annotation["bbox"], height, width)
        return None if x2 > x1 and y2 > y1 else _NO_BOX

    def _count_left_out(
        self, by_image: dict[int, list[dict[str, Any]]], broken: list[str]
    ) -> dict[str, int]:
        found: Counter[str] = Counter()
        for image in self.images:
            size = image["height"], image["width"]
            reasons = (self._reason(a, *size) for a in by_image[image["id"]])
            found.update(r for r in reasons if r is not None)
        if broken:
            found[f"{BROKEN} (the first: {broken[0]})"] = len(broken)
        return dict(found)

    def to_label(self, category_id: int) -> int:
        """The label in 1..K of a category id of the file. Raises ValueError if it has none."""
        if category_id not in self._label_of:
            raise ValueError(f"{self.name} has no category id {category_id}")
        return self._label_of[category_id]

    def ground_truth(self) -> dict[str, Any]:
        """The file's content, images by id, annotations completed, and made anew."""
        annotations = [self._completed(a, i) for i in range(len(self)) for a in self.annotations(i)]
        return self._head | {"images": self.images, "annotations": annotations}

    def _completed(self, annotation: dict[str, Any], index: int) -> dict[str, Any]:
        """An annotation with the fields that pycocotools reads and many files leave out.

        Where some class has joints, pycocotools reads those of every object: one without has none
        that are labelled.
        """
        if "area" not in annotation:
            annotation["area"] = self._area(annotation, index)
        annotation.setdefault("iscrowd", 0)
        if self.num_keypoints:
            points = annotation["keypoints"] = self._points(annotation)
            if annotation.get("num_keypoints") is None:
                annotation["num_keypoints"] = sum(v > 0 for v in points[2::3])
        return annotation

    def _points(self, annotation: dict[str, Any]) -> list[Any]:
        """Its joints, as many as any category has: x, y, v of each."""
        where = f"{self.name}: annotation {annotation['id']} of image id {annotation['image_id']}"
        return self._skeletons.points(self._label_of[annotation["category_id"]], annotation, where)

    def target(self, index: int) -> Target:
        """The target of one image (see the module). Boxes are clipped to the image.

        COCO's keypoints are pixel indices and its boxes are not: half a pixel is added to each
        labelled joint, so that (x, y) is a place like any other. Results must take it off again.
        """
        image = self.images[index]
        h, w = image["height"], image["width"]
        kept, boxes, rles = [], [], []
        for a in self.annotations(index):
            if self._reason(a, h, w) is not None:
                continue
            rle = self._rle(a, index) if self.has_masks else None
            area = float(run_lengths.area(rle)) if rle else a["bbox"][2] * a["bbox"][3]
            if area > 0:
                kept.append({"area": area, "iscrowd": 0, **a})
                boxes.append(_clipped(a["bbox"], h, w))
                rles.append(rle)
        labels = [self._label_of[a["category_id"]] for a in kept]
        target = {
            "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),  # [G, 4]
            "labels": torch.tensor(labels, dtype=torch.int64),  # [G]
        }
        if self.has_masks:
            masks = run_lengths.decode([r for r in rles if r], (h, w))
            target["masks"] = torch.from_numpy(masks)  # [G, H, W]
        target |= {
            "area": torch.tensor([a["area"] for a in kept], dtype=torch.float32),
            "iscrowd": torch.tensor([a["iscrowd"] for a in kept], dtype=torch.int64),
            "image_id": torch.tensor(image["id"], dtype=torch.int64),
        }
        if self.num_keypoints:
            points = torch.tensor([self._points(a) for a in kept], dtype=torch.float32)
            points = points.reshape(len(kept), self.num_keypoints, 3)
            points[..., :2] += 0.5 * (points[..., 2:] > 0)
            target["keypoints"] = points  # [G, J, 3]
            orders = self._skeletons.orders(labels)
            if orders is not None:
                order = torch.tensor(orders, dtype=torch.int64)
                target["mirrored_joints"] = order.reshape(len(kept), self.num_keypoints)  # [G, J]
        return target

    def _rle(self, annotation: dict[str, Any], index: int) -> dict[str, Any]:
        """The annotation's mask as a compressed RLE; raises ValueError with its id."""
        image = self.images[index]
        try:
            return run_lengths.to_rle(annotation["segmentation"], image["height"], image["width"])
        except ValueError as error:
            where = f"{self.name}: annotation {annotation['id']} of image id {image['id']}"
            raise ValueError(f"{where}: {error}") from error

    def _area(self, annotation: dict[str, Any], index: int) -> float:
        if self.has_masks:
            return float(run_lengths.area(self._rle(annotation, index)))
        return float(annotation["bbox"][2] * annotation["bbox"][3])


class CocoDataset(CocoFormatDataset):
    """Images in a folder with a COCO JSON: COCO 2017 itself, or your own set.

    `image_folder` and `annotation_file` as downloaded: `train2017/` and
    `annotations/instances_train2017.json`. `keep_crowd`, `skip_broken`: see CocoFormatDataset.

    Raises FileNotFoundError when the folder, the JSON or an image is not there (with the number
    of missing images and the first one's name), ValueError when the JSON is not COCO.
    """

    def __init__(
        self,
        image_folder: str | os.PathLike[str],
        annotation_file: str | os.PathLike[str],
        keep_crowd: bool = False,
        skip_broken: bool = False,
    ) -> None:
        self.folder = Path(image_folder)
        path = Path(annotation_file)
        if not path.is_file():
            raise FileNotFoundError(f"no annotation file {path}; see data/README.md for the sets")
        if not self.folder.is_dir():
            raise FileNotFoundError(f"no image folder {self.folder}; see data/README.md")
        super().__init__(read_json(path), str(path), keep_crowd, skip_broken)
        self._check_files()

    def _check_files(self) -> None:
        names = [image["file_name"] for image in self.images]
        present: dict[str, set[str]] = {}  # one listing a folder: 118,287 stat calls are slow
        missing = []
        for name in names:
            parent = str((self.folder / name).parent)
            if parent not in present:
                present[parent] = set(os.listdir(parent)) if os.path.isdir(parent) else set()
            if os.path.basename(name) not in present[parent]:
                missing.append(name)
        if missing:
            bare = missing[0].replace("\\", "/").rsplit("/", 1)[-1]  # Windows writes backslashes
            advice = "unpack the images again, or give the folder that holds them"
            if bare != missing[0] and (self.folder / bare).is_file():
                advice = f"{bare} itself is there: take the folders out of file_name"
            raise FileNotFoundError(
                f"{len(missing)} of {len(names)} images of {self.name} are not in {self.folder}, "
                f"the first is {missing[0]}; {advice}"
            )

    def load_image(self, index: int) -> NDArray[np.uint8]:
        """Decodes one image to RGB uint8 [H, W, 3].

        The EXIF orientation is not applied: COCO's annotators saw the pixels as stored, and its
        heights and widths are those of the stored pixels. Raises ValueError for a truncated or
        foreign file, and for one whose size is not what the JSON says.
        """
        record = self.images[index]
        path = self.folder / record["file_name"]
        try:
            pixels = read_rgb(path, refuse_dark=True)
        except OSError as error:
            raise ValueError(
                f"cannot read {path} (image id {record['id']}): {error}; the file is damaged or "
                "cut off, fetch it again"
            ) from error
        self._check_size(index, pixels.shape[0], pixels.shape[1])
        return pixels

    def encoded(self, index: int) -> Tensor | None:
        """The bytes of a JPEG file, uint8 [bytes]; None for other files, and for unusual ones.

        Raises ValueError when the picture's size is not what the JSON says.
        """
        try:
            content = read_bytes(self.folder / self.images[index]["file_name"])
        except OSError:
            return None  # `load_image` says what is wrong
        size = plain_size(content)
        if size is None:
            return None
        self._check_size(index, *size)
        return torch.frombuffer(bytearray(content), dtype=torch.uint8)

    def _check_size(self, index: int, height: int, width: int) -> None:
        record = self.images[index]
        if (height, width) != (record["height"], record["width"]):
            raise ValueError(
                f"{self.folder / record['file_name']} (image id {record['id']}) is "
                f"{width}×{height}, {self.name} says {record['width']}×{record['height']}: was it "
                "resized or turned?"
            )


def _clipped(box: list[float], height: int, width: int) -> list[float]:
    """A box xywh as xyxy, the part of it that is in the image."""
    x, y, w, h = box
    return [max(x, 0.0), max(y, 0.0), min(x + w, width), min(y + h, height)]
