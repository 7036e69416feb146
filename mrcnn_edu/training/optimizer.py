"""The optimiser, and which parameters decay.

Weight decay pulls weights towards zero. For the scale of a normalisation layer, whose neutral value
is one, and for biases that is no prior at all, so code bases treat them apart, each in its own way:
detectron2 leaves normalisation layers out, Detectron also biases, whose rate it doubles,
torchvision treats all alike. Chapter 13.
"""

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mrcnn_edu.training.config import TrainConfig

_NORMS = (_BatchNorm, nn.GroupNorm, nn.LayerNorm)


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW or SGD over the parameters that are trained.

    The groups are weights, normalisation layers and biases; empty ones are left out. Each carries
    ``rate_factor``: its rate at a step is that factor times the schedule's.
    """
    kinds: dict[str, list[nn.Parameter]] = {"weights": [], "norms": [], "biases": []}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            if isinstance(module, _NORMS):
                kinds["norms"].append(parameter)
            else:
                kinds["biases" if name.endswith("bias") else "weights"].append(parameter)
    rules = {
        "weights": (config.weight_decay, 1.0),
        "norms": (config.norm_weight_decay, 1.0),
        "biases": (config.bias_weight_decay, config.bias_rate_factor),
    }
    groups = [
        {"params": parameters, "weight_decay": rules[kind][0], "rate_factor": rules[kind][1]}
        for kind, parameters in kinds.items()
        if parameters
    ]
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)
    return torch.optim.SGD(groups, lr=config.learning_rate, momentum=config.momentum, fused=True)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give each group its factor times ``rate``."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["rate_factor"]
