"""Chapter 12's data set of 60 lines, run on files in the formats that three tools document.

The code is the notebook's own: its cells are executed here, as they stand.
"""

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mrcnn_edu.data.check import check_target

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "notebooks" / "12_data.ipynb"
PARTS = ("def corners(", "def via(", "def label_studio(", "class OwnPictures(")


def _by_path(name: str) -> Any:
    """A module beside this one, which is no package."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


tools = _by_path("annotation_files")
NAMES = ["bolt", "nut"]
SQUARE = ("nut", "polygon", [(2.0, 3.0), (12.0, 3.0), (12.0, 9.0), (2.0, 9.0)])
BAR = ("bolt", "rectangle", [(20.0, 4.0), (28.0, 16.0)])


def sources() -> list[str]:
    """The cells of the chapter that define the readers and the data set."""
    cells = json.loads(NOTEBOOK.read_text("utf-8"))["cells"]
    found = ["".join(c["source"]) for c in cells if c["cell_type"] == "code"]
    return [next(text for text in found if part in text) for part in PARTS]


@pytest.fixture(scope="module")
def chapter() -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec("import json\nimport re\nfrom pathlib import Path\nimport numpy as np", names)
    exec("from PIL import Image, ImageOps", names)
    for text in sources():
        exec(compile(text, "<chapter 12>", "exec"), names)
    return names


def picture(folder: Path, name: str = "part.png", size: tuple[int, int] = (20, 32)) -> None:
    Image.fromarray(np.zeros((*size, 3), np.uint8)).save(folder / name)


def read(chapter: dict[str, Any], reader: str, path: Path, **options: Any) -> Any:
    return chapter["OwnPictures"](path.parent, list(chapter[reader](path, **options)), NAMES)


def write(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content), "utf-8")
    return path


def test_the_data_set_has_at_most_sixty_lines() -> None:
    lines = "\n".join(sources()).splitlines()
    own = [line for line in lines if line.strip() and not line.startswith(("import", "from"))]
    assert len(own) <= 60, len(own)


def test_the_files_beside_the_notebook_are_those_of_the_generator(tmp_path: Path) -> None:
    tools.write(tmp_path)
    for new in tmp_path.iterdir():
        old = tools.FOLDER / new.name
        if new.suffix == ".json":
            assert json.loads(old.read_text()) == json.loads(new.read_text()), new.name
        else:
            assert np.array_equal(np.asarray(Image.open(old)), np.asarray(Image.open(new)))
    assert {p.name for p in tools.FOLDER.iterdir()} == {p.name for p in tmp_path.iterdir()}


@pytest.mark.parametrize("reader", ["labelme", "via", "label_studio"])
def test_each_format_gives_the_same_target(chapter, tmp_path: Path, reader: str) -> None:
    picture(tmp_path)
    objects, size = [SQUARE, BAR], (20, 32)
    content = {
        "labelme": tools.labelme(objects, "part.png", size),
        "via": tools.via(objects, "part.png", 99),
        "label_studio": tools.label_studio(objects, "part.png", size),
    }[reader]
    own = read(chapter, reader, write(tmp_path / "file.json", content))
    image, target = own[0]
    check_target(image, target, own.num_classes)
    assert image.shape == (3, 20, 32)
    assert target["labels"].tolist() == [2, 1]
    wanted = torch.tensor([[2.0, 3, 12, 9], [20, 4, 28, 16]])
    torch.testing.assert_close(target["boxes"], wanted)
    assert target["masks"].sum((1, 2)).tolist() == [60, 96]
    assert own.class_names == NAMES


def test_labelme_shapes_of_a_group_are_one_object(chapter, tmp_path: Path) -> None:
    picture(tmp_path)
    content = tools.labelme([SQUARE, ("nut", *BAR[1:]), BAR], "part.png", (20, 32))
    for shape in content["shapes"][:2]:
        shape["group_id"] = 5
    own = read(chapter, "labelme", write(tmp_path / "part.json", content))
    assert own[0][1]["labels"].tolist() == [2, 1]
    assert own[0][1]["masks"].sum((1, 2)).tolist() == [156, 96]


def test_labelme_rectangles_may_be_drawn_from_any_corner(chapter, tmp_path: Path) -> None:
    picture(tmp_path)
    turned = ("bolt", "rectangle", [(28.0, 16.0), (20.0, 4.0)])
    content = tools.labelme([turned], "part.png", (20, 32))
    own = read(chapter, "labelme", write(tmp_path / "part.json", content))
    assert own[0][1]["boxes"].tolist() == [[20, 4, 28, 16]]


def test_via_projects_and_version_1(chapter, tmp_path: Path) -> None:
    picture(tmp_path)
    plain = tools.via([SQUARE, BAR], "part.png", 99)
    project = {"_via_settings": {}, "_via_img_metadata": plain, "_via_attributes": {}}
    own = read(chapter, "via", write(tmp_path / "project.json", project))
    assert own[0][1]["labels"].tolist() == [2, 1]
    (entry,) = plain.values()
    entry["regions"] = {str(k): region for k, region in enumerate(entry["regions"])}
    own = read(chapter, "via", write(tmp_path / "version1.json", plain))
    assert own[0][1]["labels"].tolist() == [2, 1]
    for region in entry["regions"].values():
        region["region_attributes"] = {"kind": region["region_attributes"]["class"]}
    own = read(chapter, "via", write(tmp_path / "kind.json", plain), attribute="kind")
    assert own[0][1]["labels"].tolist() == [2, 1]


def test_pictures_without_objects_stay(chapter, tmp_path: Path) -> None:
    picture(tmp_path)
    own = read(chapter, "via", write(tmp_path / "file.json", tools.via([], "part.png", 99)))
    image, target = own[0]
    check_target(image, target, 2)
    assert target["masks"].shape == (0, 20, 32)


@pytest.mark.parametrize("reader", ["labelme", "via", "label_studio"])
def test_what_is_no_outline_is_refused_in_a_sentence(chapter, tmp_path: Path, reader: str) -> None:
    picture(tmp_path)
    labelme = tools.labelme([SQUARE], "part.png", (20, 32))
    labelme["shapes"][0]["shape_type"] = "circle"
    via = tools.via([SQUARE], "part.png", 99)
    next(iter(via.values()))["regions"][0]["shape_attributes"]["name"] = "ellipse"
    studio = tools.label_studio([BAR], "part.png", (20, 32))
    studio[0]["annotations"][0]["result"][0]["value"]["rotation"] = 30
    content = {"labelme": labelme, "via": via, "label_studio": studio}[reader]
    with pytest.raises(ValueError, match="no outline"):
        read(chapter, reader, write(tmp_path / "file.json", content))


def test_a_turned_photo_is_read_upright(chapter, tmp_path: Path) -> None:
    note = Image.Exif()
    note[274] = 6
    stored = Image.fromarray(np.zeros((32, 20, 3), np.uint8))
    stored.save(tmp_path / "part.jpg", exif=note)
    content = tools.labelme([SQUARE], "part.jpg", (20, 32))
    own = read(chapter, "labelme", write(tmp_path / "part.json", content))
    assert own[0][0].shape == (3, 20, 32)
