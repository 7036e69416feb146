"""The figures of the course: one script each, with `draw() -> Figure`, and the SVG it makes.

`python -m figures` (`make figures`) redraws all, `python -m figures NAME` one. A script draws real
tensors, from seeds; the same script gives the same file.
"""

import base64
import importlib
import io
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from mrcnn_edu.pictures.show import use_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HERE = Path(__file__).parent
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")
PICTURE = re.compile(r"data:image/png;base64,([A-Za-z0-9+/=\s]+)")
HASH = re.compile(r'(?<=[#"])(?:[a-z]{1,5}|image)[0-9a-f]{10}(?=[")])')


def names() -> list[str]:
    """The figures there are, by the names of their scripts."""
    return sorted(p.stem for p in HERE.glob("*.py") if not p.stem.startswith("_"))


def render(name: str) -> bytes:
    """Draw a figure and return its SVG, without date and with the same ids each time."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    with plt.rc_context():
        use_style()
        figure: Figure = importlib.import_module(f"figures.{name}").draw()
        file = io.BytesIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
        plt.close(figure)
    return re.sub(rb"[ \t]+\n", b"\n", file.getvalue())


def same(a: str, b: str, points: float = 0.5, grey: float = 2.0) -> bool:
    """Whether two SVG files show the same.

    Machines differ in the last digits of a convolution, so numbers may differ by `points` and
    pictures by `grey` levels on average; ids, which are hashes of them, may differ freely.
    """
    texts, images = zip(*(_parts(svg) for svg in (a, b)), strict=True)
    if NUMBER.sub("0", texts[0]) != NUMBER.sub("0", texts[1]) or len(images[0]) != len(images[1]):
        return False
    values = [np.array([float(v) for v in NUMBER.findall(text)]) for text in texts]
    if np.abs(values[0] - values[1]).max(initial=0) > points:
        return False
    return all(
        p.shape == q.shape and np.abs(p - q).mean() <= grey for p, q in zip(*images, strict=True)
    )


def _parts(svg: str) -> tuple[str, list[np.ndarray]]:
    """The text of an SVG, and its embedded pictures as arrays."""
    images = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(code))), np.float32)
        for code in PICTURE.findall(svg)
    ]
    return HASH.sub("id", PICTURE.sub("picture", svg)), images
