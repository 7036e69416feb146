"""Muon: a step in which every direction of a weight matrix moves equally far.

The gradient of a convolution, written as a matrix [outputs, inputs], has a few large singular
values and many small ones: a step along it changes a few combinations of channels and hardly
teaches the others anything. Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/)
averages gradients as SGD with momentum does, and then replaces the average U S Vᵀ by nearly U Vᵀ,
all of whose singular values are one. So it learns along all directions at once, and how far an
output can move in a step is bounded, whatever the number of inputs. Chapter 13.
"""

import torch
from torch import Tensor, nn

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # Jordan's: steepest at 0, so that few rounds do
_ROUNDS = 5
_MOMENTUM = 0.95


class Muon(torch.optim.AdamW):
    """Muon for the groups of parameters that say `"orthogonal": True`, AdamW for all others.

    A weight of more than two dimensions is taken as the matrix [outputs, inputs · height · width].

    Args:
        groups: parameters, `weight_decay` and `orthogonal`.
        lr: the rate; the training loop sets each group's own.
    """

    def __init__(self, groups: list[dict], lr: float) -> None:
        super().__init__(groups, lr=lr, fused=True)
        # A gradient scaler leaves out steps that overflowed, instead of telling the fused kernel.
        self._step_supports_amp_scaling = False

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step of both."""
        everything = self.param_groups
        for group in everything:
            if group["orthogonal"]:
                self._step_matrices(group)
        self.param_groups = [group for group in everything if not group["orthogonal"]]
        try:
            super().step(closure)
        finally:
            self.param_groups = everything

    def _step_matrices(self, group: dict) -> None:
        """Matrices of one shape are made orthogonal together: calls cost more than sums here."""
        alike: dict[tuple[int, ...], list[tuple[nn.Parameter, Tensor]]] = {}
        for parameter in group["params"]:
            if parameter.grad is None:
                continue
            state = self.state[parameter]
            if not state:
                state["step"] = torch.zeros(())  # AdamW asks for it when a state is loaded
                state["average"] = torch.zeros_like(parameter.grad)
            state["step"] += 1
            average = state["average"].lerp_(parameter.grad, 1 - _MOMENTUM)
            # Nesterov's form: the newest gradient counts once more.
            direction = parameter.grad.lerp(average, _MOMENTUM).flatten(1)  # [outputs, inputs]
            alike.setdefault(tuple(direction.shape), []).append((parameter, direction))
        for (outputs, inputs), members in alike.items():
            steps = orthogonalise(torch.stack([direction for _, direction in members]))
            rate = group["lr"] * max(1.0, outputs / inputs) ** 0.5
            for (parameter, _), step in zip(members, steps, strict=True):
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(step.reshape(parameter.shape), alpha=-rate)


def orthogonalise(matrices: Tensor) -> Tensor:
    """Replace U S Vᵀ by nearly U Vᵀ: singular values come to lie between 0.7 and 1.2 or so.

    Newton's and Schulz's iteration: X ← a X + b (X Xᵀ) X + c (X Xᵀ)² X leaves U and V as they are
    and maps every singular value s to a s + b s³ + c s⁵. Jordan's coefficients lift small values
    fast; that large ones then come to lie around one, not at one, does no harm.

    Args:
        matrices: [n, rows, columns], of any scale.
    """
    wide = matrices if matrices.shape[1] <= matrices.shape[2] else matrices.mT  # X Xᵀ the smaller
    x = wide / (wide.norm(dim=(1, 2), keepdim=True) + 1e-7)  # all singular values at most 1
    a, b, c = _COEFFICIENTS
    for _ in range(_ROUNDS):
        gram = x @ x.mT  # [n, rows, rows]
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if wide is matrices else x.mT
