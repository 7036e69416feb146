"""Muon: equal to the singular value decomposition, and to torch's own optimisers step by step."""

import pytest
import torch
from torch import Tensor, nn

from mrcnn_edu.training.muon import Muon, orthogonalise


def by_svd(matrix: Tensor) -> Tensor:
    """The iteration on the singular values themselves, in double precision."""
    u, s, v = torch.linalg.svd(matrix.double(), full_matrices=False)
    s = s / s.norm()
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return (u * s) @ v


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 5), (4, 30), (30, 4)])
def test_singular_vectors_stay_and_values_come_near_one(shape):
    matrices = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    matrices[1] *= 1e4
    matrices[2] *= 1e-3
    found = orthogonalise(matrices)
    assert found.shape == matrices.shape
    for ours, matrix in zip(found, matrices, strict=True):
        torch.testing.assert_close(ours.double(), by_svd(matrix), atol=2e-3, rtol=0)
    values = torch.linalg.svdvals(found)
    if shape != (5, 5):  # a random square matrix may have a singular value near 0
        assert values.min() > 0.6
    assert values.max() < 1.3


def test_no_gradient_moves_nothing():
    assert orthogonalise(torch.zeros(1, 3, 4)).abs().max() == 0


def groups_of(layers: nn.ModuleList) -> list[dict]:
    """The first two layers' weights as matrices, all else as AdamW has it."""
    matrices = [layers[0].weight, layers[1].weight]
    others = [p for p in layers.parameters() if all(p is not m for m in matrices)]
    return [
        {"params": matrices, "weight_decay": 0.1, "orthogonal": True},
        {"params": others, "weight_decay": 0.02, "orthogonal": False},
    ]


def network() -> nn.ModuleList:
    torch.manual_seed(3)
    conv = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    return nn.ModuleList([conv, nn.Linear(6, 20), nn.Linear(8, 2)])


def give_gradients(layers: nn.ModuleList, step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    for p in layers.parameters():
        p.grad = torch.randn(p.shape, generator=generator)


def test_steps_are_those_of_torch(monkeypatch):
    """torch's Muon takes matrices only, and iterates in bfloat16: it gets our iteration here."""
    monkeypatch.setattr(
        torch.optim._muon,
        "_zeropower_via_newtonschulz",
        lambda grad, *_: orthogonalise(grad[None])[0],
    )
    ours, theirs = network(), network()
    matrices = [nn.Parameter(layer.weight.detach().flatten(1).clone()) for layer in theirs[:2]]
    muon = torch.optim.Muon(matrices, lr=0.1, weight_decay=0.1)
    adamw = torch.optim.AdamW(groups_of(theirs)[1]["params"], 0.1, weight_decay=0.02, fused=True)
    optimizer = Muon(groups_of(ours), lr=0.1)
    for step in range(4):
        give_gradients(ours, step)
        give_gradients(theirs, step)
        for matrix, layer in zip(matrices, theirs, strict=False):
            matrix.grad = layer.weight.grad.flatten(1)
        for one in (optimizer, muon, adamw):
            one.step()
    for matrix, layer in zip(matrices, ours, strict=False):
        torch.testing.assert_close(layer.weight.flatten(1), matrix)
    for mine, their in zip(
        groups_of(ours)[1]["params"], adamw.param_groups[0]["params"], strict=True
    ):
        assert torch.equal(mine, their)
    assert len(optimizer.param_groups) == 2


def test_a_stored_state_goes_on_where_it_was():
    whole, halves = network(), network()
    optimizer, first = Muon(groups_of(whole), lr=0.1), Muon(groups_of(halves), lr=0.1)
    for step in range(4):
        give_gradients(whole, step)
        optimizer.step()
        if step == 2:
            second = Muon(groups_of(halves), lr=0.1)
            second.load_state_dict(first.state_dict())
            first = second
        give_gradients(halves, step)
        first.step()
    for a, b in zip(whole.parameters(), halves.parameters(), strict=True):
        assert torch.equal(a, b)


def test_without_a_gradient_a_weight_stays():
    layers = network()
    before = [p.detach().clone() for p in layers.parameters()]
    Muon(groups_of(layers), lr=0.1).step()
    assert all(torch.equal(a, b) for a, b in zip(before, layers.parameters(), strict=True))
