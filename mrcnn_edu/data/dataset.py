"""What training and evaluation ask of a data set. Your own set needs these seven things.

`CocoDataset` and `ShapesDataset` have them; any other class that does will train and be measured
just as well. Labels are 1..K inside the package; `to_category_id` leads back to the ids of the
file. Chapter 12.
"""

from typing import Any, Protocol

from torch import Tensor

Target = dict[str, Tensor]  # what is in it: `data.coco`


class Dataset(Protocol):
    """Images with targets, and the ground truth they came from.

    Two options of training ask for more: `skip_empty` for `has_objects(index)`, `aspect_group` for
    `image_size(index)`; see `data.coco`. A third, `decode_on_gpu`, has an effect where the set has
    `encoded(index)`, `target(index)` and `image_size(index)`.
    """

    num_classes: int  # K, without the background
    class_names: list[str]  # K names, label 1 first
    image_ids: list[int]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Tensor, Target]:
        """(image uint8 [3, H, W], target); what is in a target: `data.coco`."""
        ...

    def to_category_id(self, label: int) -> int: ...

    def coco_gt(self) -> Any:
        """The ground truth as a `pycocotools.coco.COCO`."""
        ...


class InMemory:
    """A small data set that keeps each sample, decoded, after the first read.

    Masks take G · H · W bytes an image: the 386 nuclei images about 1 GB. Samples are shared, so
    nobody may write into them; the transforms of this package do not.
    """

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self.num_classes, self.class_names = dataset.num_classes, dataset.class_names
        self.image_ids = dataset.image_ids
        self.keypoint_labels = getattr(dataset, "keypoint_labels", None)
        self._samples: dict[int, tuple[Tensor, Target]] = {}

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Tensor, Target]:
        """(image uint8 [3, H, W], target)."""
        if index not in self._samples:
            self._samples[index] = self.dataset[index]
        return self._samples[index]

    def to_category_id(self, label: int) -> int:
        """The file's category id of a label."""
        return self.dataset.to_category_id(label)

    def coco_gt(self) -> Any:
        """The ground truth as a `pycocotools.coco.COCO`."""
        return self.dataset.coco_gt()
