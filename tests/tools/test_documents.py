"""What README.md and the book tell a reader to type works: Python runs, commands parse."""

import re
import shlex
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
import tyro
from PIL import Image

from mrcnn_edu.cli import command_line
from mrcnn_edu.data.shapes import ShapesConfig, generate, write_coco
from tools.notebooks import ROOT

PAGES = ["README.md", "data/README.md", *(str(p.relative_to(ROOT)) for p in ROOT.glob("book/*.md"))]


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / page).read_text("utf-8"), re.S | re.M)


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A folder with everything that the pages name, on a small scale."""
    small = generate(ShapesConfig(image_size=64), 4, seed=5)
    for folder, images, annotations in (
        ("coco", "val2017", "annotations/instances_val2017.json"),
        (".", "images", "annotations.json"),
    ):
        written = write_coco(small, tmp_path / "set", "val")
        (tmp_path / folder / annotations).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(written, tmp_path / folder / annotations)
        shutil.move(tmp_path / "set" / "val", tmp_path / folder / images)
    with zipfile.ZipFile(tmp_path / "stage1_train.zip", "w") as archive:
        for name in ("a", "b"):
            for kind, mode in (("images", "RGBA"), ("masks", "L")):
                picture = Image.new(mode, (30, 20), 0 if mode == "L" else (9, 9, 9, 255))
                if mode == "L":
                    picture.paste(255, (5, 5, 15, 12))
                picture.save(tmp_path / "one.png")
                archive.write(tmp_path / "one.png", f"{name}/{kind}/{name}{kind}.png")
    (tmp_path / "data").symlink_to(ROOT / "data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python")])
def test_the_python_of_a_page_runs_from_top_to_bottom(page, files):
    torch.manual_seed(0)
    names: dict = {"__name__": "page"}
    for i, block in enumerate(blocks(page, "python")):
        exec(compile(block, f"{page}, block {i + 1}", "exec"), names)


def commands(page: str) -> list[str]:
    """Each call of mrcnn-edu in a page's shell blocks, without comments and places to fill in."""
    text = "\n".join(blocks(page, "sh")).replace("\\\n", " ")
    lines = [re.sub(r"\s#.*", "", line).strip() for line in text.splitlines()]
    return [line for line in lines if line.startswith("mrcnn-edu") and "$" not in line]


@pytest.mark.parametrize(
    "line", [line for page in ("README.md", "data/README.md") for line in commands(page)]
)
def test_the_commands_of_a_page_parse(line):
    words = [w.replace("…", "somewhere") for w in shlex.split(line)[1:]]
    tyro.cli(command_line(words), args=words, config=(tyro.conf.OmitSubcommandPrefixes,))


def test_there_is_something_to_try():
    assert len(commands("README.md")) >= 5
    assert sum(len(blocks(p, "python")) for p in PAGES) >= 12


def test_every_name_of_the_packages_face_is_on_its_page():
    import mrcnn_edu

    text = Path(ROOT / "book" / "from_python.md").read_text("utf-8")
    missing = [name for name in mrcnn_edu.__all__ if f"`{name}`" not in text]
    assert not missing
    assert {type(getattr(mrcnn_edu, name)) for name in mrcnn_edu.__all__}
