"""What chapter 18 needs of the overlap experiment: one small model, and masks of all four.

    python -m benchmarks.overlap_course --runs FOLDER

Reads the weights that `python -m benchmarks.overlap --keep FOLDER` kept, seed 0. Writes
`data/fcis_pairs.safetensors`, FCIS with k = 3 in half precision, and `data/overlap_gallery.json`,
the masks of each model for one pair of crosses at several shifts, as run lengths.
"""

import argparse
import json
from pathlib import Path

import torch

from benchmarks.overlap import MODELS, SIDE, masks_in
from mrcnn_edu import masks as mask_ops
from mrcnn_edu.data.pairs import scenes
from mrcnn_edu.data.transforms import to_float
from mrcnn_edu.files import write_json
from mrcnn_edu.weights.checkpoint import load_model, save_model

DATA = Path(__file__).resolve().parent.parent / "data"
SCENE = 9  # of those at a shift
SHOWN = (0.0, 0.08, 0.2, 0.4, 0.7)


def main() -> None:
    """Write both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, required=True)
    runs = parser.parse_args().runs
    gallery: dict[str, dict[str, list[str]]] = {}
    for name in MODELS:
        loaded = load_model(runs / f"{name.replace(' ', '_')}_0.safetensors")
        gallery[name] = {}
        for shift in SHOWN:
            image, target = scenes(shift, ("cross", "cross"))[SCENE]
            with torch.no_grad():
                record = loaded.model([to_float(image)])
                masks = masks_in(loaded.model, record, target["boxes"], target["labels"])
            pasted = mask_ops.paste(masks, target["boxes"], (SIDE, SIDE)) > 0.5
            gallery[name][f"{shift:g}"] = [
                mask_ops.encode(m.to(torch.uint8))["counts"].decode() for m in pasted
            ]
        if name == "fcis k=3":
            half = {key: value.half() for key, value in loaded.model.state_dict().items()}
            path = DATA / "fcis_pairs.safetensors"
            save_model(path, half, loaded.model.config, loaded.categories, loaded.step)
    write_json(DATA / "overlap_gallery.json", json.loads(json.dumps(gallery)))


if __name__ == "__main__":
    main()
