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


def test_the_rate_of_biases():
    model = Mixed()
    optimizer = make_optimizer(model, recipe("paper"))
    set_rate(optimizer, 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.5, 1.0]
