"""`mrcnn-edu predict`: pictures with their detections drawn, and a COCO file of each."""

import glob
import io
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from mrcnn_edu.cli.common import Device, find_device
from mrcnn_edu.cli.terminal import say
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
    """Image files, folders of them, or patterns such as "photos/*.jpg"."""
    trained: tyro.conf.OmitArgPrefixes[Trained] = field(default_factory=Trained)
    out: Path = Path("runs/predict")
    """Where NAME_detections.png and NAME_detections.json go."""
    min_score: float = 0.5
    """Detections below this score are not drawn; the JSON holds them all."""
    device: Device = "cpu"

    def run(self) -> None:
        """Run the command."""
        from tqdm.auto import tqdm

        if not self.min_score >= 0:  # NaN too; above 1 draws nothing
            raise UserError(f"--min-score is {self.min_score}; scores lie in 0..1.")
        paths = find_pictures(self.pictures)
        outputs = output_files(paths, self.out)
        loaded = self.trained.load()
        loaded.model.to(find_device(self.device))
        bad = 0
        bar = tqdm(paths, desc="predicting", unit="picture", disable=len(paths) == 1, leave=False)
        for path in bar:
            try:
                line = self._predict(path, outputs[path], loaded)
            except _Unreadable as error:
                if len(paths) == 1:
                    raise UserError(f"{error}.") from error
                bad += 1  # the others can still be done
                line = f"{error}; it is passed over."
            with tqdm.external_write_mode():
                say(line)
        if bad:
            raise UserError(
                f"{bad} of {len(paths)} pictures could not be read; they are named above."
            )

    def _predict(self, path: Path, outputs: tuple[Path, Path], loaded: "LoadedModel") -> str:
        """Detect in one picture and write both files; returns what there is to say."""
        from mrcnn_edu.data.pixels import read_rgb
        from mrcnn_edu.evaluation.predict import predict
        from mrcnn_edu.evaluation.report import draw_results
        from mrcnn_edu.pictures.overlay import to_image

        try:
            image = to_image(read_rgb(path, upright=True, refuse_dark=True))
        except (ValueError, OSError) as error:
            raise _Unreadable(f"Cannot read {path} as an image ({error})") from error
        found = predict(loaded.model, [image])[0]
        png, coco = outputs
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
        return (
            f"{path}: {len(found.scores)} detections, {shown} with a score of at least "
            f"{self.min_score} drawn in {png}"
        )


class _Unreadable(Exception):
    """A picture that cannot be read: what is wrong with it."""


def find_pictures(named: Iterable[Path]) -> list[Path]:
    """The image files that were named: files, those in folders, those that fit a pattern.

    Raises:
        UserError: a folder holds no image, a pattern fits none, or nothing was named.
    """
    from PIL import Image

    suffixes = Image.registered_extensions()
    found: list[Path] = []
    for path in named:
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.suffix.lower() in suffixes)
            if not inside:
                raise UserError(f"The folder {path} holds no image.")
            found += inside
        elif not path.exists() and glob.has_magic(str(path)):
            fitting = sorted(Path(p) for p in glob.glob(str(path), recursive=True))
            if not fitting:
                raise UserError(f"No file fits {path}.")
            found += fitting
        else:
            found.append(path)
    if not found:
        raise UserError("Name at least one picture: mrcnn-edu predict PHOTO.jpg --checkpoint …")
    return list(dict.fromkeys(found))


def output_files(paths: Iterable[Path], folder: Path) -> dict[Path, tuple[Path, Path]]:
    """Where the PNG and the JSON of each picture go.

    Raises:
        UserError: two pictures would write one file, or one would write over another picture.
    """
    paths = list(paths)
    inputs = {path.resolve() for path in paths}
    outputs: dict[Path, tuple[Path, Path]] = {}
    owner: dict[str, Path] = {}
    for path in paths:
        if path.stem in owner:
            raise UserError(
                f"{owner[path.stem]} and {path} have the same name; their results would be one "
                "file. Give them one after the other, each with its own --out."
            )
        owner[path.stem] = path
        # Not with_suffix: a stem may hold dots of its own, as in photo.v2.jpg.
        png, coco = (folder / f"{path.stem}_detections.{kind}" for kind in ("png", "json"))
        if png.resolve() in inputs:
            raise UserError(
                f"What is found in {path} would be written over the picture {png}. Choose another "
                "folder with --out."
            )
        outputs[path] = png, coco
    return outputs


def _coco_json(
    path: Path, image: "Tensor", found: "Detections", loaded: "LoadedModel"
) -> dict[str, Any]:
    """The detections of one picture as a COCO file: what pycocotools' `COCO(path)` reads."""
    from mrcnn_edu import run_lengths
    from mrcnn_edu.evaluation.coco_format import to_coco

    categories = loaded.categories
    size = (image.shape[1], image.shape[2])
    results = to_coco(found, 1, size, lambda label: categories.ids[label - 1], loaded.model.config)
    for number, result in enumerate(results, start=1):
        if "segmentation" in result:
            area = float(run_lengths.area(result["segmentation"]))
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
