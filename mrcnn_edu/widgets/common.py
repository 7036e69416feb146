"""What every widget shares: one JavaScript module, the course's colours, a picture beside it.

A widget is a Python module and a JavaScript file of the same name. Its arithmetic is in the
JavaScript too, so that it is alive in a static page with no kernel: all it needs travels in its
traits, which a notebook saves. The smallest one, `twice.py`:

    class Twice(Widget):
        \"\"\"A dot and its double. Chapter 01.\"\"\"

        _esm = bundle("twice")
        x = traitlets.Float(20.0).tag(sync=True)

        def figure(self) -> Figure:
            figure = Figure(figsize=(4, 1))
            figure.subplots().plot([self.x, 2 * self.x], [0, 0], "o")
            return figure

and `twice.js`:

    import { clamp, draggable, mount, number, put, set, svg, watch } from "./_core.js";

    export function double(x) {  // arithmetic: pure, exported, tested against Python
      return 2 * x;
    }

    function render({ model, el }) {
      const root = mount(el, "twice");
      const canvas = svg("svg", { viewBox: "0 0 200 40" }, root);
      const shadow = svg("circle", { r: 6, cy: 20, fill: "var(--mw-sky)" }, canvas);
      const dot = svg("circle", { r: 8, cy: 20, fill: "var(--mw-blue)" }, canvas);
      draggable(dot, {
        label: "the dot",
        at: () => [model.get("x"), 20],
        move: (x) => put(model, { x: clamp(x, 0, 100) }),
      });
      return watch(model, ["x"], () => {
        set(dot, { cx: model.get("x") });
        set(shadow, { cx: double(model.get("x")) });
        root.dataset.state = number(model.get("x"));
      });
    }

    export default { render };

The contract that tests rely on: the root has `data-widget` (`mount`), what can be dragged has
`data-drag` (`draggable`), and every change of state writes a short text to the root's `data-state`.
Arrays are bytes of little-endian float32 (`pack`, in JavaScript `floats`) or short lists.
`tests/widgets/node.py` runs the exported functions, to compare them with Python.
"""

import base64
import io
import re
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

FOLDER = Path(__file__).parent
_IMPORT = re.compile(r'^import\s*\{[^}]*\}\s*from\s*"\./_core\.js";\n', re.MULTILINE)


def bundle(name: str) -> str:
    """The JavaScript of a widget as one ES module: `_core.js`, then `name.js`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file imports nothing from `./_core.js`, or something from elsewhere.
    """
    own, found = _IMPORT.subn("", (FOLDER / f"{name}.js").read_text("utf-8"))
    if found != 1 or re.search(r"^import\b", own, re.MULTILINE):
        raise ValueError(f'{name}.js must import {{ … }} from "./_core.js" once, and nothing else')
    return (FOLDER / "_core.js").read_text("utf-8") + "\n" + own


def style(name: str = "") -> str:
    """The CSS of a widget: `_core.css`, then `name.css` where a name is given.

    A widget with a file of its own sets `_css = style(name)` beside `_esm`.

    Raises:
        FileNotFoundError: there is no such file.
    """
    core = (FOLDER / "_core.css").read_text("utf-8")
    return core + (FOLDER / f"{name}.css").read_text("utf-8") if name else core


def pack(values: Tensor) -> bytes:
    """A tensor as little-endian float32, row by row: a trait that `floats` reads."""
    return values.detach().cpu().numpy().astype("<f4").tobytes()


def unpack(values: bytes, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """What `pack` packed, as a float32 array of the shape."""
    return np.frombuffer(values, "<f4").reshape(shape)


def photograph(image: Tensor) -> str:
    """An image as a data URL, JPEG: a trait that an SVG `image` shows.

    Args:
        image: uint8 [3, H, W], RGB.
    """
    file = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).cpu().numpy()).save(file, format="JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


class Widget(anywidget.AnyWidget):
    """A widget with the course's style, shown as a picture where no JavaScript runs.

    Subclasses set `_esm = bundle(name)`, declare their traits, and draw their state in `figure`.
    """

    _css = style()

    def figure(self) -> Figure:
        """Draw the present state with matplotlib: what a reader sees without JavaScript."""
        raise NotImplementedError(f"{type(self).__name__} does not draw itself")

    def __repr__(self) -> str:
        """A name that is the same in every run, because notebooks store it."""
        return f"{type(self).__name__}()"

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict, dict] | None:
        """The live view, with the picture beside it."""
        shown = super()._repr_mimebundle_(**kwargs)
        if shown is None:
            return None
        data, metadata = shown
        file = io.BytesIO()
        self.figure().savefig(file, format="png", dpi=110, bbox_inches="tight")
        return {**data, "image/png": base64.b64encode(file.getvalue()).decode()}, metadata
