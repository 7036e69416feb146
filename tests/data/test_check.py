"""Each mistake gets its own sentence; nothing valid is refused."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mrcnn_edu.data.check import check_dataset, check_target
from mrcnn_edu.data.dataset import Categories, Dataset

H, W = 40, 60
Target = dict[str, Tensor]


def valid(boxes: list[list[float]] | None = None) -> Target:
    boxes = [[10, 20, 30, 35], [0, 0, 60, 40]] if boxes is None else boxes
    masks = torch.zeros(len(boxes), H, W, dtype=torch.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[int(y1) : int(np.ceil(y2)), int(x1) : int(np.ceil(x2))] = 1
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "labels": torch.ones(len(boxes), dtype=torch.int64),
        "masks": masks,
        "image_id": torch.tensor(17),
    }


def check(target: Target, num_classes: int = 3, where: str = "") -> None:
    check_target(torch.zeros(3, H, W, dtype=torch.uint8), target, num_classes, where)


def test_valid_targets_pass() -> None:
    check(valid())
    check(valid([]))
    check(valid([[0, 0, 0.5, 0.5]]))


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ([30, 20, 10, 15], "looks like xywh"),  # x 30, y 20, 10 wide, 15 high
        ([30, 20, 30, 35], "no area"),
        ([30, 20, 50, 20], "no area"),
        ([55, 20, 10, 35], "no area"),  # reversed, and as xywh it would leave the image
        ([10, 20, 61, 35], "outside the image of width 60 and height 40"),
        ([-5, 20, 30, 35], "outside"),
        ([10, 20, 30, 45], "outside"),
        ([10, float("nan"), 30, 35], "not finite"),
        ([10, 20, float("inf"), 35], "not finite"),
    ],
)
def test_bad_boxes(box: list[float], message: str) -> None:
    target = valid()
    target["boxes"][1] = torch.tensor(box)
    with pytest.raises(ValueError, match=message) as error:
        check(target)
    assert "image id 17: box 1 is [" in str(error.value)


@pytest.mark.parametrize(
    ("label", "classes", "message"),
    [
        (0, 3, "0 is the background"),
        (4, 3, r"label 4 of object 1 is not in 1\.\.3"),
        (-1, 3, "num_classes is too small, or"),
        (90, 80, "raw COCO category id"),
        (91, 80, "num_classes is too small"),
    ],
)
def test_bad_labels(label: int, classes: int, message: str) -> None:
    target = valid()
    target["labels"][1] = label
    with pytest.raises(ValueError, match=message):
        check(target, classes)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("boxes", torch.zeros(2, 5), r"'boxes' has shape \[2, 5\], expected \[G, 4\]"),
        ("boxes", torch.zeros(0), r"torch.zeros\(\(0, 4\)\)"),
        ("boxes", torch.zeros(2, 4, dtype=torch.float64), "float64, expected torch.float32"),
        ("boxes", [[1, 2, 3, 4]], "is a list; make it a torch tensor"),
        ("labels", torch.ones(2), "'labels' is torch.float32, expected torch.int64"),
        ("labels", torch.ones(3, dtype=torch.int64), "2 boxes but 3 labels"),
        ("labels", torch.ones(2, 1, dtype=torch.int64), r"expected \[G\]"),
        ("masks", torch.ones(3, H, W, dtype=torch.uint8), "2 boxes but 3 masks"),
        ("masks", torch.ones(2, H, W, dtype=torch.bool), "torch.bool, expected torch.uint8"),
        ("masks", torch.ones(2, W, H, dtype=torch.uint8), "masks are 60×40, the image is 40×60"),
        ("masks", torch.ones(2, H, dtype=torch.uint8), r"shape \[2, 40\], expected \[G, H, W\]"),
        ("masks", 255 * torch.ones(2, H, W, dtype=torch.uint8), r"hold 255.*use \(mask > 0\)"),
    ],
)
def test_bad_shapes_and_types(key: str, value: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check(valid() | {key: value})


@pytest.mark.parametrize("key", ["boxes", "labels", "masks"])
def test_missing_keys_are_named(key: str) -> None:
    target = valid()
    del target[key]
    with pytest.raises(ValueError, match=f"no '{key}'; it has "):
        check(target)


def test_empty_masks_and_masks_of_another_object() -> None:
    target = valid()
    target["masks"][0] = 0
    with pytest.raises(ValueError, match="mask of object 0 is empty"):
        check(target)
    target = valid([[10, 2, 30, 12], [10, 25, 30, 40]])
    target["masks"] = target["masks"].flip(0)
    with pytest.raises(ValueError, match="do not belong together"):
        check(target)


def test_an_image_of_the_wrong_shape() -> None:
    with pytest.raises(ValueError, match=r"image has shape \[40, 60, 3\], expected \[3, H, W\]"):
        check_target(torch.zeros(H, W, 3), valid(), 3)


def test_where_begins_the_sentence() -> None:
    target = valid()
    target["labels"][0] = 0
    with pytest.raises(ValueError, match=r"^photo\.jpg: label 0"):
        check(target, where="photo.jpg")


whole = st.integers(0, 39)


@given(
    boxes=st.lists(
        st.tuples(whole, whole, st.integers(1, 60), st.integers(1, 40)).map(
            lambda b: [b[0], b[1], min(b[0] + b[2], W), min(b[1] + b[3], H)]
        ),
        max_size=8,
    )
)
@settings(max_examples=60, deadline=None)
def test_no_valid_target_is_refused(boxes: list[list[float]]) -> None:
    check(valid(boxes))


@given(
    box=st.tuples(whole, whole, whole, whole),
    move=st.tuples(*[st.floats(-100, 100, width=32)] * 4),
)
@settings(max_examples=150, deadline=None)
def test_a_box_passes_exactly_when_it_is_inside_and_has_area(
    box: tuple[int, ...], move: tuple[float, ...]
) -> None:
    x1, y1, x2, y2 = (b + m for b, m in zip(box, move, strict=True))
    target = valid([[0, 0, W, H]])
    target["boxes"] = torch.tensor([[x1, y1, x2, y2]], dtype=torch.float32)
    x1, y1, x2, y2 = target["boxes"][0].tolist()
    target["masks"][:] = 0
    rows, columns = (slice(max(int(a), 0), max(int(b) + 1, 1)) for a, b in ((y1, y2), (x1, x2)))
    target["masks"][0, rows, columns] = 1  # agrees with the box
    good = 0 <= x1 < x2 <= W and 0 <= y1 < y2 <= H
    if good:
        check(target)
    elif min(x1, y1, W - x2, H - y2) < -0.01 or x2 <= x1 or y2 <= y1:
        with pytest.raises(ValueError, match="box 0 is"):
            check(target)


class Listed(Dataset):
    """A data set of given items, some of them broken."""

    categories = Categories((1, 2, 3), ("a", "b", "c"))

    def __init__(self, targets: list[Target]) -> None:
        self.targets, self.image_ids = targets, range(len(targets))

    def ground_truth(self) -> dict[str, Any]:
        raise NotImplementedError

    def __getitem__(self, index: int) -> tuple[Tensor, Target]:
        return torch.zeros(3, H, W, dtype=torch.uint8), self.targets[index]


def test_summary_counts_and_collects_problems() -> None:
    broken = valid()
    broken["labels"][0] = 7
    summary = check_dataset(Listed([valid(), valid([]), broken]))
    assert (summary.images, summary.images_without_objects, summary.objects) == (3, 1, 2)
    assert summary.objects_per_class == {"a": 2, "b": 0, "c": 0}
    assert (summary.small, summary.medium, summary.large) == (1, 1, 0)
    assert summary.smallest_image == summary.largest_image == (H, W)
    assert len(summary.problems) == 1
    assert "item 2: label 7" in str(summary)
    assert check_dataset(Listed([valid(), broken]), max_images=1).problems == []


def test_an_empty_dataset_is_an_error() -> None:
    with pytest.raises(ValueError, match="no images"):
        check_dataset(Listed([]))
