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

import json
import os
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as rle_ops
from torch import Tensor

from mrcnn_edu.data.dataset import Categories, Dataset, Target
from mrcnn_edu.data.jpeg import plain_size
from mrcnn_edu.data.packed import PackedList
from mrcnn_edu.data.skeleton import Skeletons

_REQUIRED = {
    "images": ("id", "file_name", "height", "width"),
    "annotations": ("id", "image_id", "category_id", "bbox", "segmentation"),
    "categories": ("id", "name"),
}


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
    if isinstance(segmentation, list) and segmentation:
        if all(isinstance(p, list) and len(p) >= 6 and len(p) % 2 == 0 for p in segmentation):
            return rle_ops.merge(rle_ops.frPyObjects(segmentation, height, width))
        raise ValueError("a polygon needs an even number of coordinates, six or more")
    if isinstance(segmentation, dict) and {"counts", "size"} <= segmentation.keys():
        if list(segmentation["size"]) != [height, width]:
            raise ValueError(f"RLE of size {segmentation['size']}, image [{height}, {width}]")
        if isinstance(segmentation["counts"], list):
            return rle_ops.frPyObjects(segmentation, height, width)
        return segmentation
    raise ValueError("segmentation is neither a list of polygons nor an RLE with size and counts")


class CocoFormatDataset(Dataset):
    """The half that needs no image files: ids, classes, targets, ground truth.

    A subclass adds `load_image(index)`, which returns RGB uint8 [H, W, 3].

    Parameters: `ground_truth`, a COCO dictionary; `name`, what to call it in messages;
    `keep_crowd`: whether crowd regions are among the targets, marked `iscrowd` 1. Training leaves
    them out, as the paper's code does; the evaluator reads them from `ground_truth()` anyway.

    Images without objects are kept. Objects without area, box or mask, are left out.
    Raises ValueError when the dictionary is not COCO, naming the key that is missing.
    """

    def __init__(self, ground_truth: Any, name: str, keep_crowd: bool = False) -> None:
        _check_coco(ground_truth, name)
        self.name = name
        self.keep_crowd = keep_crowd
        categories = sorted(ground_truth["categories"], key=lambda c: c["id"])
        self.categories = Categories(
            tuple(c["id"] for c in categories), tuple(c["name"] for c in categories)
        )
        self._skeletons = Skeletons(categories, name)
        self.num_keypoints = self._skeletons.joints
        # The labels whose objects have joints: of COCO's and Shapes' classes only the person.
        self.keypoint_labels = self._skeletons.labels
        self._label_of = {category: k + 1 for k, category in enumerate(self.categories.ids)}
        self._head = {k: v for k, v in ground_truth.items() if k not in ("images", "annotations")}
        self.images: list[dict[str, Any]] = sorted(ground_truth["images"], key=lambda i: i["id"])
        self.image_ids: list[int] = [image["id"] for image in self.images]
        by_image: dict[int, list[dict[str, Any]]] = {i: [] for i in self.image_ids}
        for a in ground_truth["annotations"]:
            by_image[a["image_id"]].append(a)
        self._packed = PackedList(by_image[i] for i in self.image_ids)

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
        return any(not a.get("iscrowd", 0) for a in self.annotations(index))

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
            image = self.images[index]
            rle = segmentation_to_rle(annotation["segmentation"], image["height"], image["width"])
            annotation["area"] = float(rle_ops.area(rle))
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
            if a.get("iscrowd", 0) and not self.keep_crowd:
                continue
            x, y, box_w, box_h = a["bbox"]
            box = [max(x, 0.0), max(y, 0.0), min(x + box_w, w), min(y + box_h, h)]  # xywh -> xyxy
            try:
                rle = segmentation_to_rle(a["segmentation"], h, w)
            except ValueError as error:
                where = f"{self.name}: annotation {a['id']} of image id {image['id']}"
                raise ValueError(f"{where}: {error}") from error
            area = float(rle_ops.area(rle))
            if box[2] > box[0] and box[3] > box[1] and area > 0:
                kept.append({"area": area, "iscrowd": 0, **a})
                boxes.append(box)
                rles.append(rle)
        masks = torch.zeros((0, h, w), dtype=torch.uint8)  # [G, H, W]
        if rles:  # pycocotools gives [H, W, G], columns first
            masks = torch.from_numpy(np.ascontiguousarray(rle_ops.decode(rles).transpose(2, 0, 1)))
        labels = [self._label_of[a["category_id"]] for a in kept]
        target = {
            "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),  # [G, 4]
            "labels": torch.tensor(labels, dtype=torch.int64),  # [G]
            "masks": masks,
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


class CocoDataset(CocoFormatDataset):
    """Images in a folder with a COCO JSON: COCO 2017 itself, or your own set.

    `image_folder` and `annotation_file` as downloaded: `train2017/` and
    `annotations/instances_train2017.json`. For `keep_crowd` see CocoFormatDataset.

    Raises FileNotFoundError when the folder, the JSON or an image is not there (with the number
    of missing images and the first one's name), ValueError when the JSON is not COCO.
    """

    def __init__(
        self,
        image_folder: str | os.PathLike[str],
        annotation_file: str | os.PathLike[str],
        keep_crowd: bool = False,
    ) -> None:
        self.folder = Path(image_folder)
        path = Path(annotation_file)
        if not path.is_file():
            raise FileNotFoundError(f"no annotation file {path}; see data/README.md for the sets")
        if not self.folder.is_dir():
            raise FileNotFoundError(f"no image folder {self.folder}; see data/README.md")
        try:
            ground_truth = json.loads(path.read_bytes())
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ValueError(
                f"{path} is not JSON ({error}); if a download was cut off, fetch it again"
            ) from error
        super().__init__(ground_truth, str(path), keep_crowd)
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
            raise FileNotFoundError(
                f"{len(missing)} of {len(names)} images of {self.name} are not in {self.folder}, "
                f"the first is {missing[0]}; unpack the images again, or give the folder that "
                "holds them"
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
            pixels = read_rgb(path)
        except (OSError, SyntaxError) as error:  # Pillow raises SyntaxError for a broken PNG
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
            content = (self.folder / self.images[index]["file_name"]).read_bytes()
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


def read_rgb(path: str | os.PathLike[str] | BinaryIO) -> NDArray[np.uint8]:
    """An image file of any mode as RGB uint8 [H, W, 3].

    Grey is repeated, a palette looked up, CMYK converted, an alpha channel dropped, 16 bits cut to
    their upper 8. Raises OSError when the file cannot be decoded, ValueError for float images.
    """
    with Image.open(path) as image:
        if image.mode == "F":
            raise ValueError(f"{path} holds floats, whose range nobody knows; save 8 or 16 bits")
        if image.mode.startswith("I"):  # 16-bit grey; Pillow's own conversion would clip at 255
            grey = (np.asarray(image).astype(np.int64).clip(0, 65535) >> 8).astype(np.uint8)
            return np.repeat(grey[:, :, None], 3, axis=2)  # [H, W, 3]
        return np.array(image.convert("RGB"))  # [H, W, 3]


def _check_coco(ground_truth: Any, name: str) -> None:
    if not isinstance(ground_truth, dict):
        raise ValueError(
            f"{name} is not a COCO ground truth: a JSON object with images, annotations and "
            f"categories is needed, this is a {type(ground_truth).__name__} (a results file?)"
        )
    for key, fields in _REQUIRED.items():
        if not isinstance(ground_truth.get(key), list):
            raise ValueError(f"{name} is not a COCO ground truth: no list '{key}'")
        for position, entry in enumerate(ground_truth[key]):
            if not isinstance(entry, dict):
                raise ValueError(f"{name}: {key}[{position}] is not a JSON object")
            for field in fields:
                if field not in entry:
                    raise ValueError(f"{name}: {key}[{position}] has no '{field}'")
    images = {image["id"] for image in ground_truth["images"]}
    if len(images) < len(ground_truth["images"]):
        raise ValueError(f"{name}: two images have the same id")
    categories = {category["id"] for category in ground_truth["categories"]}
    for a in ground_truth["annotations"]:
        if a["image_id"] not in images:
            raise ValueError(f"{name}: annotation {a['id']} has unknown image id {a['image_id']}")
        if a["category_id"] not in categories:
            raise ValueError(
                f"{name}: annotation {a['id']} has unknown category id {a['category_id']}"
            )
