"""Files as LabelMe, VIA and Label Studio write them, for chapter 12: ``notebooks/own_data``.

``python -m tests.data.annotation_files`` writes them anew; a test holds them to what this module
makes. Each tool's documented format, with the fields that its readers need and those that they must
pass over.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from skimage.measure import approximate_polygon, find_contours

from mrcnn_edu.data.shapes import running_picture

FOLDER = Path(__file__).resolve().parents[2] / "notebooks" / "own_data"
PICTURE = "rings.png"
OBJECTS = [(2, "ring"), (3, "ring"), (6, "star"), (7, "person"), (0, "person")]
BY_RECTANGLE = 0  # the small person: nobody has the patience to outline it

Points = list[tuple[float, float]]
Outline = tuple[str, str, Points]  # class, "polygon" or "rectangle", its points


def outlines() -> list[Outline]:
    """What a person with a steady hand draws around the objects: the outer outline, simplified."""
    _, target = running_picture()
    found: list[Outline] = []
    for index, name in OBJECTS:
        if index == BY_RECTANGLE:
            x1, y1, x2, y2 = target["boxes"][index].tolist()
            found.append((name, "rectangle", [(x1, y1), (x2, y2)]))
            continue
        mask = np.pad(target["masks"][index].numpy(), 1)
        outer = max(find_contours(mask, 0.5), key=len)
        line = approximate_polygon(outer[:, ::-1] - 0.5, 0.35)[:-1].round(2)  # [V, 2]
        found.append((name, "polygon", [(float(x), float(y)) for x, y in line]))
    return found


def labelme(objects: list[Outline], picture: str, size: tuple[int, int]) -> dict[str, Any]:
    """LabelMe 5: one file for each picture."""
    shapes = [
        {
            "label": name,
            "points": [list(p) for p in points],
            "group_id": None,
            "description": "",
            "shape_type": kind,
            "flags": {},
            "mask": None,
        }
        for name, kind, points in objects
    ]
    return {
        "version": "5.5.0",
        "flags": {},
        "shapes": shapes,
        "imagePath": picture,
        "imageData": None,
        "imageHeight": size[0],
        "imageWidth": size[1],
    }


def via(objects: list[Outline], picture: str, byte_count: int) -> dict[str, Any]:
    """VIA 2, "export annotations (as json)": whole pixels, x and y apart."""
    regions = []
    for name, kind, points in objects:
        x, y = ([round(v) for v in values] for values in zip(*points, strict=True))
        shape: dict[str, Any] = {"name": "polygon", "all_points_x": x, "all_points_y": y}
        if kind == "rectangle":
            width, height = x[1] - x[0], y[1] - y[0]
            shape = {"name": "rect", "x": x[0], "y": y[0], "width": width, "height": height}
        regions.append({"shape_attributes": shape, "region_attributes": {"class": name}})
    entry = {"filename": picture, "size": byte_count, "regions": regions, "file_attributes": {}}
    return {f"{picture}{byte_count}": entry}


def label_studio(
    objects: list[Outline], picture: str, size: tuple[int, int]
) -> list[dict[str, Any]]:
    """Label Studio's JSON export: percent of the picture, a list of tasks."""
    results = []
    for k, (name, kind, points) in enumerate(objects):
        percent = [[100 * x / size[1], 100 * y / size[0]] for x, y in points]
        value: dict[str, Any] = {"points": percent, "closed": True, "polygonlabels": [name]}
        if kind == "rectangle":
            (x1, y1), (x2, y2) = percent
            value = {"x": x1, "y": y1, "width": x2 - x1, "height": y2 - y1, "rotation": 0}
            value["rectanglelabels"] = [name]
        results.append(
            {
                "id": f"object{k}",
                "type": f"{kind}labels",
                "value": value,
                "origin": "manual",
                "to_name": "image",
                "from_name": "label",
                "image_rotation": 0,
                "original_width": size[1],
                "original_height": size[0],
            }
        )
    annotation = {"id": 1, "result": results, "was_cancelled": False, "ground_truth": False}
    data = {"image": f"/data/upload/1/3f9a0c17-{picture}"}
    return [{"id": 1, "annotations": [annotation], "predictions": [], "data": data, "project": 1}]


def write(folder: Path) -> None:
    """Write the picture and the three files."""
    image, _ = running_picture()
    pixels = image.permute(1, 2, 0).numpy()
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(folder / PICTURE, optimize=True)
    objects, size = outlines(), pixels.shape[:2]
    contents = {
        "rings.json": labelme(objects, PICTURE, size),
        "via_region_data.json": via(objects, PICTURE, (folder / PICTURE).stat().st_size),
        "label_studio.json": label_studio(objects, PICTURE, size),
    }
    for name, content in contents.items():
        (folder / name).write_text(json.dumps(content, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    write(FOLDER)
