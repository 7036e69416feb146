"""Some images of a data set in COCO format, as a data set of their own. Chapter 12."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mrcnn_edu.data.coco import CocoFormatDataset


class Subset(CocoFormatDataset):
    """The images at `indices` of `whole`, with all classes of the whole set.

    Raises IndexError for an index that the whole set has not.
    """

    def __init__(self, whole: CocoFormatDataset, indices: Iterable[int]) -> None:
        self.whole = whole
        images = [whole.images[i] for i in indices]
        ids = {image["id"] for image in images}
        truth = whole.ground_truth()
        annotations = [a for a in truth["annotations"] if a["image_id"] in ids]
        super().__init__(
            truth | {"images": images, "annotations": annotations}, whole.name, whole.keep_crowd
        )
        self.has_masks = whole.has_masks  # of a part without objects it could not be told
        place = {image_id: i for i, image_id in enumerate(whole.image_ids)}
        self._places = [place[i] for i in self.image_ids]

    def load_image(self, index: int) -> NDArray[np.uint8]:
        """RGB uint8 [H, W, 3]."""
        return self.whole.load_image(self._places[index])

    def encoded(self, index: int) -> Tensor | None:
        """The bytes of the file, where the whole set has them."""
        return self.whole.encoded(self._places[index])
