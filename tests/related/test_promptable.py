"""The segmenter's parts: PyTorch's attention, symmetries, finite differences."""

import dataclasses

import pytest
import torch
from torch import nn

from mrcnn_edu.related.automatic_masks import everything, stability
from mrcnn_edu.related.promptable import (
    Answers,
    Embedding,
    MaskDecoder,
    PromptableConfig,
    PromptableSegmenter,
    at_size,
)
from mrcnn_edu.related.prompts import (
    BESIDE,
    NOTHING,
    ON,
    PositionCode,
    PromptEncoder,
    Prompts,
    boxes,
    clicks,
)
from mrcnn_edu.related.rounds import corrected, round_losses
from mrcnn_edu.related.two_way import Attention, TwoWayTransformer

SMALL = PromptableConfig(channels=16, inner=8, heads=2, hidden=12, mask_channels=(8, 4))


@pytest.fixture(scope="module")
def model() -> PromptableSegmenter:
    torch.manual_seed(0)
    return PromptableSegmenter(SMALL).eval()


@pytest.fixture(scope="module")
def embedding(model) -> Embedding:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        return model.embed([torch.rand(3, s, s, generator=generator) for s in (64, 100)])


def ask(*points: tuple[float, float, int], count: int = 2) -> Prompts:
    of_one = torch.tensor([p[:2] for p in points]), torch.tensor([p[2] for p in points])
    return Prompts(of_one[0].expand(count, -1, -1), of_one[1].expand(count, -1))


def test_attention_is_pytorchs():
    torch.manual_seed(0)
    ours, theirs = Attention(16, 16, 4), nn.MultiheadAttention(16, 4, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([ours.q.weight, ours.k.weight, ours.v.weight]))
        theirs.in_proj_bias.copy_(torch.cat([ours.q.bias, ours.k.bias, ours.v.bias]))
        theirs.out_proj.load_state_dict(ours.out.state_dict())
    q, k, v = torch.randn(2, 3, 16), torch.randn(2, 7, 16), torch.randn(2, 7, 16)
    torch.testing.assert_close(ours(q, k, v), theirs(q, k, v)[0])


def test_beginning_alike_attends_to_what_is_near():
    torch.manual_seed(0)
    code, attention = PositionCode(64, 0.6), Attention(64, 32, 2)
    attention.begin_alike(3.0)
    grid = code.grid(12, 12)  # [144, 64]
    click = code(torch.tensor([[0.3, 0.7]]))
    scores = (attention.q(click) @ attention.k(grid).T)[0]
    row, column = divmod(int(scores.argmax()), 12)
    assert abs(column + 0.5 - 0.3 * 12) <= 1
    assert abs(row + 0.5 - 0.7 * 12) <= 1


def test_two_way_gradients_are_those_of_finite_differences():
    torch.manual_seed(0)
    transformer = TwoWayTransformer(8, 4, 2, 6, 2).double()
    inputs = [
        torch.randn(s, dtype=torch.double, requires_grad=True) for s in ((2, 3, 8), (2, 5, 8))
    ]
    places = torch.randn(5, 8, dtype=torch.double)
    assert torch.autograd.gradcheck(lambda t, c: transformer(t, c, places), inputs)


def test_decoder_gradients_are_those_of_finite_differences():
    torch.manual_seed(0)
    config = dataclasses.replace(SMALL, channels=8, inner=4, mask_channels=(4, 2), blocks=1)
    decoder = MaskDecoder(config).double()
    cells, fine, tokens = (
        torch.randn(s, dtype=torch.double, requires_grad=True)
        for s in ((1, 8, 2, 2), (1, 4, 4, 4), (1, 2, 8))
    )
    places = torch.randn(4, 8, dtype=torch.double)

    def answer(c, f, t):
        answers = decoder(Embedding(c, f), t, places)
        return answers.logits, answers.scores

    assert torch.autograd.gradcheck(answer, (cells, fine, tokens))


def test_codes_depend_on_distances_only():
    code = PositionCode(64, 0.6)
    a, b, shift = torch.rand(5, 2), torch.rand(5, 2), torch.tensor([0.11, -0.3])
    torch.testing.assert_close(
        (code(a) * code(b)).sum(1), (code(a + shift) * code(b + shift)).sum(1), atol=1e-4, rtol=0
    )
    torch.testing.assert_close((code(a) ** 2).sum(1), torch.full((5,), 32.0))


def test_a_grid_codes_the_centres_of_its_cells_row_by_row():
    code = PositionCode(8, 1.0)
    torch.testing.assert_close(code.grid(2, 4)[5], code(torch.tensor([1.5 / 4, 1.5 / 2])))


def test_clicks_and_boxes_become_shares():
    asked = clicks(torch.tensor([[[50.0, 10.0]]]), torch.tensor([[ON]]), (20, 100))
    assert asked.points.tolist() == [[[0.5, 0.5]]]
    assert not asked.several()
    box = boxes(torch.tensor([[10.0, 5.0, 50.0, 20.0]]), (20, 100))
    torch.testing.assert_close(box.points, torch.tensor([[[0.1, 0.25], [0.5, 1.0]]]))
    assert box.several()


def test_what_is_no_point_has_no_position():
    encoder = PromptEncoder(16, 1.0)
    tokens = encoder.tokens(ask((0.2, 0.3, ON), (0.9, 0.9, NOTHING), count=1))
    others = encoder.tokens(ask((0.2, 0.3, ON), (0.0, 0.0, NOTHING), count=1))
    torch.testing.assert_close(tokens, others)
    torch.testing.assert_close(tokens[0, 1], encoder.nothing)


@torch.no_grad()
def test_shapes_and_sizes(model, embedding):
    assert embedding.cells.shape == (2, 16, 24, 24)
    assert embedding.fine.shape == (2, 8, 48, 48)
    answers = model.answer(embedding, ask((0.5, 0.5, ON)))
    assert answers.logits.shape == (2, 4, 96, 96)
    assert answers.scores.shape == (2, 4)
    assert at_size(answers.logits, (50, 70)).shape == (2, 4, 50, 70)


@torch.no_grad()
def test_the_order_of_clicks_does_not_matter(model, embedding):
    one, other = (0.2, 0.3, ON), (0.8, 0.6, BESIDE)
    first, second = (model.answer(embedding, ask(*p)) for p in ((one, other), (other, one)))
    torch.testing.assert_close(first.logits, second.logits, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_prompts_of_a_batch_do_not_see_each_other(model, embedding):
    both = Prompts(torch.tensor([[[0.2, 0.3]], [[0.7, 0.7]]]), torch.tensor([[ON], [BESIDE]]))
    together = model.answer(embedding, both)
    for i in range(2):
        alone = model.answer(
            embedding.of(torch.tensor([i])), Prompts(both.points[[i]], both.labels[[i]])
        )
        torch.testing.assert_close(alone.logits[0], together.logits[i], atol=1e-4, rtol=1e-4)


def test_one_point_gets_three_masks_and_more_points_the_first():
    answers = Answers(torch.arange(8.0).reshape(2, 4, 1, 1), torch.tensor([[9.0, 1, 3, 2]] * 2))
    several = torch.tensor([False, True])
    assert answers.eligible(several).tolist() == [[False, True, True, True], [True] + [False] * 3]
    logits, scores = answers.best(several)
    assert logits.flatten().tolist() == [2, 4]
    assert scores.tolist() == [3, 9]
    only = Answers(torch.zeros(2, 1, 1, 1), torch.zeros(2, 1))
    assert only.eligible(several).all()


def test_every_round_adds_a_click_and_hands_the_answer_back(model, embedding):
    targets = torch.zeros(2, 96, 96)
    targets[:, 20:50, 30:70] = 1
    start = ask((0.5, 0.4, ON))
    generator = torch.Generator().manual_seed(0)
    losses = round_losses(model, embedding, targets, start, 3, generator)
    assert len(losses) == 3
    assert all(x.total().isfinite() for x in losses)
    assert (losses[0].chosen > 0).all()
    assert (losses[1].chosen == 0).all()
    logits = torch.full((2, 96, 96), -1.0)
    after = corrected(start, logits, targets)
    assert after.points.shape == (2, 2, 2)
    assert after.labels[:, 1].tolist() == [ON, ON]
    assert after.masks is not None
    assert after.masks.shape == (2, 1, 96, 96)


@torch.no_grad()
def test_a_mask_prompt_changes_the_answer_and_its_size_is_free(model, embedding):
    start = ask((0.5, 0.4, ON))
    plain = model.answer(embedding, start).logits
    for side in (96, 64):
        with_mask = Prompts(start.points, start.labels, torch.randn(2, 1, side, side))
        assert not torch.allclose(plain, model.answer(embedding, with_mask).logits)


def test_stability_by_hand():
    # above +1: one pixel; above −1: three
    logits = torch.tensor([[2.0, 0.5], [-0.5, -3.0]])
    assert stability(logits).item() == pytest.approx(1 / 3)
    assert stability(torch.full((2, 2), -5.0)) == 0
    assert stability(torch.full((2, 2), 5.0)) == 1


class Disc(nn.Module):
    """Answers every click with one of two discs, and poorer masks beside it."""

    def answer(self, embedding: Embedding, prompts: Prompts) -> Answers:
        """Mask 1 is the disc on the click's side, 2 the same a little worse, 3 everything."""
        side = (prompts.points[:, 0, 0] > 0.5).float()  # [B]
        x = (torch.arange(32) + 0.5) / 32
        centre = 0.25 + 0.5 * side
        distance = (
            (x[None, None] - centre[:, None, None]) ** 2 + (x[None, :, None] - 0.5) ** 2
        ).sqrt()
        disc = 100 * (0.2 - distance)
        logits = torch.stack([disc, disc, disc - 1, torch.full_like(disc, 0.5)], dim=1)
        scores = torch.tensor([0.99, 0.95, 0.9, 0.97]).expand(len(side), 4)
        return Answers(logits, scores)


def test_a_grid_of_clicks_finds_each_object_once():
    nothing = Embedding(torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 1))
    found = everything(Disc(), nothing, (64, 64), side=4, least_stability=0.7)
    assert len(found.masks) == 2
    assert found.masks.shape == (2, 64, 64)
    assert found.scores.tolist() == pytest.approx([0.95, 0.95])  # mask 0 never answers one click
    left, right = found.masks[:, :, :32].sum().item(), found.masks[:, :, 32:].sum().item()
    assert left == pytest.approx(right, rel=0.05)
    assert len(everything(Disc(), nothing, (64, 64), side=4, least_score=0.99).masks) == 0
