"""What several commands share: where data comes from, which device, whose mistake an error is."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from mrcnn_edu.errors import UserError

if TYPE_CHECKING:
    from mrcnn_edu.data.dataset import Dataset

Device = Annotated[str, tyro.conf.arg(help="cpu, cuda or cuda:1")]


@contextmanager
def mistakes_of_the_user() -> Iterator[None]:
    """What the data package raises about files and their content is the user's to put right."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise UserError(str(error)) from error


def find_device(name: str) -> str:
    """Return `name` if PyTorch finds that device here; else say what can be done."""
    import torch

    try:
        kind = torch.device(name).type
    except RuntimeError as error:
        raise UserError(f"There is no device {name!r}; use cpu, cuda or cuda:1.") from error
    if kind not in ("cpu", "cuda"):
        raise UserError(
            f"The device {name!r} is not one that this library runs on; use cpu, cuda or cuda:1."
        )
    if kind == "cuda" and not torch.cuda.is_available():
        raise UserError("PyTorch finds no CUDA GPU here. Leave --device out to run on the CPU.")
    if kind == "cuda" and (torch.device(name).index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"There is no device {name!r}: PyTorch finds {torch.cuda.device_count()} GPUs, which "
            "count from cuda:0."
        )
    return name


@dataclass
class Data:
    """Where images come from: the generated Shapes set, or any set in COCO's format."""

    images: Path | None = None
    """Folder of images; leave it out for Shapes."""
    annotations: Path | None = None
    """COCO instances JSON that belongs to the images."""
    skip_bad_annotations: bool = False
    """Leave single annotations out whose fields or outlines are wrong, instead of refusing."""

    def load(self, split: Literal["train", "val"]) -> "Dataset":
        """Return the data set; without paths the default Shapes set of `split`."""
        from mrcnn_edu.data.coco import CocoDataset
        from mrcnn_edu.data.shapes import ShapesDataset, default_set

        if self.images is None and self.annotations is None:
            return ShapesDataset(default_set(split))
        if self.images is None or self.annotations is None:
            raise UserError("Give both --images and --annotations, or neither (Shapes).")
        with mistakes_of_the_user():
            return CocoDataset(self.images, self.annotations, skip_broken=self.skip_bad_annotations)
