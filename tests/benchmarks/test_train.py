"""The race of training loops: same images for both, and arithmetic that holds."""

import itertools

import pytest
import torch

from benchmarks import train
from benchmarks.train import ReferenceSet, hours_of_1x, race
from mrcnn_edu.data.coco import CocoDataset
from mrcnn_edu.data.rehearsal import write_rehearsal
from mrcnn_edu.training.batches import read_sample
from mrcnn_edu.training.config import TrainConfig


def test_the_reference_set_flips_image_boxes_and_masks_together(tmp_path):
    data = CocoDataset(tmp_path / "train", write_rehearsal(tmp_path, 2, seed=0))
    for flip in (0.0, 1.0):
        dataset = ReferenceSet(data, TrainConfig(flip_probability=flip))
        for index in range(2):
            ours = read_sample(data, (0, index))
            image, target = dataset[0, index]
            assert torch.equal(image, (ours.image.flip(-1) if flip else ours.image).float() / 255)
            assert torch.equal(target["labels"], ours.target["labels"])
            for mask, box in zip(target["masks"], target["boxes"].tolist(), strict=True):
                columns = mask.any(dim=0).nonzero()
                assert columns.min() >= box[0] - 1e-3
                assert columns.max() + 1 <= box[2] + 1e-3


class Steady:
    """A loop of which every step takes so many seconds on a clock of its own."""

    def __init__(self, name: str, seconds: float, clock: list[float]) -> None:
        self.name, self.seconds, self.clock = name, seconds, clock
        self.device, self.model, self.steps = "cpu", torch.nn.Linear(2, 2), 0

    def step(self) -> float:
        self.steps += 1
        self.clock[0] += self.seconds
        return self.seconds / 4

    def optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.model.parameters(), lr=1.0)


def test_a_race_of_known_speeds(monkeypatch, capsys):
    clock = [0.0]
    monkeypatch.setattr(train.time, "perf_counter", lambda: clock[0])
    runners = [Steady("ours", 0.5, clock), Steady("torchvision", 2.0, clock)]
    summary = race(runners, rounds=3, queued=2, steps=5, batch=4)
    assert summary["ours"]["images_s"] == 8
    assert summary["torchvision"]["images_s"] == 2
    assert summary["ratio"] == 4
    assert summary["ours"]["loader_share"] == 0.25
    assert [r.steps for r in runners] == [4 * 7, 4 * 7]  # one round more, which is not counted


def test_projected_hours():
    hours, arithmetic = hours_of_1x(62)
    assert hours == pytest.approx(90_000 * 16 / 62 / 3600, abs=0.05)
    assert "90,000 steps × 16 images / 62 images/s / 3600 = 6.5 h" in arithmetic


def test_what_a_model_holds_between_turns():
    loop = Steady("ours", 1, [0.0])
    assert train.persistent_bytes(loop) == 4 * 6
    for parameter in itertools.chain(loop.model.parameters()):
        parameter.grad = torch.zeros_like(parameter)
    assert train.persistent_bytes(loop) == 2 * 4 * 6
