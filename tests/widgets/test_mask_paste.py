"""The paste widget: its JavaScript cuts and pastes as the library does; it keeps its state."""

import pytest
import torch

pytest.importorskip("anywidget", reason="widgets need anywidget: pip install anywidget")

from mrcnn_edu import masks as mask_ops
from mrcnn_edu.widgets.common import unpack
from mrcnn_edu.widgets.mask_paste import CELLS, MaskPaste
from tests.widgets.node import call, needs_node

SIZE = (40, 52)
ROWS, COLUMNS = torch.meshgrid(torch.arange(40), torch.arange(52), indexing="ij")
MASK = (((ROWS - 20) / 12) ** 2 + ((COLUMNS - 24) / 15) ** 2 < 1) & ((COLUMNS + ROWS) % 7 != 0)


def random_boxes(count):
    """xyxy, of any size, some partly outside, a third with whole corners."""
    generator = torch.Generator().manual_seed(3)
    corner = torch.rand(count, 2, generator=generator) * torch.tensor([50.0, 38.0]) - 6
    side = torch.rand(count, 2, generator=generator) * torch.tensor([40.0, 30.0]) + 1
    boxes = torch.cat([corner, corner + side], dim=1)
    boxes[::3] = boxes[::3].round()
    return boxes.mul(10).round().div(10)


@needs_node
@pytest.mark.parametrize("cells", CELLS)
def test_cutting_equals_the_library_s(cells):
    boxes = random_boxes(24)
    index = torch.zeros(len(boxes), dtype=torch.int64)
    want = mask_ops.crop_to_boxes(MASK[None], boxes, index, cells, aligned=True)  # [R, M, M]
    bitmap = MASK.flatten().int().tolist()
    cases = [[bitmap, list(SIZE), box.tolist(), cells] for box in boxes]
    got = torch.tensor(call("mask_paste", "cut", cases)).reshape(want.shape)
    torch.testing.assert_close(got, want, atol=2e-4, rtol=0)


@needs_node
@pytest.mark.parametrize("dialect", ["continuous", "torchvision"])
def test_pasting_equals_the_library_s(dialect):
    boxes = random_boxes(40)
    generator = torch.Generator().manual_seed(1)
    for cells in (7, 28):
        masks = torch.rand(len(boxes), cells, cells, generator=generator)
        want = mask_ops.paste(masks, boxes, SIZE, dialect)  # [D, H, W]
        cases = [
            [mask.flatten().tolist(), cells, box.tolist(), list(SIZE), dialect]
            for mask, box in zip(masks, boxes, strict=True)
        ]
        got = torch.tensor(call("mask_paste", "paste", cases)).reshape(want.shape)
        torch.testing.assert_close(got, want, atol=1e-4, rtol=0)
        assert torch.equal(got != 0, want != 0), "the same pixels are touched"


@needs_node
def test_counts_and_iou():
    image, truth = [0.6, 0.5, 0.2, 0.9, 0.0], [1, 1, 0, 0, 0]
    got = call("mask_paste", "compare", [[image, truth, 0.5], [[0.0] * 5, [0] * 5, 0.5]])
    assert got[0] == {"both": 1, "missing": 1, "extra": 1, "iou": pytest.approx(1 / 3)}
    assert got[1] == {"both": 0, "missing": 0, "extra": 0, "iou": 0}


def test_a_mask_cut_elsewhere_no_longer_fits():
    widget = MaskPaste(MASK, [9, 8, 40, 33], cells=56)

    def iou():
        found = widget.pasted()[1] > 0.5
        return ((found & MASK).sum() / (found | MASK).sum()).item()

    assert iou() == 1
    widget.box = [11, 10, 42, 35]
    assert iou() > 0.9, "cut again where it is pasted, only what sticks out is lost"
    widget.recut = False
    assert iou() < 0.75


def test_the_state_that_a_notebook_saves():
    photograph = torch.randint(256, (3, *SIZE), dtype=torch.uint8)
    widget = MaskPaste(MASK, [9, 8, 40, 33], photograph, cells=14, dialect="torchvision")
    state = widget.get_state()
    saved = torch.from_numpy(unpack(bytes(state["mask"]), SIZE).copy())
    assert torch.equal(saved, MASK.float())
    assert (state["size"], state["cells"], state["cut_box"]) == ([40, 52], 14, [9, 8, 40, 33])
    assert state["window"] == [0, 0, 51, 40]
    assert state["photograph"].startswith("data:image/jpeg;base64,")
    assert ".mw-paste-readout" in state["_css"]


def test_the_picture_tells_the_iou():
    figure = MaskPaste(MASK, [9, 8, 40, 33], cells=7).figure()
    assert figure.axes[0].get_title().startswith("IoU 0.")
    assert figure.axes[1].get_title() == "the mask, 7 × 7"


@pytest.mark.parametrize("box", [[-1, 0, 8, 8], [0, 0, 53, 8], [0, 0, 1, 8], [8, 8, 4, 4]])
def test_a_box_that_cannot_be_dragged_is_refused(box):
    with pytest.raises(ValueError, match="must lie inside the image of 52 × 40 pixels"):
        MaskPaste(MASK, box)


def test_several_masks_are_refused():
    with pytest.raises(ValueError, match=r"one bitmap \[H, W\], got \[2, 40, 52\]"):
        MaskPaste(MASK.expand(2, 40, 52), [0, 0, 8, 8])
