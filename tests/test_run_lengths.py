"""What passes the gate gives pycocotools' result; what does not gets a sentence, and no signal."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as theirs

from mrcnn_edu import masks, run_lengths
from mrcnn_edu.coco_ap import evaluate
from mrcnn_edu.errors import UserError

NAN, INF = float("nan"), float("inf")
SQUARE = [2.0, 1.0, 6.0, 1.0, 6.0, 5.0, 2.0, 5.0]


def bitmap(seed: int, height: int, width: int, density: float) -> np.ndarray:
    return (np.random.default_rng(seed).random((height, width)) < density).astype(np.uint8)


@given(
    seed=st.integers(0, 1000),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    density=st.sampled_from([0.0, 0.02, 0.5, 0.98, 1.0]),
)
@settings(max_examples=80, deadline=None)
def test_all_forms_of_a_mask_pass_and_give_the_mask(seed, height, width, density):
    mask, size = bitmap(seed, height, width, density), (height, width)
    packed = theirs.encode(np.asfortranarray(mask))
    runs = masks.to_runs(torch.from_numpy(mask))
    assert run_lengths._unpacked(packed["counts"]).tolist() == runs
    for counts in (packed["counts"], packed["counts"].decode(), runs, tuple(runs), np.array(runs)):
        rle = run_lengths.from_runs(counts, size)
        assert np.array_equal(run_lengths.decode([rle], size)[0], mask)
        assert run_lengths.area(rle) == mask.sum()


@pytest.mark.skipif("MRCNN_DATA" not in os.environ, reason="MRCNN_DATA names no data folder")
def test_all_of_cocos_polygons_pass_and_are_pycocotools():
    files = sorted(Path(os.environ["MRCNN_DATA"]).glob("coco_cc/**/instances_*.json"))
    if not files:
        pytest.skip("MRCNN_DATA has no coco_cc annotations")
    content = json.loads(files[0].read_text())
    sizes = {i["id"]: (i["height"], i["width"]) for i in content["images"]}
    for a in content["annotations"][:400]:
        size, outline = sizes[a["image_id"]], a["segmentation"]
        parts = theirs.frPyObjects(outline, *size)
        expected = theirs.merge(parts) if isinstance(parts, list) else parts
        found = run_lengths.to_rle(outline, *size)
        assert theirs.decode(found).tobytes() == theirs.decode(expected).tobytes()


def test_outlines_may_leave_the_image_as_far_as_pycocotools_can_count():
    far = [[-500.0, -500.0, 90_000.0, -500.0, 90_000.0, 4.0, -500.0, 4.0]]
    found = run_lengths.to_rle(far, 8, 10)
    assert (
        theirs.decode(found).tolist()
        == theirs.decode(theirs.frPyObjects(far, 8, 10))[..., 0].tolist()
    )
    assert run_lengths.area(run_lengths.to_rle([[1, 1, 7, 1, 7, 7]], 8, 10)) > 0  # whole numbers


@pytest.mark.parametrize(
    ("outline", "message"),
    [
        ([[1, 1, NAN, 1, 9, 9]], "polygon 0 has a corner that is not finite"),
        ([SQUARE, [1, 1, INF, 1, 9, 9]], "polygon 1 has a corner that is not finite"),
        ([[1, 1, 1e9, 1, 1e9, 20]], r"corner at 1e\+09"),
        ([[2e8, 2e8, 2e8, 2e8, 2e8, 2e8]], r"corner at 2e\+08"),
        ([[1, 1, -1e300, 1, 9, 9]], "corner at -1e"),
        ([[1, 1, 10**30, 1, 9, 9]], "not a list of numbers"),
        ([[0, 0, 9e5, 0] * 4], "pixels long"),
        ([[1, 1, None, 1, 9, 9]], "not a list of numbers"),
        ([[1, 1, "5", 1, 9, 9]], "not a list of numbers"),
        ([[1, 1, True, 1, 9, [9]]], "not a list of numbers|list of points"),
        ([[True] * 6], "not a list of numbers"),
        ([[[1, 1], [5, 1], [5, 5]]], r"list of points.*\[\[x, y"),
        ([1, 1, 5, 1, 5, 5], r"flat list of numbers.*\[\[x, y"),
        ([SQUARE, 5], "polygon 1 is not a list of numbers"),
        ([SQUARE, None], "polygon 1 is not a list of numbers"),
        ([[]], "six or more"),
        ([SQUARE[:7]], "even number"),
        ([], "neither"),
        (None, "neither"),
        ({"size": [8, 10]}, "neither"),
        ({"size": None, "counts": [80]}, "RLE of size None"),
        ({"size": ["8", "10"], "counts": [80]}, "RLE of size"),
        ({"size": [8, 10], "counts": None}, "counts of an RLE"),
        ({"size": [8, 10], "counts": 5}, "counts of an RLE"),
        ({"size": [8, 10], "counts": [40.0, 40.0]}, "counts of an RLE"),
        ({"size": [8, 10], "counts": ["80"]}, "counts of an RLE"),
        ({"size": [8, 10], "counts": [[80]]}, "counts of an RLE"),
        ({"size": [8, 10], "counts": [1, 1]}, "add up to 2, but .* 80"),
        ({"size": [8, 10], "counts": [1000, 500, 200000]}, "add up to"),
        ({"size": [8, 10], "counts": [100, -50, 30]}, "one is -50"),
        ({"size": [8, 10], "counts": [2**62] * 4 + [80]}, "add up to"),
        ({"size": [8, 10], "counts": [2**63]}, "a run of"),
        ({"size": [8, 10], "counts": [2**70]}, "counts of an RLE"),
        ({"size": [8, 10], "counts": []}, "add up to 0"),
        ({"size": [8, 10], "counts": "1"}, "add up to 1"),
        ({"size": [8, 10], "counts": b""}, "add up to 0"),
        ({"size": [8, 10], "counts": "~~~"}, "damaged"),
        ({"size": [8, 10], "counts": "`"}, "damaged"),
        ({"size": [8, 10], "counts": "ooooooo1"}, "damaged"),
        ({"size": [8, 10], "counts": "日本"}, "not ASCII"),
    ],
)
def test_whatever_c_code_cannot_take_is_refused(outline, message):
    with pytest.raises(ValueError, match=message):
        run_lengths.to_rle(outline, 8, 10)
    truth = {
        "images": [{"id": 1, "height": 8, "width": 10}],
        "categories": [{"id": 1, "name": "a"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "area": 4.0, "segmentation": outline}
        ],
    }
    with pytest.raises(UserError, match="image id 1"):  # the same gate, before evaluation
        evaluate(truth, [], "segm")


@pytest.mark.parametrize("size", [(10**6, 10**6), (-1, 5), (2.5, 4), ("8", 10), (8,), None])
def test_sizes_that_no_mask_has(size):
    with pytest.raises(ValueError, match=r"pixels|whole numbers"):
        run_lengths.from_runs(b"1", size)
    with pytest.raises(ValueError, match=r"pixels|whole numbers"):
        masks.decode({"size": size, "counts": b"1"})


@given(chars=st.binary(max_size=12), height=st.integers(0, 6), width=st.integers(0, 6))
@settings(max_examples=300, deadline=None)
def test_any_characters_either_are_a_mask_or_are_refused(chars, height, width):
    try:
        rle = run_lengths.from_runs(chars, (height, width))
    except ValueError:
        return
    mask = run_lengths.decode([rle], (height, width))
    assert mask.shape == (1, height, width)
    assert set(np.unique(mask)) <= {0, 1}
    assert mask.sum() == run_lengths.area(rle)


@pytest.mark.parametrize("dialect", ["continuous", "torchvision"])
def test_boxes_that_integers_cannot_count_are_refused(dialect):
    for box in ([9.2e18, 0, 9.3e18, 5], [-1e9, 0, 5, 5]):
        for paste in (masks.paste, masks.paste_to_rle):
            with pytest.raises(ValueError, match="box 0 ends"):
                paste(torch.rand(1, 28, 28), torch.tensor([box]), (64, 64), dialect=dialect)
    index = torch.tensor([0])
    with pytest.raises(ValueError, match="box 0 ends"):
        masks.crop_to_boxes(torch.ones(1, 8, 8), torch.tensor([[0, 0, 5, 1e9]]), index, 7, True)


@pytest.mark.parametrize(
    "polygon", [[1, 1, NAN, 1, 9, 9], [1, 1, INF, 1, 9, 9], [1, 1, 1e9, 1, 9, 9]]
)
def test_the_public_function_of_polygons_is_behind_the_gate(polygon):
    with pytest.raises(ValueError, match="polygon 0 has a corner"):
        masks.polygons_to_mask([polygon], (64, 64))
