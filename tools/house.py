"""The house: what stands on which floor, and what each part is for.

One list, from the ground up, read by three: `tests/test_architecture.py` holds imports to it,
`python -m tools.house` writes README.md's table of modules from it, and readers see the whole in
one look. Flat files are the detector's own arithmetic and four grounds that everything stands on;
everything else lives in a package whose name says its job.
"""

import sys
from pathlib import Path
from typing import NamedTuple

README = Path(__file__).resolve().parent.parent / "README.md"
BEGIN, END = "<!-- house: begin -->", "<!-- house: end -->"


class Part(NamedTuple):
    """A module or package: its name, what is in it, the chapters that explain it."""

    name: str
    what: str
    chapters: str


# A part may import those on lower floors, and its neighbours on its own floor, never in a circle.
FLOORS: list[list[Part]] = [
    [
        Part("errors", "what is told to a user as one sentence", "13"),
        Part("files", "files that appear whole or not at all", "13"),
        Part("provenance", "where a measured number comes from", "14"),
        Part("run_lengths", "polygons and run-lengths, checked before C code reads them", "09, 12"),
        Part("processes", "this process among those that `torchrun` started", "13, 14"),
    ],
    [
        Part("config", "every number of a model on one page", "10"),
        Part("presets", "the models of the paper, and the habits of other code", "10"),
        Part("record", "what a forward pass leaves: stages, proposals, detections", "00, 10"),
    ],
    [Part("kernels", "Numba behind boxes, masks and matching", "01, 03, 09")],
    [
        Part("boxes", "area, IoU, encode and decode, clip, non-maximum suppression", "01"),
        Part("masks", "polygons, bitmaps, run-lengths; crop to a RoI, paste to an image", "09, 12"),
        Part("anchors", "cell anchors, grids, levels", "03"),
        Part("matching", "matcher and balanced sampler", "03, 04"),
    ],
    [
        Part(
            "roi",
            "RoIPool, RoIWarp, RoIAlign: NumPy reference, Numba on CPU and GPU, torch operators",
            "05 to 07",
        )
    ],
    [Part("nn", "ResNet, neck, RPN, box, mask and keypoint heads, losses", "02, 04, 08, 09, 16")],
    [Part("related", "MNC, FCIS and a promptable segmenter at teaching size", "18, 19")],
    [Part("model", "the whole: images to a record, losses and detections of a record", "10")],
    [Part("systems", "the detector of a configuration: Mask R-CNN, MNC, FCIS", "10, 18")],
    [
        Part("data", "COCO files, the generated Shapes set, transforms, checks", "12"),
        Part("coco_ap", "average precision and recall from scratch; what mistakes cost", "11"),
        Part("weights", "checkpoints; torchvision's, detectron2's, ImageNet's, read safely", "13"),
        Part("pictures", "detections over an image, curves, what every chapter shows", "all"),
    ],
    [Part("evaluation", "detecting over a data set, COCO's numbers, reports", "11")],
    [Part("training", "the loop, and what it is made of; what a run leaves behind", "13, 14")],
    [
        Part("ablations", "the paper's tables as experiments", "15"),
        Part("widgets", "what a reader drags, alive in JupyterLab and in the book", "all"),
        Part("checks", "what tells a reader whether an answer to an exercise is right", "all"),
    ],
    [
        Part("__init__", "the names a reader types first, each loaded when it is used", "00"),
        Part(
            "cli", "`mrcnn-edu quickstart`, `train`, `evaluate`, `predict`, `ablate`, `data`", "00"
        ),
    ],
]
FLOOR = {part.name: i for i, parts in enumerate(FLOORS) for part in parts}


def table() -> str:
    """README's table of modules, from the top of the house to the ground."""
    package = README.parent / "mrcnn_edu"
    lines = ["| module | what is in it | chapters |", "|---|---|---|"]
    for parts in reversed(FLOORS):
        for name, what, chapters in parts:
            shown = f"{name}/" if (package / name).is_dir() else f"{name}.py"
            lines.append(f"| `{shown}` | {what} | {chapters} |")
    return "\n".join(lines)


def with_table(text: str) -> str:
    """README's text with the table of today between its two markers."""
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def main() -> None:
    """Write the table, or with --check exit 1 where it is not the one of today."""
    text = README.read_text("utf-8")
    wanted = with_table(text)
    if "--check" in sys.argv[1:]:
        if text != wanted:
            sys.exit("README.md's table of modules is not today's: run python -m tools.house")
    elif text != wanted:
        README.write_text(wanted, "utf-8")


if __name__ == "__main__":
    main()
