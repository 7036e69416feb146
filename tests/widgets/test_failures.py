"""The loss browser: what its JavaScript computes is what the library computes."""

import json
import math

import numpy as np
import pytest
import torch

pytest.importorskip("anywidget", reason="widgets need anywidget: pip install anywidget")

from mrcnn_edu import masks as mask_ops
from mrcnn_edu.data.shapes import ShapesConfig, ShapesDataset, generate
from mrcnn_edu.widgets.common import unpack
from mrcnn_edu.widgets.failures import SERIES, FailureBrowser
from tests.widgets.node import call, needs_node

DATASET = ShapesDataset(generate(ShapesConfig(image_size=64, max_objects=4), 6, seed=3))
SHOWN = [1, 4, 5]


def detections(generator, index):
    """Objects of an image with noise, some of another class, some twice; best first."""
    _, target = DATASET[index]
    found = []
    for k, (box, label, mask) in enumerate(
        zip(target["boxes"], target["labels"], target["masks"], strict=True)
    ):
        for copy in range(2):
            noise = 5 * torch.rand(4, generator=generator) * (k + copy)
            x1, y1, x2, y2 = (box + noise).tolist()
            found.append(
                {
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "label": int(label) if (k + copy) % 3 < 2 else int(label) % 10 + 1,
                    "score": round(0.95 - 0.09 * len(found), 3),
                    "mask": mask_ops.encode(mask)["counts"].decode(),
                }
            )
    return found


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    folder, files = tmp_path_factory.mktemp("runs"), []
    generator = torch.Generator().manual_seed(0)
    for r, title in enumerate(("healthy", "broken", "stopped")):
        steps = 40 if title != "stopped" else 25
        train = {name: (3 * torch.rand(steps, generator=generator)).tolist() for name in SERIES}
        if title == "broken":
            train["loss"][30] = None
        result = {
            "title": title,
            "config": {"shown": SHOWN},
            "train": train,
            "metrics": {"box": {"AP": 10.0 * r}, "mask": {"AP": 5.0 * r}},
            "detections": [detections(generator, i) for i in SHOWN] if r < 2 else [[], [], []],
        }
        files.append(folder / f"{title}.json")
        files[-1].write_text(json.dumps(result))
    return FailureBrowser.from_results(files, DATASET, threshold=0.1)


@needs_node
@pytest.mark.parametrize("width", [1, 7, 40, 60])
def test_javascript_smooths_as_python(browser, width):
    browser.width = width
    raw = unpack(browser.curves, (3, len(SERIES), 40))
    for run in range(3):
        for name in ("loss", "gradient_norm"):
            values = raw[run, SERIES.index(name)].tolist()
            finite = [None if math.isnan(v) else v for v in values]
            (got,) = call("failures", "smooth", [[finite, width]])
            wanted = browser.smoothed(run, name)
            assert len(got) == len(wanted)
            known = ~np.isnan(wanted)
            np.testing.assert_allclose(np.array(got, float)[known], wanted[known], rtol=1e-6)


@needs_node
def test_javascript_decodes_masks_as_the_library():
    for index in range(6):
        for mask in DATASET[index][1]["masks"]:
            counts = mask_ops.encode(mask)["counts"].decode()
            (runs,) = call("failures", "runLengths", [[counts]])
            assert runs == mask_ops.to_runs(mask)
            (strips,) = call("failures", "strips", [[counts, 64]])
            painted = torch.zeros(64, 64, dtype=torch.uint8)
            for column, row, length in strips:
                assert row + length <= 64
                painted[row : row + length, column] += 1
            assert torch.equal(painted, mask)
    (strips,) = call(
        "failures",
        "strips",
        [[mask_ops.encode(torch.ones(5, 3, dtype=torch.uint8))["counts"].decode(), 5]],
    )
    assert strips == [[0, 0, 5], [1, 0, 5], [2, 0, 5]]


@needs_node
@pytest.mark.parametrize("picture", [0, 1, 2])
def test_javascript_judges_as_the_library(browser, picture):
    browser.picture = picture
    rights = 0
    for run in range(3):
        arguments = [browser.shown(run), browser.truths[picture]]
        (claimed,) = call("failures", "claims", [arguments])
        assert claimed == browser.claims(run)
        hits = [g for g in claimed if g >= 0]
        assert len(hits) == len(set(hits)), "an object is claimed once"
        rights += len(hits)
    assert rights > 0


def test_a_score_threshold_and_a_figure(browser):
    browser.picture, browser.run = 0, 1
    assert all(d[5] > 0.1 for d in browser.shown(1))
    browser.threshold = 0.99
    assert browser.shown(1) == []
    assert browser.claims(1) == []
    browser.threshold = 0.1
    for browser.run in (1, 2):
        title = browser.figure().axes[2].get_title()
        assert browser.titles[browser.run] in title
    assert np.isnan(browser.smoothed(2, "loss")[-1]), "the run that stopped has no curve there"
