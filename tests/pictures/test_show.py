"""What chapters show: coordinates, colours and sources are the library's."""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from mrcnn_edu import boxes
from mrcnn_edu.kernels import nms as nms_kernels
from mrcnn_edu.pictures import overlay as draw
from mrcnn_edu.pictures import show


@pytest.fixture(autouse=True)
def _own_settings():
    matplotlib.use("agg")
    with plt.rc_context():
        yield
    plt.close("all")


def test_the_style_has_the_colours_of_the_pictures():
    show.use_style()
    cycle = plt.rcParams["axes.prop_cycle"].by_key()["color"]
    pictures = {f"{r:02x}{g:02x}{b:02x}" for r, g, b in draw.COLOURS}
    assert {c.lstrip("#") for c in cycle} <= pictures
    assert len(set(cycle)) == len(cycle)
    assert show.RED == "#d55e00"


def test_pixels_lie_between_whole_numbers_and_boxes_on_their_own():
    _, axis = plt.subplots()
    show.show_image(axis, torch.zeros(3, 4, 6, dtype=torch.uint8), title="t")
    show.show_boxes(axis, torch.tensor([[1.0, 2, 5, 4]]), labels=["a"], linewidth=3)
    assert axis.get_images()[0].get_extent() == [0, 6, 4, 0]
    (box,) = axis.patches
    assert box.get_bbox().extents.tolist() == [1, 2, 5, 4]
    assert box.get_linewidth() == 3
    assert [t.get_text() for t in axis.texts] == ["a"]


def test_no_boxes_and_one_colour_a_box():
    _, axis = plt.subplots()
    show.show_boxes(axis, torch.zeros(0, 4))
    assert not axis.patches
    show.show_boxes(axis, [[0, 0, 1, 1], [1, 1, 2, 2]], colour=[show.BLUE, show.RED])
    colours = [matplotlib.colors.to_hex(p.get_edgecolor()) for p in axis.patches]
    assert colours == [show.BLUE, show.RED]
    with pytest.raises(ValueError, match="zip"):
        show.show_boxes(axis, [[0, 0, 1, 1]], colour=[show.BLUE, show.RED])


def test_joints_have_the_colour_of_their_side_and_what_is_not_labelled_is_not_drawn():
    _, axis = plt.subplots()
    names, bones = ("nose", "left_eye", "left_ear", "right_eye"), [(1, 2), (2, 3), (2, 4), (1, 4)]
    person = torch.tensor([[5.0, 5, 2], [6, 4, 2], [7, 4, 1], [0, 0, 0]])
    show.show_joints(axis, torch.stack([person, torch.zeros(4, 3)]), names, bones, linewidth=4)
    assert [line.get_color() for line in axis.lines] == ["0.6", show.ORANGE]
    assert axis.lines[1].get_xydata().tolist() == [[6, 4], [7, 4]]
    assert {line.get_linewidth() for line in axis.lines} == {4}
    (dots,) = axis.collections
    assert dots.get_offsets().tolist() == [[5, 5], [6, 4], [7, 4]]
    blue = torch.tensor([[4.0, 4, 2]]), ("right_eye",), []
    show.show_joints(axis, *blue)
    paint = matplotlib.colors.to_hex(axis.collections[1].get_facecolor()[0])
    assert paint == show.BLUE


@pytest.mark.parametrize("image", [torch.zeros(4, 4, 3), torch.zeros(4), np.zeros((3, 4, 4))])
def test_an_image_of_another_shape_is_refused(image):
    _, axis = plt.subplots()
    with pytest.raises(ValueError, match="this one is"):
        show.show_image(axis, image)


def test_source_of_functions_classes_and_kernels():
    source = show.show_source(boxes.area)
    assert repr(source) == "source of mrcnn_edu.boxes.area"
    assert "def area(" in source._repr_markdown_()
    kernel = next(v for v in vars(nms_kernels).values() if hasattr(v, "py_func"))
    assert "def " in show.show_source(kernel)._repr_markdown_()
    with pytest.raises(TypeError):
        show.show_source(len)


def test_versions_are_those_installed(capsys):
    show.versions("pillow")
    lines = capsys.readouterr().out.splitlines()
    assert f"torch {torch.__version__.split('+')[0]}" in lines
    assert lines[-1].startswith("pillow ")
