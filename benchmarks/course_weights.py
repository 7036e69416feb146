"""The trained model that ships with the course: a quickstart's weights in half precision.

Reads a run of the quickstart, writes `data/tiny_fpn_shapes.safetensors` with weights in float16 (3
MB), and measures both on the 200 validation images of Shapes, to see what the halving costs.

    mrcnn-edu quickstart
    python -m benchmarks.course_weights

`make course-weights` does both. Writes results/course_weights.json.
"""

import argparse
import dataclasses
import json
from pathlib import Path

from rich.console import Console

from mrcnn_edu.cli.quickstart import metrics_table
from mrcnn_edu.data.shapes import ShapesDataset, default_set
from mrcnn_edu.evaluation.detect import coco_results
from mrcnn_edu.evaluation.measure import measure
from mrcnn_edu.files import write_json
from mrcnn_edu.provenance import provenance
from mrcnn_edu.weights.checkpoint import load_model, save_model

ROOT = Path(__file__).resolve().parent.parent
WEIGHTS = ROOT / "data" / "tiny_fpn_shapes.safetensors"


def main() -> None:
    """Halve the weights of a run and measure both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, default=ROOT / "runs" / "quickstart")
    parser.add_argument(
        "--trained-at", default=None, help="commit of the run, if it is not this one"
    )
    options = parser.parse_args()
    loaded = load_model(options.run)
    half = {name: value.half() for name, value in loaded.model.state_dict().items()}
    config = loaded.model.config
    run = json.loads((options.run / "config.json").read_text())
    result = provenance(  # before the weights, which git knows, are written
        {"model": dataclasses.asdict(config), "train": run["train"]}, run["train"]["seed"]
    )
    save_model(WEIGHTS, half, config, loaded.categories, loaded.step)

    dataset = ShapesDataset(default_set("val"))
    measured = {}
    for name, path in (("float32", options.run), ("float16", WEIGHTS)):
        results = coco_results(load_model(path).model, dataset, batch_size=8)
        measured[name] = measure(dataset, results, config)
        Console().print(metrics_table(measured[name], f"{name}: {len(dataset)} images"))
    result["trained_at"] = options.trained_at or result["commit"]
    result["steps"] = loaded.step
    result["bytes"] = WEIGHTS.stat().st_size
    write_json(ROOT / "results" / "course_weights.json", {**result, "metrics": measured})


if __name__ == "__main__":
    main()
