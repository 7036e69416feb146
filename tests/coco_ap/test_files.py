"""From two files the numbers are those of their contents, and pycocotools'."""

import json

import numpy as np
import pytest

from mrcnn_edu.coco_ap import evaluate
from mrcnn_edu.coco_ap.cases import by_pycocotools, make_case
from mrcnn_edu.coco_ap.files import evaluate_files


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_files_and_contents_give_the_same(tmp_path, kind):
    truth, results = make_case(5, kind, images=6, classes=3, objects=20, detections=60)
    paths = [tmp_path / "truth.json", tmp_path / "results.json"]
    for path, content in zip(paths, (truth, results), strict=True):
        path.write_text(json.dumps(content, default=lambda b: b.decode()))
    found = evaluate_files(*paths, [kind])
    assert list(found) == [kind]
    assert found[kind].summary() == evaluate(truth, results, kind).summary()
    expected = by_pycocotools(*(json.loads(p.read_text()) for p in paths), kind)
    np.testing.assert_array_equal(found[kind].precision, expected.eval["precision"])
