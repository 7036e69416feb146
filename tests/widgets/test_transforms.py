"""The transform explorer: JavaScript's boxes, masks and joints are the library's, in any order."""

import itertools

import pytest
import torch

pytest.importorskip("anywidget", reason="widgets need anywidget: pip install anywidget")

import traitlets

from mrcnn_edu import masks as mask_ops
from mrcnn_edu.data.shapes import ShapesConfig, ShapesDataset, generate
from mrcnn_edu.data.transforms import crop_window
from mrcnn_edu.widgets.transforms import STEPS, TransformExplorer
from tests.widgets.node import call, needs_node


def scene() -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """A picture of Shapes with a person, cut to 96 × 128 so that height and width differ."""
    shapes = ShapesDataset(generate(ShapesConfig(), 12, seed=2))
    scenes = [crop_window(*shapes[i], 16, 0, 96, 128) for i in range(len(shapes))]
    return next(
        s for s in scenes if (s[1]["keypoints"][:, 0, 2] > 0).any() and len(s[1]["boxes"]) > 3
    )


def sample(widget: TransformExplorer) -> dict:
    """What the page makes of the traits before any step."""
    masks = call("transforms", "decodeRuns", [[runs, widget.size] for runs in widget.runs])
    return {
        "size": widget.size,
        "ids": list(range(len(masks))),
        "boxes": widget.boxes,
        "masks": masks,
        "points": widget.joints,
        "matrix": [1, 0, 0, 1, 0, 0],
    }


@needs_node
def test_runs_become_the_masks_again():
    image, target = scene()
    widget = TransformExplorer(image, target)
    got = torch.tensor(sample(widget)["masks"]).reshape(target["masks"].shape)
    assert torch.equal(got.to(torch.uint8), target["masks"])
    assert widget.runs == [mask_ops.to_runs(m) for m in target["masks"]]


@needs_node
def test_every_pair_of_steps_gives_what_the_library_gives():
    image, target = scene()
    widget = TransformExplorer(image, target)
    first = sample(widget)
    pairs = list(itertools.product(STEPS, STEPS))
    cases = [[list(pair), first, widget.window, widget.resized] for pair in pairs]
    for pair, got in zip(pairs, call("transforms", "through", cases), strict=True):
        picture, wanted = widget.through(pair)
        assert got["size"] == list(picture.shape[1:]), pair
        boxes = torch.tensor(got["boxes"], dtype=torch.float32).reshape(-1, 4)
        torch.testing.assert_close(boxes, wanted["boxes"], msg=str(pair))
        masks = torch.tensor(got["masks"]).reshape(wanted["masks"].shape)
        assert torch.equal(masks.to(torch.uint8), wanted["masks"]), pair
        joints = torch.tensor(got["points"], dtype=torch.float32).reshape(-1, 17, 3)
        torch.testing.assert_close(joints, wanted["keypoints"], atol=1e-4, rtol=1e-5, msg=str(pair))


@needs_node
def test_the_matrix_takes_a_place_where_its_joint_goes():
    image, target = scene()
    widget = TransformExplorer(image, target)
    first = sample(widget)
    (done,) = call(
        "transforms",
        "through",
        [[["quarter turn", "resize"], first, widget.window, widget.resized]],
    )
    person = next(k for k, points in enumerate(widget.joints) if points[0][2] > 0)
    (place,) = call("transforms", "at", [[done["matrix"], widget.joints[person][0][:2]]])
    assert place == pytest.approx(done["points"][person][0][:2], abs=1e-3)


@needs_node
def test_which_orders_agree():
    image, target = scene()
    widget = TransformExplorer(image, target)
    first = sample(widget)

    def compared(one: str, two: str) -> list:
        orders = [[one, two], [two, one]]
        cases = [[order, first, widget.window, widget.resized] for order in orders]
        return call("transforms", "compare", [call("transforms", "through", cases)])[0]

    assert compared("mirror", "upside down") == [True, 0]
    assert compared("quarter turn", "quarter turn") == [True, 0]
    for one, two in (("mirror", "crop"), ("mirror", "quarter turn"), ("resize", "crop")):
        assert compared(one, two) == [False, -1]
    # Where a new pixel's centre lies between two old pixels the tie goes right, mirrored or not.
    places, pixels = compared("mirror", "resize")
    (_, a), (_, b) = (widget.through(o) for o in (("mirror", "resize"), ("resize", "mirror")))
    assert places
    assert pixels == int((a["masks"] != b["masks"]).sum()) > 0


def test_the_picture_shows_both_orders():
    image, target = scene()
    widget = TransformExplorer(image, target, first="resize", second="quarter turn")
    titles = [axis.get_title() for axis in widget.figure().axes]
    assert titles == ["resize, then quarter turn", "quarter turn, then resize"]
    for forgotten in ("boxes", "masks", "joints"):
        widget.forgotten = forgotten
        widget.second = "crop"
        assert len(widget.figure().axes) == 2


def test_a_target_without_objects_or_joints():
    image = torch.zeros(3, 40, 60, dtype=torch.uint8)
    target = {"boxes": torch.zeros(0, 4), "masks": torch.zeros(0, 40, 60, dtype=torch.uint8)}
    widget = TransformExplorer(image, target)
    assert widget.runs == []
    assert len(widget.figure().axes) == 2
    with pytest.raises(traitlets.TraitError):
        widget.first = "shear"
