"""Which parameters decay, by each code base's rule."""

import pytest
import torch
from torch import nn

from mrcnn_edu.model import MaskRCNN
from mrcnn_edu.training.config import TrainConfig, recipe
from mrcnn_edu.training.optimizer import make_optimizer, set_rate
from tests.fake_data import small_config


class Mixed(nn.Module):
    """Every kind of parameter: one weight, one bias, two of a normalisation; one is frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(2, 3)
        self.norm = nn.GroupNorm(1, 3)
        self.frozen = nn.Linear(2, 2, bias=False)
        self.frozen.weight.requires_grad_(False)


def rules(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, tuple[float, float]]:
    names = {id(p): name for name, p in model.named_parameters()}
    return {
        names[id(p)]: (group["weight_decay"], group["rate_factor"])
        for group in optimizer.param_groups
        for p in group["params"]
    }


@pytest.mark.parametrize(
    ("config", "weight", "bias", "norm"),
    [
        (TrainConfig(weight_decay=0.3), (0.3, 1), (0, 1), (0, 1)),
        (recipe("paper"), (1e-4, 1), (0, 2), (0, 1)),  # Detectron
        (recipe("1x"), (1e-4, 1), (1e-4, 1), (0, 1)),  # detectron2
        (recipe("torchvision"), (1e-4, 1), (1e-4, 1), (1e-4, 1)),
    ],
    ids=["ours", "detectron", "detectron2", "torchvision"],
)
def test_rules_of_each_code_base(config, weight, bias, norm):
    model = Mixed()
    assert rules(make_optimizer(model, config), model) == {
        "fc.weight": weight,
        "fc.bias": bias,
        "norm.weight": norm,
        "norm.bias": norm,
    }


def test_every_trained_parameter_is_in_one_group():
    model = MaskRCNN(small_config())
    optimizer = make_optimizer(model, TrainConfig())
    grouped = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters() if p.requires_grad)


def test_muon_takes_the_convolutions():
    model = MaskRCNN(small_config())
    config = TrainConfig(optimizer="muon", muon_rate_factor=7, weight_decay=0.3, fan_in_limit=144)
    optimizer = make_optimizer(model, config)
    names = {id(p): name for name, p in model.named_parameters()}
    (muon,) = (group for group in optimizer.param_groups if group["orthogonal"])
    assert (muon["rate_factor"], muon["weight_decay"]) == (7, 0.3)
    matrices = {names[id(p)] for p in muon["params"]}
    assert matrices == {name for name, p in model.named_parameters() if p.dim() == 4}
    grouped = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(grouped) == sorted(map(id, model.parameters()))
    assert rules(optimizer, model)["box_head.fcs.0.weight"] == (0.3, 144 / (16 * 49))
    set_rate(optimizer, 0.1)
    assert muon["lr"] == pytest.approx(0.7)


def test_many_inputs_take_a_lower_rate():
    """As 1/n beyond the limit; biases and norms, which sum nothing, keep theirs."""
    model = nn.Sequential(
        nn.Conv2d(3, 2, 3), nn.GroupNorm(1, 2), nn.Conv2d(8, 2, 3, groups=2), nn.Linear(90, 1)
    )
    found = rules(make_optimizer(model, TrainConfig(fan_in_limit=30)), model)
    factors = {name: factor for name, (_, factor) in found.items()}
    assert factors == {
        "0.weight": 1.0,  # 27 inputs
        "0.bias": 1.0,
        "1.weight": 1.0,
        "1.bias": 1.0,
        "2.weight": 30 / 36,
        "2.bias": 1.0,
        "3.weight": 30 / 90,
        "3.bias": 1.0,
    }
    optimizer = make_optimizer(model, TrainConfig(fan_in_limit=30))
    set_rate(optimizer, 0.3)
    assert 0.1 in [round(group["lr"], 9) for group in optimizer.param_groups]


def test_first_steps_of_adam_move_an_output_alike_whatever_its_inputs():
    """What the limit is for: without it, a layer of 100 times the inputs moves 100 times as far."""

    def moved(inputs: int, limit: int) -> float:
        torch.manual_seed(0)
        layer, x = nn.Linear(inputs, 1), torch.rand(1, inputs)
        optimizer = make_optimizer(layer, TrainConfig(fan_in_limit=limit, weight_decay=0))
        set_rate(optimizer, 1e-4)
        before = layer(x)
        before.sum().backward()
        optimizer.step()
        return float((before - layer(x)).detach())

    assert moved(2000, 0) / moved(20, 0) > 50
    assert moved(2000, 20) / moved(20, 20) == pytest.approx(1, abs=0.3)


def test_the_rate_of_biases():
    model = Mixed()
    optimizer = make_optimizer(model, recipe("paper"))
    set_rate(optimizer, 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.5, 1.0]
