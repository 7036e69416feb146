"""`mrcnn-edu predict`: a picture with its detections drawn, and a COCO file of them."""

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from rich.console import Console

from mrcnn_edu.cli.common import Device, find_device
from mrcnn_edu.cli.trained import Trained
from mrcnn_edu.errors import UserError
from mrcnn_edu.files import write_atomically, write_json

if TYPE_CHECKING:
    from torch import Tensor

    from mrcnn_edu.record import Detections
    from mrcnn_edu.weights.checkpoint import LoadedModel


@dataclass
class Predict:
    """Detect objects in pictures: for each a PNG with the detections, and a COCO JSON."""

    pictures: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Image files."""
    trained: tyro.conf.OmitArgPrefixes[Trained] = field(default_factory=Trained)
    out: Path = Path("runs/predict")
    """Where NAME_detections.png and NAME_detections.json go."""
    min_score: float = 0.5
    """Detections below this score are not drawn; the JSON holds them all."""
    device: Device = "cpu"

    def run(self) -> None:
        """Run the command."""
        from mrcnn_edu.data.coco import read_rgb
        from mrcnn_edu.evaluation.predict import predict
        from mrcnn_edu.evaluation.report import draw_results
        from mrcnn_edu.pictures.overlay import to_image

        if not self.pictures:
            raise UserError("Name at least one picture: mrcnn-edu predict PHOTO.jpg --checkpoint …")
        stems = [path.stem for path in self.pictures]
        if len(set(stems)) < len(stems):
            raise UserError("Two pictures have the same name; their results would be one file.")
        loaded = self.trained.load()
        loaded.model.to(find_device(self.device))
        for path in self.pictures:
            try:
                image = to_image(read_rgb(path))
            except (ValueError, OSError, SyntaxError) as error:
                raise UserError(f"Cannot read {path} as an image ({error}).") from error
            found = predict(loaded.model, [image])[0]
            # Not with_suffix: a stem may hold dots of its own, as in photo.v2.jpg.
            png, coco = (self.out / f"{path.stem}_detections.{kind}" for kind in ("png", "json"))
            try:
                content = _coco_json(path, image, found, loaded)
                write_json(coco, content)
                picture = io.BytesIO()
                scale = max(1, 512 // max(image.shape[1:]))
                draw_results(
                    image, content["annotations"], loaded.categories, self.min_score, scale
                ).save(picture, format="PNG")
                write_atomically(png, picture.getvalue())
            except OSError as error:
                raise UserError(
                    f"Cannot write to {self.out} ({error}). Choose a folder with --out."
                ) from error
            shown = int((found.scores >= self.min_score).sum())
            Console().print(
                f"{path}: {len(found.scores)} detections, {shown} with a score of at least "
                f"{self.min_score} drawn in {png}",
                highlight=False,
                soft_wrap=True,
            )


def _coco_json(
    path: Path, image: "Tensor", found: "Detections", loaded: "LoadedModel"
) -> dict[str, Any]:
    """The detections of one picture as a COCO file: what pycocotools' `COCO(path)` reads."""
    from mrcnn_edu import masks as mask_ops
    from mrcnn_edu.evaluation.coco_format import to_coco

    categories = loaded.categories
    size = (image.shape[1], image.shape[2])
    results = to_coco(found, 1, size, lambda label: categories.ids[label - 1], loaded.model.config)
    for number, result in enumerate(results, start=1):
        if "segmentation" in result:
            area = float(mask_ops.decode(result["segmentation"]).sum())
        else:  # a model without masks
            area = result["bbox"][2] * result["bbox"][3]
        result.update(id=number, iscrowd=0, area=area)
    return {
        "images": [{"id": 1, "file_name": path.name, "height": size[0], "width": size[1]}],
        "annotations": results,
        "categories": [
            {"id": i, "name": name}
            for i, name in zip(categories.ids, categories.names, strict=True)
        ],
    }
