"""``--weights`` in predict, evaluate and train, with files of torchvision's kind."""

import json
import tempfile
from pathlib import Path

import pytest
import torch
from PIL import Image

from mrcnn_edu.cli import main
from mrcnn_edu.data.shapes import ShapesConfig, generate, write_coco
from tests.cli.test_cli import refuse
from tests.weights.test_torchvision import theirs


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes")
    write_coco(generate(ShapesConfig(image_size=64), 2, 0), folder, "train")
    return f"--images {folder / 'train'} --annotations {folder}/annotations/instances_train.json"


@pytest.fixture(scope="module")
def files():
    """Random detectors as torchvision saves them: ten classes as Shapes, and one without masks."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("r50_fpn", "faster_r50_fpn"):
            torch.save(theirs(name, 11).state_dict(), Path(folder) / f"{name}.pth")
        yield Path(folder)


@pytest.mark.parametrize("name", ["r50_fpn", "faster_r50_fpn"])
def test_predict_with_weights_of_torchvision(files, tmp_path, name):
    photo = tmp_path / "photo.png"
    Image.effect_noise((60, 40), 90).save(photo)
    out = tmp_path / "out"
    main(["predict", str(photo), "--weights", str(files / f"{name}.pth"), "--out", str(out)])
    found = json.loads((out / "photo_detections.json").read_text())
    assert [c["name"] for c in found["categories"]] == [f"class {i}" for i in range(1, 11)]
    assert all(("segmentation" in a) == (name == "r50_fpn") for a in found["annotations"])
    assert (out / "photo_detections.png").exists()


def test_evaluate_weights_on_a_set_of_as_many_classes(files, shapes, capsys):
    main(["evaluate", "--weights", str(files / "r50_fpn.pth"), *shapes.split()])
    assert "2 images" in capsys.readouterr().out


def test_one_of_the_two_must_be_given(files, tmp_path, capsys, shapes):
    weights = str(files / "r50_fpn.pth")
    assert "Give --checkpoint or --weights" in refuse(capsys, "predict", "x.png")
    both = refuse(capsys, "predict", "x.png", "--weights", weights, "--checkpoint", tmp_path)
    assert "one of the two" in both
    said = refuse(capsys, "predict", "x.png", "--checkpoint", tmp_path, "--preset", "r50_fpn")
    assert "belong to --weights" in said
    other = refuse(capsys, "predict", "x.png", "--weights", weights, "--preset", "r101_fpn")
    assert "It fits the preset r50_fpn" in other


def test_train_from_weights_says_what_it_takes(files, shapes, tmp_path, capsys):
    """From other classes: a step is taken, the backbone has not moved, the log says what is new."""
    weights = files / "r50_fpn.pth"
    run = tmp_path / "run"
    options = "--preset r50_fpn --steps 1 --batch-size 1 --short-side 64 --average-decay 0"
    main([*f"train --out {run} --weights {weights} {options}".split(), *shapes.split()])
    printed = capsys.readouterr().out
    assert "tensors taken from" in printed
    from mrcnn_edu.weights.checkpoint import load_model

    state = load_model(run).model.state_dict()
    theirs_state = torch.load(weights, weights_only=True)
    stem = theirs_state["backbone.body.conv1.weight"]  # frozen
    assert torch.equal(state["backbone.stem.0.weight"], stem)
    mean = theirs_state["backbone.body.layer4.2.bn3.running_mean"]
    assert torch.equal(state["backbone.stages.3.2.bn3.running_mean"], mean)
