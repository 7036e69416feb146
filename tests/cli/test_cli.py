"""The command line: each command once on small data, and each mistake answered with a sentence."""

import contextlib
import dataclasses
import io
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO

from mrcnn_edu import masks
from mrcnn_edu.cli import main
from mrcnn_edu.cli.train import Train
from mrcnn_edu.config import ModelConfig, from_json
from mrcnn_edu.data.dataset import Categories
from mrcnn_edu.model import MaskRCNN
from mrcnn_edu.presets import TINY_FPN
from mrcnn_edu.training.config import RECIPES, TrainConfig
from mrcnn_edu.training.run_log import read_evaluations
from mrcnn_edu.training.schedule import scale_to_batch
from mrcnn_edu.weights.checkpoint import load_model, save_model
from tests.fake_data import small_config

DATA = os.environ.get("MRCNN_DATA")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """An untrained model that detects something in every picture."""
    torch.manual_seed(0)
    model = MaskRCNN(small_config())
    with torch.no_grad():
        model.box_head.classes.weight.mul_(5)
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    names = tuple(f"class{i}" for i in range(10))
    save_model(path, model.state_dict(), model.config, Categories(tuple(range(1, 11)), names), 3)
    return path


def refuse(capsys, *arguments: object) -> str:
    """Run a command that must fail with exit code 1 and one sentence; return the sentence."""
    with pytest.raises(SystemExit) as caught:
        main([str(a) for a in arguments])
    assert caught.value.code == 1
    printed = capsys.readouterr().err
    assert "Traceback" not in printed
    message = printed.split("\r")[-1]  # behind a progress bar
    assert message.startswith("mrcnn-edu: ")
    return message


def test_shapes_are_written_checked_trained_and_measured(tmp_path, capsys):
    sets = tmp_path / "shapes"
    for split, seed in (("train", 1), ("val", 2)):
        main(
            f"data shapes --out {sets} --split {split} --count 4 --seed {seed} "
            "--image-size 64".split()
        )
    files = {
        split: f"--images {sets / split} "
        f"--annotations {sets / 'annotations'}/instances_{split}.json".split()
        for split in ("train", "val")
    }
    main(["data", "check", *files["train"]])
    run = tmp_path / "run"
    main([*f"train --out {run} --steps 2 --batch-size 2 --short-side 64".split(), *files["train"]])
    out = tmp_path / "evaluation"
    main(["evaluate", "--checkpoint", str(run), *files["val"], "--out", str(out)])
    printed = capsys.readouterr().out
    assert "4 images" in printed
    numbers = {f"{name}.json" for name in ("detections", "metrics", "classes", "errors", "curves")}
    assert numbers | {"examples.png", "curves.png"} == {p.name for p in out.iterdir()}
    assert set(json.loads((out / "metrics.json").read_text())) == {"box", "mask"}
    assert "mrcnn-edu: " in refuse(
        capsys, "data", "shapes", "--out", sets, "--split", "val", "--count", 4
    )  # never overwrites


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "CMYK"])
def test_predict_writes_a_picture_and_json(checkpoint, tmp_path, mode):
    size = (90, 70)
    noise = Image.effect_noise(size, 90).convert("RGB").convert(mode)
    photo = tmp_path / ("photo.tif" if mode == "CMYK" else "photo.png")
    noise.save(photo)
    main(["predict", str(photo), "--checkpoint", str(checkpoint), "--out", str(tmp_path / "out")])
    with contextlib.redirect_stdout(io.StringIO()):
        found = COCO(tmp_path / "out/photo_detections.json")
    (image,) = found.loadImgs(found.getImgIds())
    assert (image["width"], image["height"], image["file_name"]) == (*size, photo.name)
    assert found.anns
    for d in found.anns.values():
        assert found.cats[d["category_id"]]["name"] == f"class{d['category_id'] - 1}"
        assert 0 < d["score"] <= 1
        assert int(found.annToMask(d).sum()) == d["area"]
    with Image.open(tmp_path / "out/photo_detections.png") as picture:
        assert picture.mode == "RGB"
        assert picture.width % 90 == 0


def test_predict_pastes_the_masks_of_a_picture_once(checkpoint, tmp_path, monkeypatch):
    """For the JSON; the picture shows what the JSON says."""
    pasted = []
    paste = masks.paste_to_rle

    def count(values, *arguments, **options):
        pasted.append(len(values))
        return paste(values, *arguments, **options)

    monkeypatch.setattr(masks, "paste_to_rle", count)
    photo = tmp_path / "photo.png"
    Image.effect_noise((90, 70), 90).save(photo)
    arguments = ["--checkpoint", str(checkpoint), "--out", str(tmp_path), "--min-score", "0"]
    main(["predict", str(photo), *arguments])
    found = json.loads((tmp_path / "photo_detections.json").read_text())["annotations"]
    assert pasted == [len(found)]
    assert len(found) > 0
    with Image.open(tmp_path / "photo_detections.png") as picture:
        shown = np.asarray(picture)
    main(["predict", str(photo), *arguments[:-1], "1.1"])
    with Image.open(tmp_path / "photo_detections.png") as picture:
        assert (np.asarray(picture) != shown).any()


def test_predict_never_touches_its_input(checkpoint, tmp_path):
    photo = tmp_path / "photo.png"
    Image.effect_noise((40, 40), 90).save(photo)
    before = photo.read_bytes()
    main(["predict", str(photo), "--checkpoint", str(checkpoint), "--out", str(tmp_path)])
    assert photo.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "photo.png",
        "photo_detections.json",
        "photo_detections.png",
    ]


def test_names_with_dots_do_not_meet(checkpoint, tmp_path):
    """photo.v1.png and photo.v2.png are two pictures, and neither result is photo.png."""
    photos = [tmp_path / f"{name}.png" for name in ("photo", "photo.v1", "photo.v2")]
    for photo in photos:
        Image.effect_noise((40, 40), 90).save(photo)
    before = [photo.read_bytes() for photo in photos]
    main(["predict", *map(str, photos), "--checkpoint", str(checkpoint), "--out", str(tmp_path)])
    assert [photo.read_bytes() for photo in photos] == before
    assert {p.name for p in tmp_path.iterdir()} == {
        f"{photo.stem}{end}"
        for photo in photos
        for end in (".png", "_detections.png", "_detections.json")
    }


def test_predict_on_a_photograph_of_scikit_image(checkpoint, tmp_path):
    data = pytest.importorskip("skimage.data")
    photo = tmp_path / "astronaut.png"
    Image.fromarray(data.astronaut()).save(photo)
    main(["predict", str(photo), "--checkpoint", str(checkpoint), "--out", str(tmp_path)])
    assert json.loads((tmp_path / "astronaut_detections.json").read_text())["annotations"]


@pytest.mark.skipif(DATA is None, reason="MRCNN_DATA does not name the test data")
def test_predict_on_a_coco_photograph(checkpoint, tmp_path):
    photo = sorted((Path(DATA) / "coco_cc/val2017").glob("*.jpg"))[0]
    main(["predict", str(photo), "--checkpoint", str(checkpoint), "--out", str(tmp_path)])
    assert (tmp_path / f"{photo.stem}_detections.png").exists()


def test_mistakes_are_answered(checkpoint, tmp_path, capsys):
    assert "did you mean 'tiny_fpn'" in refuse(capsys, "train", "--preset", "tinyfpn")
    assert "There is no checkpoint" in refuse(capsys, "evaluate", "--checkpoint", tmp_path / "no")
    assert "no annotation file" in refuse(
        capsys, "train", "--images", tmp_path, "--annotations", tmp_path / "a.json"
    )
    assert "Give both" in refuse(capsys, "train", "--images", tmp_path)
    bad = tmp_path / "bad.json"
    bad.write_text("{}")
    assert "not a COCO ground truth" in refuse(
        capsys, "data", "check", "--images", tmp_path, "--annotations", bad
    )
    text = tmp_path / "text.png"
    text.write_text("not a picture")
    assert "Cannot read" in refuse(capsys, "predict", text, "--checkpoint", checkpoint)
    Image.new("RGB", (30, 30)).save(tmp_path / "ok.png")
    assert "Cannot write" in refuse(
        capsys, "predict", tmp_path / "ok.png", "--checkpoint", checkpoint, "--out", text / "in"
    )


def test_more_mistakes_are_answered(checkpoint, tmp_path, capsys):
    for name in ("a/same.png", "b/same.png"):
        (tmp_path / name).parent.mkdir()
        Image.new("RGB", (30, 30)).save(tmp_path / name)
    pictures = [tmp_path / "a/same.png", tmp_path / "b/same.png"]
    assert "same name" in refuse(capsys, "predict", *pictures, "--checkpoint", checkpoint)
    if not torch.cuda.is_available():
        message = refuse(
            capsys, "predict", pictures[0], "--checkpoint", checkpoint, "--device", "cuda"
        )
        assert "no CUDA GPU" in message
    assert "no device 'gpu'" in refuse(
        capsys, "predict", pictures[0], "--checkpoint", checkpoint, "--device", "gpu"
    )
    assert "pretrained weights" in refuse(
        capsys, "train", "--preset", "r50_fpn", "--out", tmp_path / "r50"
    )
    run = tmp_path / "run"
    (run / "metrics.jsonl").mkdir(parents=True)  # in the way of the file
    assert "metrics.jsonl" in refuse(capsys, "train", "--out", run, "--steps", "1")


def test_a_truncated_image_is_named_in_evaluation(checkpoint, tmp_path, capsys):
    main(f"data shapes --out {tmp_path} --split val --count 2 --image-size 64".split())
    classes = json.loads((tmp_path / "annotations/instances_val.json").read_text())["categories"]
    model = load_model(checkpoint).model
    names = Categories(tuple(c["id"] for c in classes), tuple(c["name"] for c in classes))
    save_model(tmp_path / "m.safetensors", model.state_dict(), model.config, names, 1)
    broken = tmp_path / "val/000002.png"
    broken.write_bytes(broken.read_bytes()[:200])
    files = f"--images {tmp_path}/val --annotations {tmp_path}/annotations/instances_val.json"
    message = refuse(capsys, "evaluate", "--checkpoint", tmp_path / "m.safetensors", *files.split())
    assert "000002.png" in message
    shutil.rmtree(tmp_path / "val")
    message = refuse(capsys, "evaluate", "--checkpoint", tmp_path / "m.safetensors", *files.split())
    assert "no image folder" in message


def test_results_of_anybody_are_measured(tmp_path, capsys):
    """A results file and an annotation file; the images need not be there."""
    main(f"data shapes --out {tmp_path} --split val --count 3 --image-size 64".split())
    capsys.readouterr()
    annotations = tmp_path / "annotations/instances_val.json"
    shutil.rmtree(tmp_path / "val")
    found = [
        {k: a[k] for k in ("image_id", "category_id", "bbox", "segmentation")} | {"score": 0.5}
        for a in json.loads(annotations.read_text())["annotations"]
    ]
    results = tmp_path / "results.json"
    results.write_text(json.dumps(found))
    command = ["evaluate", "--annotations", annotations, "--results"]
    main([*map(str, command), str(results), "--out", str(tmp_path / "out")])
    assert "no ground truth in this range" in capsys.readouterr().out
    assert "examples.png" not in {p.name for p in (tmp_path / "out").iterdir()}
    assert json.loads((tmp_path / "out/metrics.json").read_text())["mask"]["AP"] == 100

    assert "Give a model (--checkpoint or --weights) or --results" in refuse(capsys, "evaluate")
    assert "There is no file" in refuse(capsys, *command, tmp_path / "nowhere.json")
    assert "not a file of COCO results" in refuse(capsys, *command, annotations)
    results.write_text(json.dumps(found)[:-9])
    assert "is not JSON" in refuse(capsys, *command, results)
    results.write_text(json.dumps([found[0] | {"image_id": 99}]))
    assert "another data set or split" in refuse(capsys, *command, results)
    assert "must be 1 or more" in refuse(capsys, *command, results, "--max-detections", "0")


def test_a_longer_short_side_lets_the_long_side_grow(tmp_path):
    main(f"data shapes --out {tmp_path} --split train --count 2 --image-size 64".split())
    files = f"--images {tmp_path}/train --annotations {tmp_path}/annotations/instances_train.json"
    options = f"--out {tmp_path}/run --steps 1 --batch-size 1 --short-side 240"
    main(["train", *options.split(), *files.split()])
    config = load_model(tmp_path / "run").model.config
    assert (config.short_side, config.long_side) == (240, 400)


def test_classes_of_another_data_set_are_refused(checkpoint, capsys):
    message = refuse(capsys, "evaluate", "--checkpoint", checkpoint)
    assert "knows 10 classes (class0" in message
    assert "disc" in message


def test_an_unknown_option_is_refused(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["train", "--learning-rat", "3"])
    assert caught.value.code != 0
    printed = capsys.readouterr()
    assert "learning-rate" in printed.err + printed.out


def test_configurations_are_printed_and_compared(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    main(["config"])
    assert "r101_c4" in capsys.readouterr().out
    main(["config", "tiny_fpn", "--json"])
    assert from_json(ModelConfig, capsys.readouterr().out) == TINY_FPN
    main(["config", "r50_fpn", "--against-dialect", "detectron2", "--json"])
    changed = json.loads(capsys.readouterr().out)
    assert changed["roi_aligned"] == [False, True]
    assert changed["anchor_rounding"] == ["round", "none"]
    assert "num_classes" not in changed
    main(["config", "r50_c4", "--dialect", "paper", "--against", "r50_fpn"])
    printed = capsys.readouterr().out
    assert "r50_c4 (paper)" in printed
    assert "2000, 300" in printed
    main(["config", "r50_fpn", "--against", "r50_fpn", "--against-dialect", "torchvision"])
    assert "are the same" in capsys.readouterr().out
    assert "did you mean 'r50_fpn'" in refuse(capsys, "config", "r50fpn")


def test_a_recipe_sets_the_defaults_that_the_user_did_not(tmp_path, capsys):
    def parsed(*options: str) -> TrainConfig:
        caught: list[TrainConfig] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Train, "run", lambda self: caught.append(self.scaled()))
            main(["train", *options])
        return caught[0]

    assert parsed() == RECIPES["tiny"]
    assert parsed("--recipe", "1x") == RECIPES["1x"]
    assert parsed("--recipe=3x", "--flip-probability", "0.1") == dataclasses.replace(
        RECIPES["3x"], flip_probability=0.1
    )
    capsys.readouterr()
    assert parsed("--recipe", "1x", "--batch-size", "2") == scale_to_batch(RECIPES["1x"], 2)
    assert "Linear scaling, 16 → 2 images a step" in capsys.readouterr().out
    own = parsed("--recipe", "1x", "--batch-size", "8", "--learning-rate", "0.015")
    assert (own.learning_rate, own.steps) == (0.015, 180_000)
    # No rule is known for Adam: what the user changes is all that changes.
    assert parsed("--batch-size", "8") == dataclasses.replace(RECIPES["tiny"], batch_size=8)
    assert "no recipe '1xx' (did you mean '1x'?)" in refuse(capsys, "train", "--recipe", "1xx")


def test_training_is_measured_on_the_way(tmp_path, capsys):
    for split, seed in (("train", 1), ("val", 2)):
        main(
            f"data shapes --out {tmp_path} --split {split} --count 4 --seed {seed} "
            "--image-size 64".split()
        )
    val = f"--val-images {tmp_path}/val --val-annotations {tmp_path}/annotations/instances_val.json"
    data = f"--images {tmp_path}/train --annotations {tmp_path}/annotations/instances_train.json"
    options = "--steps 2 --batch-size 2 --short-side 64 --evaluate-every 1"
    main(f"train --out {tmp_path}/run {options} {data} {val}".split())
    assert [line["step"] for line in read_evaluations(tmp_path / "run")] == [1, 2]
    main(f"train --out {tmp_path}/none {options} {data}".split())  # nothing to measure on
    assert read_evaluations(tmp_path / "none") == []
    with_other = json.loads((tmp_path / "annotations" / "instances_val.json").read_text())
    with_other["categories"][0]["name"] = "whale"
    (tmp_path / "other.json").write_text(json.dumps(with_other))
    other = f"--val-images {tmp_path}/val --val-annotations {tmp_path}/other.json"
    capsys.readouterr()
    message = refuse(capsys, *f"train --out {tmp_path}/c {options} {data} {other}".split())
    assert "validation set has other classes (whale" in message


@pytest.mark.parametrize("system", ["mnc", "fcis"])
def test_other_systems_train_go_on_and_are_measured(system, tmp_path, capsys):
    command = ["train", "--system", system, "--out", tmp_path, "--batch-size", 1, "--steps", 1]
    main([str(a) for a in command])
    loaded = load_model(tmp_path)
    assert type(loaded.model).__name__.lower() == system
    assert loaded.step == 1
    capsys.readouterr()  # the bar of the run
    message = refuse(capsys, "train", "--out", tmp_path, "--batch-size", 1, "--steps", 1)
    assert "--system" in message
    assert system in message


def test_options_of_mask_rcnn_are_refused_with_another_system(tmp_path, capsys):
    message = refuse(capsys, "train", "--system", "fcis", "--preset", "r50_fpn", "--out", tmp_path)
    assert "--preset is for Mask R-CNN" in message
    assert "Systems: maskrcnn" in refuse(capsys, "train", "--system", "yolo", "--out", tmp_path)
