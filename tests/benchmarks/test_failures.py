"""The zoo of failures: each arm differs from the healthy one in the one thing that it names."""

import dataclasses

import torch

from benchmarks.failures import ARMS, MODEL, SHOWN, TRAIN, from_zero, masks_stay, shown, xywh
from mrcnn_edu.config import difference


def target():
    return {
        "boxes": torch.tensor([[10.0, 20, 50, 30], [4, 4, 8, 9]]),
        "labels": torch.tensor([1, 3]),
        "masks": torch.eye(4, dtype=torch.uint8).repeat(2, 1, 1),
        "image_id": torch.tensor(7),
    }


def test_an_arm_differs_in_one_thing():
    assert ARMS["healthy"] == dataclasses.replace(ARMS["healthy"], model={}, train={}, change=None)
    for name, arm in ARMS.items():
        if name in ("healthy", "batch_norm"):  # BatchNorm's control is another arm, not healthy
            continue
        changes = len(arm.model) + len(arm.train) + (arm.change is not None) + (not arm.zero_grad)
        assert changes == 1, name
        model = dataclasses.replace(MODEL, **arm.model)
        train = dataclasses.replace(TRAIN, **arm.train)
        assert len(difference(MODEL, model)) + len(difference(TRAIN, train)) == len(
            {**arm.model, **arm.train}
        )
    assert ARMS["batch_norm"].train == ARMS["group_norm"].train


def test_mistakes_are_the_ones_they_are_called():
    good = target()
    assert xywh(good, good)["boxes"].tolist() == [[10, 20, 40, 10], [4, 4, 4, 5]]
    bad = from_zero(good, good)
    assert bad["labels"].tolist() == [2]
    assert bad["boxes"].tolist() == [[4, 4, 8, 9]]
    assert bad["masks"].shape == (1, 4, 4)
    assert bad["image_id"] == 7
    flipped = good | {"masks": good["masks"].flip(-1)}
    assert torch.equal(masks_stay(flipped, good)["masks"], good["masks"])
    assert good["labels"].tolist() == [1, 3]


def test_the_best_detections_of_one_image_are_kept():
    def found(image_id, score):
        mask = {"size": [4, 4], "counts": "abc"}
        return {
            "image_id": image_id, "category_id": 2, "bbox": [1.04, 2, 3, 4], "score": score,
            "segmentation": mask,
        }  # fmt: skip

    kept = shown([found(1, 0.2), found(2, 0.9), found(1, 0.7), found(1, 0.01)], 1)
    assert [d["score"] for d in kept] == [0.7, 0.2]
    assert kept[0] == {"bbox": [1.0, 2, 3, 4], "label": 2, "score": 0.7, "mask": "abc"}
    assert len(shown([found(1, 0.5)] * 30, 1)) == 12
    assert len(set(SHOWN)) == 3
