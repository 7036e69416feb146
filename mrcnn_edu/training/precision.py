"""In which precision a step computes.

Under autocast, convolutions and matrix products run in bfloat16 or float16 and everything else as
it was; parameters and optimiser stay float32. RoI operators, NMS, box arithmetic and losses are
float32 always: the heads return float32, and `roi/` widens what it pools. float16 has too small a
range for gradients, so its loss is scaled up before the backward pass (Micikevicius et al. 2018,
§3.2); bfloat16 has float32's range and needs nothing. Chapters 13 and 17.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

Precision = Literal["float32", "tf32", "bf16", "fp16"]

_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(precision: Precision, device: str) -> AbstractContextManager[None]:
    """The context in which forward pass and losses run."""
    if precision not in _TYPES:
        return nullcontext()
    return torch.autocast(torch.device(device).type, _TYPES[precision])


def make_scaler(precision: Precision, device: str) -> torch.amp.GradScaler:
    """Scales losses under fp16; under all other precisions it passes everything through."""
    return torch.amp.GradScaler(torch.device(device).type, enabled=precision == "fp16")


def set_matmul_precision(precision: Precision) -> None:
    """Let a GPU round the factors of float32 products to 10 bits (TF32), unless told not to.

    It is a setting of the process. "float32" sets it back, and leaves convolutions exact too.
    """
    fast = precision != "float32"
    torch.set_float32_matmul_precision("high" if fast else "highest")
    torch.backends.cudnn.allow_tf32 = fast
