"""What users really type and have: no argument, odd names, odd values, many pictures, bad ones."""

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mrcnn_edu.cli import main
from mrcnn_edu.cli.evaluate import _check_classes
from mrcnn_edu.cli.predict import find_pictures, output_files
from mrcnn_edu.cli.terminal import visible
from mrcnn_edu.data.coco import CocoFormatDataset
from mrcnn_edu.data.dataset import Categories
from mrcnn_edu.errors import UserError
from mrcnn_edu.model import MaskRCNN
from mrcnn_edu.pictures.overlay import overlay
from mrcnn_edu.weights.checkpoint import save_model
from tests.data.test_coco_types import truth
from tests.fake_data import small_config


def code_of(*arguments: object) -> int:
    """The exit code; a traceback of any other kind fails the test."""
    try:
        main([str(a) for a in arguments])
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return 0


def write(folder: Path, content: dict) -> list[object]:
    (folder / "images").mkdir(exist_ok=True)
    for image in content["images"]:
        Image.new("RGB", (64, 64), (90, 20, 30)).save(folder / "images" / image["file_name"])
    (folder / "g.json").write_text(json.dumps(content))
    return ["--images", folder / "images", "--annotations", folder / "g.json"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    config = small_config(num_classes=2)
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_model(path, MaskRCNN(config).state_dict(), config, Categories((1, 2), ("disc", "box")), 1)
    return path


def test_without_arguments_the_commands_are_listed(capsys):
    assert code_of() == 0
    assert "quickstart" in capsys.readouterr().out


def test_names_are_printed_as_they_are_and_no_escape_sequence_reaches_the_terminal(
    tmp_path, capsys
):
    content = truth()
    content["categories"][0]["name"] = "bottle [/cap]"
    content["categories"][1]["name"] = "can [old]\x1b[31m\u202e"
    assert code_of("data", "check", *write(tmp_path, content)) == 0
    printed = capsys.readouterr().out
    assert "bottle [/cap]" in printed
    assert r"can [old]\x1b[31m\u202e" in printed
    assert "\x1b" not in printed
    content["annotations"][0]["segmentation"] = [[0, 0, 64, 0, 64, 64, 0, 64]]
    write(tmp_path, content)
    assert code_of("data", "check", *write(tmp_path, content)) == 1
    assert "is the box [x1, y1, x2, y2]?" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Ω × 瓶 🍾 é", "Ω × 瓶 🍾 é"),
        ("a\tb\nc", "a\tb\nc"),
        ("\r\x07\x9b", r"\r\x07\x9b"),
        ("\udc80", r"\udc80"),
        ("नमस्ते क्‍ष", "नमस्ते क्‍ष"),  # its joiner is a part of the word
    ],
)
def test_what_is_visible(text, shown):
    assert visible(text) == shown


def test_a_stream_that_is_not_utf8_gets_question_marks(tmp_path, monkeypatch):
    content = truth()
    content["categories"][0]["name"] = "瓶子"
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    assert code_of("data", "check", *write(tmp_path, content)) == 0
    stream.flush()
    assert b"64?64" in stream.buffer.getvalue()


def test_check_exits_with_1_where_there_is_a_problem(tmp_path, capsys):
    content = truth()
    content["annotations"][0]["segmentation"] = []
    data = write(tmp_path, content)
    assert code_of("data", "check", *data) == 1
    assert "1 problems" in capsys.readouterr().out
    assert code_of("data", "check", *data, "--skip-bad-annotations") == 0
    assert "left out of the targets: 1 broken annotations" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--short-side", "-5"),
        ("--flip-probability", "7"),
        ("--weight-decay", "nan"),
        ("--checkpoint-seconds", "nan"),
        ("--skip-nonfinite", "-1"),
        ("--warmup-steps", "-5"),
        ("--learning-rate", "-1"),
        ("--learning-rate", "nan"),
        ("--epochs", "nan"),
        ("--crop", "-5"),
        ("--momentum", "1.5"),
        ("--device", "mps"),
        ("--device", "xpu"),
    ],
)
def test_values_out_of_range_are_refused(tmp_path, capsys, option, value):
    data = write(tmp_path, truth())
    run = tmp_path / "run"
    assert code_of("train", *data, "--steps", 1, "--out", run, option, value) in (1, 2)
    assert not run.exists()
    printed = capsys.readouterr()
    assert value in printed.err + printed.out


def test_classes_in_another_order_are_said_to_be_so():
    content = truth()
    content["categories"] = [{"id": 1, "name": "box"}, {"id": 2, "name": "disc"}]
    dataset = CocoFormatDataset(content, "g")
    with pytest.raises(UserError, match="in another order"):
        _check_classes(("disc", "box"), dataset)
    with pytest.raises(UserError, match="The checkpoint knows 2 classes"):
        _check_classes(("disc", "ring"), dataset)
    _check_classes(("box", "disc"), dataset)


def test_pictures_are_files_folders_and_patterns(tmp_path):
    for name in ("b.png", "a.jpg", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    a, b = tmp_path / "a.jpg", tmp_path / "b.png"
    assert find_pictures([tmp_path]) == [a, b]
    assert find_pictures([b, tmp_path]) == [b, a]
    assert find_pictures([tmp_path / "*.png"]) == [b]
    assert find_pictures([tmp_path / "gone.png"]) == [tmp_path / "gone.png"]  # said when read
    for nothing, message in ([], "at least one"), ([tmp_path / "*.tif"], "No file fits"):
        with pytest.raises(UserError, match=message):
            find_pictures(nothing)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no image"):
        find_pictures([tmp_path / "empty"])


def test_no_picture_is_written_over(tmp_path):
    inputs = [tmp_path / "x.png", tmp_path / "x_detections.png"]
    with pytest.raises(UserError, match=r"over the picture .*x_detections\.png"):
        output_files(inputs, tmp_path)
    with pytest.raises(UserError, match="same name"):
        output_files([tmp_path / "x.png", tmp_path / "x.jpg"], tmp_path / "out")
    assert output_files(inputs, tmp_path / "out")[inputs[0]][0].name == "x_detections.png"


def test_one_bad_picture_does_not_stop_the_good_ones(checkpoint, tmp_path, capsys):
    photos = tmp_path / "photos"
    photos.mkdir()
    exif = Image.Exif()
    exif[0x112] = 6
    Image.fromarray(np.full((48, 64, 3), 90, np.uint8)).save(photos / "a.jpg", exif=exif)
    (photos / "b.png").write_bytes(b"no picture")
    Image.new("RGB", (40, 30)).save(photos / "c.png")
    out = tmp_path / "out"
    assert code_of("predict", photos, "--checkpoint", checkpoint, "--out", out) == 1
    printed = capsys.readouterr()
    assert "1 of 3 pictures could not be read" in printed.err
    assert "Cannot read" in printed.out
    for name, size in (("a", (48, 64)), ("c", (40, 30))):  # upright, as viewers show it
        (image,) = json.loads((out / f"{name}_detections.json").read_text())["images"]
        assert (image["width"], image["height"]) == size
    assert not (out / "b_detections.json").exists()


def test_results_with_polygons_are_drawn_too(tmp_path, capsys):
    data = write(tmp_path, truth())
    found = [
        {"image_id": i, "category_id": 1 + i % 2, "bbox": [16, 16, 24, 24], "score": 0.9}
        | {"segmentation": [[16, 16, 40, 16, 40, 40, 16, 40]]}
        for i in (1, 2, 3)
    ]
    (tmp_path / "r.json").write_text(json.dumps(found))
    out = tmp_path / "out"
    assert code_of("evaluate", "--results", tmp_path / "r.json", *data, "--out", out) == 0
    assert (out / "examples.png").exists()
    assert json.loads((out / "metrics.json").read_text())["mask"]["AP"] == 100


def test_boxes_alone_are_measured_from_the_command_line(tmp_path, capsys):
    content = truth()
    for a in content["annotations"]:
        del a["segmentation"]
    (tmp_path / "g.json").write_text(json.dumps(content))
    found = [
        {"image_id": i, "category_id": 1 + i % 2, "bbox": [16, 16, 24, 24], "score": 0.9}
        for i in (1, 2, 3)
    ]
    (tmp_path / "r.json").write_text(json.dumps(found))
    command = ["evaluate", "--results", tmp_path / "r.json", "--annotations", tmp_path / "g.json"]
    assert code_of(*command) == 0
    printed = capsys.readouterr().out
    assert "100.0" in printed
    assert "mask" not in printed
    found[0]["image_id"] = [1]
    (tmp_path / "r.json").write_text(json.dumps(found))
    assert code_of(*command) == 1
    assert "without quotes or brackets" in capsys.readouterr().err


def test_names_that_the_font_cannot_draw_are_told_apart():
    def label(text: str) -> np.ndarray:
        blank = torch.zeros(3, 96, 96, dtype=torch.uint8)
        boxes, masks = torch.tensor([[10.0, 40, 80, 80]]), torch.zeros(1, 96, 96)
        return np.asarray(overlay(blank, boxes, [text], masks, [0]))

    assert (label("瓶子") != label("椅子")).any()
    assert (label("café") == label("cafe")).all()
    assert (label("Ж") != label("Ш")).any()


def test_world_size_without_rank_is_a_sentence():
    code = "from mrcnn_edu.processes import processes\nwith processes('cpu'): pass"
    environment = {k: v for k, v in os.environ.items() if k not in ("RANK", "LOCAL_RANK")}
    for size in ("2", "two"):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False,
            env=environment | {"WORLD_SIZE": size},
        )  # fmt: skip
        assert done.returncode == 1
        assert "start several processes with torchrun" in done.stderr


@pytest.mark.parametrize(
    "command",
    ["quickstart", "train", "evaluate", "predict", "ablate", "config"]
    + [f"data {name}" for name in ("check", "shapes", "nuclei", "coco", "rehearsal")],
)
def test_every_option_has_a_help_text(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert code_of(*command.split(), "--help") == 0
    text = capsys.readouterr().out
    assert "usage: mrcnn-edu" in text
    bare = re.findall(r"│ (--[^│]*?[A-Z}\]])\s*(?:│\n│)?\s{2,}\((?:default|required)", text)
    bare += re.findall(r"│ (--[a-z-]+, --no-[a-z-]+)\s*(?:│\n│)?\s{2,}\((?:default|required)", text)
    assert bare == []
