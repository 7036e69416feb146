"""The quickstart: generate Shapes, train the tiny model, measure it, and draw what it sees.

One command, a few minutes, no download. The folder `runs/quickstart/` afterwards holds the
configuration, a line of losses a step, the checkpoint, the detections in COCO's format, and two
pictures. Interrupted, it goes on where it was. Chapter 00 looks at what it made.
"""

import dataclasses
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from rich.table import Table

from mrcnn_edu.cli.terminal import say, show
from mrcnn_edu.config import ModelConfig
from mrcnn_edu.data.shapes import ShapesDataset, default_sets
from mrcnn_edu.errors import UserError
from mrcnn_edu.evaluation.detect import coco_results
from mrcnn_edu.evaluation.examples import save_examples
from mrcnn_edu.evaluation.measure import HEADLINE, measure
from mrcnn_edu.files import write_json
from mrcnn_edu.pictures.curves import save_curves
from mrcnn_edu.presets import TINY_FPN
from mrcnn_edu.training.config import TrainConfig, recipe
from mrcnn_edu.training.run_log import STEP_LOG, read_metrics
from mrcnn_edu.training.train import train

# Small images first: a step on them costs less, and what differs in size trains for all sizes.
QUICKSTART_TRAIN = dataclasses.replace(
    recipe("tiny"), steps=3200, short_sides=(128, 160, 192, 192), grow=True
)


def quickstart(
    folder: Path,
    train_config: TrainConfig = QUICKSTART_TRAIN,
    model_config: ModelConfig = TINY_FPN,
) -> dict[str, Any]:
    """Train and evaluate the tiny model on Shapes, write the run folder, print a short table.

    Args:
        folder: where everything goes.
        train_config: the schedule.
        model_config: the model.

    Returns:
        box and mask metrics in percent, and the seconds each part took.

    Raises:
        UserError: see `mrcnn_edu.training.train.train`.
    """
    start = time.perf_counter()
    say("1/4 Generating Shapes: 1,500 training and 200 validation images …")
    training_set, validation_set = (ShapesDataset(s) for s in default_sets())
    generated = time.perf_counter()
    say("2/4 Training from scratch. Ctrl-C stops and saves; the same command goes on.")
    model = train(model_config, train_config, training_set, folder)
    # Not before: until training has the folder's lock, another run may be at work there.
    write_config(folder / "config.json", model_config, train_config)
    trained = time.perf_counter()
    say("3/4 Evaluating on 200 images the model has not seen …")
    results = coco_results(model, validation_set, batch_size=8)
    metrics = measure(validation_set, results, model_config)
    evaluated = time.perf_counter()
    say("4/4 Drawing …")
    write_json(folder / "detections.json", results)
    save_examples(folder / "detections.png", model, validation_set, range(6), scale=3)
    lines = read_metrics(folder / STEP_LOG)
    save_curves(folder / "curves.png", lines)
    seconds = {
        "generate": round(generated - start, 1),
        "train": round(sum(line["seconds"] for line in lines), 1),  # of earlier parts too
        "evaluate": round(evaluated - trained, 1),
        "this_run": round(time.perf_counter() - start, 1),
    }
    write_json(folder / "summary.json", {**metrics, "seconds": seconds})
    show(metrics_table(metrics, f"Shapes, {len(validation_set)} unseen images"))
    minutes = seconds["this_run"] / 60
    say(
        f"{minutes:.1f} minutes. Everything is in {folder}/; look at {folder / 'detections.png'} "
        "first.\n\nThree things to try next:"
    )
    command = _command()
    say(
        f"  {command} predict PICTURE.jpg --checkpoint {folder}   # on your own picture\n"
        f"  {command} train --steps {2 * train_config.steps} --out runs/longer"
        "   # what are twice the steps worth?\n"
        f"  {command} data check --images DIR --annotations FILE.json   # your own data set"
    )
    return {**metrics, "seconds": seconds}


def write_config(path: Path, model_config: ModelConfig, train_config: TrainConfig) -> None:
    """Write both configurations as one JSON file.

    Args:
        path: the file, in the run folder.
        model_config: of the model.
        train_config: of the run.

    Raises:
        UserError: the folder cannot be written.
    """
    configs = {"model": dataclasses.asdict(model_config), "train": dataclasses.asdict(train_config)}
    try:
        write_json(path, configs)
    except OSError as error:
        raise UserError(
            f"Cannot create the run folder {path.parent} ({error}). Choose another with --out."
        ) from error


def metrics_table(metrics: dict[str, Any], title: str) -> Table:
    """The twelve numbers as a table; a range without ground truth says so."""
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for name in HEADLINE:
        table.add_column(name, justify="right")
    for kind in ("box", "mask"):
        cells = [metrics[kind][name] for name in HEADLINE]
        table.add_row(kind, *("no objects" if v is None else f"{v:.1f}" for v in cells))
    return table


def _command() -> str:
    """How this user calls the command line: by its name where the shell finds it, else by path."""
    if shutil.which("mrcnn-edu"):
        return "mrcnn-edu"
    return os.path.relpath(Path(sys.executable).parent / "mrcnn-edu")
