"""What training and evaluation ask of a data set: a base class for your own.

Four things are yours to say: the classes, the images' ids, one image with its target, and the
ground truth that it is measured against. All else follows from them, and a set that knows a faster
way overrides it, as those of `data.coco` do. Labels are 1..K inside the package; `to_category_id`
leads back to the ids of the file. Chapter 12.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from torch import Tensor

Target = dict[str, Tensor]  # what is in it: `data.coco`


@dataclass(frozen=True)
class Categories:
    """The classes of a data set or a model: label i, from 1, has `ids[i − 1]`, `names[i − 1]`.

    Background, label 0, is not among them.
    """

    ids: tuple[int, ...]
    names: tuple[str, ...]


class Dataset(ABC):
    """Images with targets, and the ground truth they came from.

    A subclass has the attributes `categories` and `image_ids`, and the methods `__getitem__` and
    `ground_truth`. `keypoint_labels` are the labels whose objects have joints, None for all;
    `num_keypoints` is how many joints an object has in its targets, None where that is not known.
    """

    categories: Categories
    image_ids: Sequence[int]
    keypoint_labels: Collection[int] | None = None
    num_keypoints: int | None = None
    has_masks: bool = True  # whether targets do; a set of boxes alone trains models without masks
    left_out: Mapping[str, int] = MappingProxyType({})  # by reason, what no target will hold

    @abstractmethod
    def __getitem__(self, index: int) -> tuple[Tensor, Target]:
        """(image uint8 [3, H, W], target); what is in a target: `data.coco`."""

    @abstractmethod
    def ground_truth(self) -> dict[str, Any]:
        """What an annotation file in COCO's format holds, with every field that evaluation reads.

        It is made anew for each call, so a caller may write into its annotations.
        """

    def __len__(self) -> int:
        return len(self.image_ids)

    @property
    def num_classes(self) -> int:
        """K, without the background."""
        return len(self.categories.ids)

    @property
    def class_names(self) -> list[str]:
        """K names, label 1 first."""
        return list(self.categories.names)

    def to_category_id(self, label: int) -> int:
        """The file's category id of a label in 1..K. Raises ValueError outside that range."""
        if not 1 <= label <= self.num_classes:
            raise ValueError(f"label {label} is not in 1..{self.num_classes} (0 is background)")
        return self.categories.ids[label - 1]

    def target(self, index: int) -> Target:
        """The target alone; override it where that needs no image."""
        return self[index][1]

    def image_size(self, index: int) -> tuple[int, int]:
        """(height, width) of an image; override it where that needs no image."""
        height, width = self[index][0].shape[1:]
        return height, width

    def has_objects(self, index: int) -> bool:
        """Whether there is anything to learn from in an image; override it where that is known."""
        return len(self.target(index)["labels"]) > 0

    def count_objects(self, index: int) -> int | None:
        """How many objects of an image ought to be in its target; None where nobody knows."""
        return None

    def encoded(self, index: int) -> Tensor | None:
        """The bytes of an image's file, uint8 [bytes], where `data.jpeg` can decode them.

        None where it cannot and where there is no file; `__getitem__` then reads the image.
        """
        return None


class InMemory(Dataset):
    """A small data set that keeps each sample, decoded, after the first read.

    Masks take G · H · W bytes an image: the 386 nuclei images about 1 GB. Samples are shared, so
    nobody may write into them; the transforms of this package do not.
    """

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self.categories, self.image_ids = dataset.categories, dataset.image_ids
        self.keypoint_labels = dataset.keypoint_labels
        self.num_keypoints = dataset.num_keypoints
        self.has_masks, self.left_out = dataset.has_masks, dict(dataset.left_out)
        self._samples: dict[int, tuple[Tensor, Target]] = {}

    def __getitem__(self, index: int) -> tuple[Tensor, Target]:
        """(image uint8 [3, H, W], target)."""
        if index not in self._samples:
            self._samples[index] = self.dataset[index]
        return self._samples[index]

    def ground_truth(self) -> dict[str, Any]:
        """That of the set whose samples are kept."""
        return self.dataset.ground_truth()

    def count_objects(self, index: int) -> int | None:
        """How many objects of an image ought to be in its target, as far as the set knows."""
        return self.dataset.count_objects(index)

    def image_size(self, index: int) -> tuple[int, int]:
        """(height, width) of an image, as the set knows it."""
        return self.dataset.image_size(index)

    def has_objects(self, index: int) -> bool:
        """Whether there is anything to learn from in an image, as the set knows it."""
        return self.dataset.has_objects(index)
