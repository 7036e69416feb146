"""What a run takes: the bill by hand, the bytes by what torch itself holds."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from mrcnn_edu.data.coco_facts import EMPTY_IMAGES, SPLITS
from mrcnn_edu.training import budget
from mrcnn_edu.training.budget import Machine, bill, state_bytes


def test_a_bill_by_hand():
    found = bill(3600 * 40, Machine(4, 20.0, 0.5, 8, 10.0, 2.0))
    assert (found.rate, found.limit, found.hours, found.money, found.idle) == (
        40,
        "GPUs",
        1,
        8,
        0,
    )
    starved = bill(3600 * 40, Machine(4, 20.0, 1.0, 4, 10.0, 2.0))
    assert (starved.rate, starved.limit, starved.idle) == (40, "loader", 0.5)
    alone = bill(3600 * 40, Machine(1, 20.0, 0.5, 8, 10.0, 2.0))
    assert (alone.rate, alone.hours, alone.money) == (20, 2, 4)


@pytest.mark.parametrize(
    "wrong", [{"gpus": 0}, {"workers": 0}, {"images_s": 0.0}, {"efficiency": 1.2}]
)
def test_no_machine_is_like_that(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        replace(Machine(), **wrong)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
@pytest.mark.parametrize("average", [False, True])
def test_bytes_are_those_that_torch_holds(name, average):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.Conv2d(5, 7, 3, bias=False))
    model[0].requires_grad_(False)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = (
        torch.optim.SGD(trained, 0.1, momentum=0.9)
        if name == "sgd"
        else torch.optim.AdamW(trained, 0.1)
    )
    model(torch.rand(2, 3, 9, 9)).sum().backward()
    optimizer.step()
    held = [*model.parameters(), *model.buffers()]
    held += [p.grad for p in model.parameters() if p.grad is not None]
    # AdamW also counts its steps, one number for each tensor.
    held += [v for s in optimizer.state.values() for k, v in s.items() if k != "step"]
    if average:
        held += copy.deepcopy([*model.parameters(), *model.buffers()])
    assert state_bytes(model, name, average) == sum(t.nbytes for t in held)


def test_published_numbers_have_sources_and_are_in_order():
    assert SPLITS["train2017"].images - EMPTY_IMAGES == budget.TRAIN_IMAGES
    assert budget.AP_RUN["images"] == SPLITS["train2017"].images
    assert all(t.source and t.images_s > 0 for t in budget.PUBLISHED)
    eight = {t.code: t.images_s for t in budget.PUBLISHED if t.card == "A100" and t.gpus == 8}
    one = {t.code: t.images_s for t in budget.PUBLISHED if t.card == "A100" and t.gpus == 1}
    measured = eight["FlagPerf"] / 8 / one["FlagPerf"]
    assert pytest.approx(measured, abs=5e-4) == Machine().efficiency
