"""The prediction in README.md: `python -m tools.readme_pictures` writes figures/prediction.png.

The model that ships with the course, on images of the validation set that it was not trained on:
the ground truth above, the detections below.
"""

from io import BytesIO

import numpy as np
import torch
from PIL import Image

from mrcnn_edu.data.shapes import ShapesDataset, default_set
from mrcnn_edu.evaluation.predict import predict
from mrcnn_edu.files import write_atomically
from mrcnn_edu.pictures.overlay import draw_detections, draw_target
from mrcnn_edu.weights.checkpoint import load_model
from tools.notebooks import ROOT

IMAGES = (90, 17, 42)  # the first is the one of chapter 00; the others were not chosen


def main() -> None:
    """Draw and write."""
    torch.set_num_threads(1)
    loaded = load_model(ROOT / "data" / "tiny_fpn_shapes.safetensors")
    names = loaded.categories.names
    dataset = ShapesDataset(default_set("val"))
    images, targets = zip(*(dataset[i] for i in IMAGES), strict=True)
    columns = [
        np.concatenate(
            [draw_target(image, target, names, 3), draw_detections(image, d, names, scale=3)]
        )
        for image, target, d in zip(images, targets, predict(loaded.model, images), strict=True)
    ]
    picture = Image.fromarray(np.concatenate(columns, axis=1))
    file = BytesIO()
    small = picture.quantize(256, kmeans=4, dither=Image.Dither.NONE)
    small.save(file, "PNG", optimize=True)
    write_atomically(ROOT / "figures" / "prediction.png", file.getvalue())
    print(f"figures/prediction.png: {len(file.getvalue()) / 1e3:.0f} kB, {picture.size}")


if __name__ == "__main__":
    main()
