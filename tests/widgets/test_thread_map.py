"""The thread map: JavaScript counts what Python counts, and what the recorder of kernels sees."""

import itertools

import numpy as np
import pytest
import torch
import traitlets

pytest.importorskip("anywidget", reason="widgets need anywidget: pip install anywidget")

from mrcnn_edu.pictures.threads import trace
from mrcnn_edu.widgets import thread_map
from mrcnn_edu.widgets.thread_map import BINS, CHANNELS, HEIGHT, LAYOUTS, OVER, WIDTH, ThreadMap
from tests.widgets.node import call, needs_node

CASES = [(w, over) for over in OVER for w in range(thread_map.warps(over))]


@needs_node
def test_outputs_and_sectors_are_python_s():
    assert call("thread_map", "warps", [[over] for over in OVER]) == [32, 64]
    wanted = [[list(o) for o in thread_map.outputs(*case)] for case in CASES]
    assert call("thread_map", "outputs", CASES) == wanted
    rng = np.random.default_rng(0)
    pixels = [*thread_map.tap_pixels(), rng.integers(0, HEIGHT * WIDTH, BINS**2).tolist()]
    cases = [
        (thread_map.outputs(*case), p, layout)
        for case, p, layout in itertools.product(CASES, pixels, LAYOUTS)
    ]
    wanted = [[list(pair) for pair in sorted(thread_map.sectors(*c).items())] for c in cases]
    assert call("thread_map", "sectors", cases) == wanted


@needs_node
def test_each_place_of_the_outputs_has_its_warp():
    for over in OVER:
        columns, rows = (2, 16) if over == "channels" else (64, 1)
        places = [(x + 0.5, y + 0.5, over) for y in range(rows) for x in range(columns)]
        assert call("thread_map", "warpAt", places) == list(range(thread_map.warps(over)))
    outside = [(-3, -1, "channels"), (9, 99, "channels"), (99, 4, "bins")]
    assert call("thread_map", "warpAt", outside) == [0, 31, 63]


@pytest.mark.parametrize("over", OVER)
def test_every_output_has_one_thread(over):
    found = [o for w in range(thread_map.warps(over)) for o in thread_map.outputs(w, over)]
    assert sorted(found) == sorted(itertools.product(range(BINS**2), range(CHANNELS)))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("over", OVER)
def test_sectors_are_those_of_the_library_s_kernel(layout, over):
    cuda_mean = pytest.importorskip("mrcnn_edu.roi.cuda.mean")
    memory = torch.channels_last if layout == "channels last" else torch.contiguous_format
    maps = torch.zeros(1, CHANNELS, HEIGHT, WIDTH).contiguous(memory_format=memory)
    feature = maps.flatten(2).transpose(1, 2).numpy()
    fast, slow = (CHANNELS, BINS**2) if over == "channels" else (BINS**2, CHANNELS)
    rois = np.array([[0, *thread_map.BOX]], np.float32)
    found = trace(
        cuda_mean.forward, (1, slow, -(-fast // 32)), (32, 1), feature, WIDTH, rois,
        np.zeros(1, np.int64), 0, 1.0, True, False, 1, BINS, over == "channels",
        np.zeros((1, BINS**2, CHANNELS), np.float32),
    )  # fmt: skip
    pixels = thread_map.tap_pixels()
    wanted = [
        len(thread_map.sectors(thread_map.outputs(w, over), p, layout))
        for w in range(thread_map.warps(over))
        for p in pixels
    ]
    assert sorted(found.sectors("feature")) == sorted(wanted)


def test_the_picture_and_the_traits():
    widget = ThreadMap(over="bins", layout_="channels first", warp=3)
    titles = [axis.get_title(loc="left") for axis in widget.figure().axes]
    assert titles[0].endswith("warp 3")
    fetched = thread_map.sectors(
        thread_map.outputs(3, "bins"), thread_map.tap_pixels()[0], "channels first"
    )
    share = 100 * sum(fetched.values()) / (8 * len(fetched))
    assert titles[1].startswith(f"channels first: {len(fetched)} sectors, {share:.0f}")
    with pytest.raises(traitlets.TraitError):
        ThreadMap(over="rows")
    with pytest.raises(traitlets.TraitError):
        ThreadMap(tap=4)
