"""The core of the widgets: one module of JavaScript, a picture beside it, the example works."""

import base64
import importlib
import inspect
import io
import pkgutil
import re
import textwrap

import numpy as np
import pytest
import torch

pytest.importorskip("anywidget", reason="widgets need anywidget: pip install anywidget")

import traitlets
from anywidget import AnyWidget
from ipywidgets import DOMWidget
from matplotlib.figure import Figure
from PIL import Image

from mrcnn_edu import widgets
from mrcnn_edu.widgets import common
from mrcnn_edu.widgets.common import FOLDER, Widget, bundle, pack, photograph, unpack
from tests.widgets.node import exports, needs_node, run

SCRIPTS = sorted(p.stem for p in FOLDER.glob("[a-z]*.js"))
EXAMPLE_PYTHON, EXAMPLE_SCRIPT = (
    textwrap.dedent(block)
    for block in re.findall(r"`:\n\n((?:    .*\n|\n)+)", inspect.getdoc(common) or "")
)


@pytest.fixture
def example(tmp_path, monkeypatch):
    """The widget of the module's docstring, made from its text."""
    (tmp_path / "_core.js").write_text((FOLDER / "_core.js").read_text("utf-8"), "utf-8")
    (tmp_path / "twice.js").write_text(EXAMPLE_SCRIPT, "utf-8")
    monkeypatch.setattr(common, "FOLDER", tmp_path)
    names = {"Widget": Widget, "bundle": bundle, "traitlets": traitlets, "Figure": Figure}
    exec(EXAMPLE_PYTHON, names)
    return names["Twice"]


def test_the_example_of_the_docstring_works(example):
    widget = example(x=30.0)
    data, _ = widget._repr_mimebundle_()
    assert data["application/vnd.jupyter.widget-view+json"]["model_id"] == widget.model_id
    assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")
    assert data["text/plain"] == "Twice()"
    state = widget.get_state()
    assert state["x"] == 30.0
    assert "--mw-blue" in state["_css"]
    assert "data-widget" in state["_esm"]


@needs_node
def test_the_arithmetic_of_the_example_is_python_s(example):
    assert run(example._esm, "double", [[3], [-1.5]]) == [6, -3]


@needs_node
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_widget_s_script_is_one_module(name):
    found = exports(name)
    assert "default" in found
    assert (FOLDER / f"{name}.py").exists(), "a Python module of the same name"


def test_what_is_not_a_widget_s_script_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(common, "FOLDER", tmp_path)
    (tmp_path / "_core.js").write_text("")
    for text in (
        "export default {};\n",
        'import { set } from "./_core.js";\nimport { x } from "elsewhere";\n',
        'import { set } from "https://example.org/_core.js";\n',
    ):
        (tmp_path / "odd.js").write_text(text)
        with pytest.raises(ValueError, match=r"odd\.js must import"):
            bundle("odd")
    with pytest.raises(FileNotFoundError):
        bundle("absent")


@needs_node
def test_numbers_read_like_numbers():
    core = (FOLDER / "_core.js").read_text("utf-8")
    cases = [[1.005, 1], [-2.5, 1], [-0.001, 2], [float(3), 0], [None]]
    assert run(core, "number", cases) == ["1.0", "−2.5", "0.00", "3", "–"]
    assert run(core, "clamp", [[5, 0, 3], [-1, 0, 3], [2, 0, 3]]) == [3, 0, 2]


@needs_node
def test_shades_run_from_dark_to_light():
    core = (FOLDER / "_core.js").read_text("utf-8")
    shades = run(core, "shade", [[k / 20] for k in range(-2, 23)])
    light = [0.3 * r + 0.59 * g + 0.11 * b for r, g, b in shades]
    assert light == sorted(light)
    assert shades[0] == shades[2]
    assert shades[-1] == shades[-3]


def test_arrays_survive():
    values = torch.randn(2, 3)
    assert torch.equal(torch.from_numpy(unpack(pack(values), (2, 3)).copy()), values)


def test_a_widget_without_a_figure_says_so():
    with pytest.raises(NotImplementedError, match="Widget does not draw itself"):
        Widget().figure()


def test_a_photograph_survives():
    image = torch.zeros(3, 40, 60, dtype=torch.uint8)
    image[0, :, 30:] = 250
    head, code = photograph(image).split(",")
    assert head == "data:image/jpeg;base64"
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(code))))  # [H, W, 3]
    assert np.abs(pixels.astype(int) - image.permute(1, 2, 0).numpy()).mean() < 3


def test_no_widget_takes_a_name_of_the_frame():
    """A trait called `layout` replaces the frame's own, and the page cannot show the widget."""
    for module in pkgutil.iter_modules(widgets.__path__):
        names = vars(importlib.import_module(f"{widgets.__name__}.{module.name}")).values()
        for widget in (w for w in names if isinstance(w, type) and issubclass(w, AnyWidget)):
            for name, trait in DOMWidget.class_traits().items():
                own = widget.class_traits()[name]
                assert name.startswith("_") or own.this_class is trait.this_class, (widget, name)
