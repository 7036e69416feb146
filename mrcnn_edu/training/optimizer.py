"""The optimiser, and which parameters decay.

Weight decay pulls weights towards zero. For the scale of a normalisation layer, whose neutral value
is one, and for biases that is no prior at all, so code bases treat them apart, each in its own way:
detectron2 leaves normalisation layers out, Detectron also biases, whose rate it doubles,
torchvision treats all alike.

Adam moves every weight by about the rate, however small its gradient. An output that sums n inputs
thus moves by up to n times the rate, and a layer of thousands of inputs, such as the first fully
connected one of the box head, overshoots where a 3×3 convolution learns. Its rate should fall as
1/n (Yang et al. 2021, "Tensor Programs V", table 3); `fan_in_limit` says from which n on.
Chapter 13.
"""

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mrcnn_edu.training.config import TrainConfig
from mrcnn_edu.training.muon import Muon

_NORMS = (_BatchNorm, nn.GroupNorm, nn.LayerNorm)
_CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """SGD, AdamW, or Muon for convolutions and AdamW for the rest, of the parameters trained.

    The groups are convolutions that Muon takes, other weights, normalisation layers and biases,
    with a `fan_in_limit` weights by their number of inputs; empty ones are left out. Each carries
    `rate_factor`: its rate at a step is that factor times the schedule's.
    """
    matrices: list[nn.Parameter] = []
    weights: dict[float, list[nn.Parameter]] = {1.0: []}  # by the factor of their rate
    norms: list[nn.Parameter] = []
    biases: list[nn.Parameter] = []
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            if isinstance(module, _NORMS):
                norms.append(parameter)
            elif name.endswith("bias"):
                biases.append(parameter)
            elif config.optimizer == "muon" and isinstance(module, _CONVOLUTIONS):
                matrices.append(parameter)
            else:
                weights.setdefault(_factor(parameter, config.fan_in_limit), []).append(parameter)
    rules = [
        (matrices, config.weight_decay, config.muon_rate_factor),
        *((some, config.weight_decay, factor) for factor, some in weights.items()),
        (norms, config.norm_weight_decay, 1.0),
        (biases, config.bias_weight_decay, config.bias_rate_factor),
    ]
    groups = [
        {"params": parameters, "weight_decay": decay, "rate_factor": factor}
        for parameters, decay, factor in rules
        if parameters
    ]
    if config.optimizer == "muon":
        for group in groups:
            group["orthogonal"] = group["params"] is matrices
        return Muon(groups, lr=config.learning_rate)
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)
    return torch.optim.SGD(groups, lr=config.learning_rate, momentum=config.momentum, fused=True)


def _factor(weight: nn.Parameter, fan_in_limit: int) -> float:
    """What the rate of a weight [outputs, inputs, …] is multiplied by."""
    fan_in = weight[0].numel()
    return min(1.0, fan_in_limit / fan_in) if fan_in_limit else 1.0


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give each group its factor times `rate`."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["rate_factor"]
