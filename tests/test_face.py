"""The package's face: names are loaded when they are used, and a widget needs little else."""

import subprocess
import sys

import pytest

import mrcnn_edu


def modules_after(code: str) -> set[str]:
    """What a fresh interpreter has loaded after some lines."""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


def test_importing_the_package_loads_nothing_else():
    loaded = modules_after("import mrcnn_edu")
    assert not {m for m in loaded if m.startswith("mrcnn_edu.")}
    assert not loaded & {"torch", "numpy"}


@pytest.mark.parametrize(
    "widget", ["anchors", "boxes", "gradient_map", "proposals", "roi_sampling", "stages"]
)
def test_a_widget_imports_no_model_no_training_no_evaluation(widget):
    loaded = modules_after(f"import mrcnn_edu.widgets.{widget}")
    parts = {m.split(".")[1] for m in loaded if m.startswith("mrcnn_edu.")}
    assert not parts & {"model", "training", "evaluation", "weights", "data", "cli"}


def test_every_name_is_the_thing_of_its_module():
    assert mrcnn_edu.MaskRCNN.__module__ == "mrcnn_edu.model"
    assert set(mrcnn_edu.__all__) == set(mrcnn_edu._HOME)
    assert set(mrcnn_edu.__all__) <= set(dir(mrcnn_edu))
    for name in mrcnn_edu.__all__:
        assert getattr(mrcnn_edu, name) is not None


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'MaskRCN'"):
        mrcnn_edu.MaskRCN  # noqa: B018
