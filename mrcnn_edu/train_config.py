"""Every number of a training run on one page. Chapter 13 walks through it."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class TrainConfig:
    """How the network is trained. The defaults train ``tiny_fpn`` from scratch on a CPU."""

    steps: int = 1000
    batch_size: int = 4
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    momentum: float = 0.9  # of SGD
    warmup_steps: int = 100  # the rate grows linearly from zero
    schedule: Literal["cosine", "steps"] = "cosine"
    milestones: tuple[float, ...] = (2 / 3, 8 / 9)  # of "steps": where the rate falls tenfold
    clip_gradient_norm: float = 10.0
    average_decay: float = 0.99  # moving average of the weights, which is what is evaluated
    flip_probability: float = 0.5
    vertical_flip_probability: float = 0.0
    quarter_turns: bool = False  # rotate by a random multiple of 90°
    crop: int = 0  # side of a random square crop; 0 takes the whole image
    seed: int = 0
    checkpoint_seconds: float = 60.0

    def __post_init__(self) -> None:
        """Refuse values that cannot be trained with."""
        if self.steps < 1 or self.batch_size < 1:
            raise ValueError(
                f"steps is {self.steps} and batch_size {self.batch_size}; both must be at least 1."
            )
