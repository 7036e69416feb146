"""Click to segment: the decoder in JavaScript gives what the decoder in Python gives."""

import json

import numpy as np
import pytest
import torch

pytest.importorskip("anywidget", reason="widgets need anywidget: pip install anywidget")

from mrcnn_edu.related.promptable import PromptableConfig, PromptableSegmenter, at_size
from mrcnn_edu.related.prompts import BESIDE, ON
from mrcnn_edu.widgets.click_segment import ClickSegment
from mrcnn_edu.widgets.common import bundle
from tests.widgets.node import call, needs_node, run

SMALL = PromptableConfig(channels=16, inner=8, heads=2, hidden=12, mask_channels=(8, 4))


@pytest.fixture(scope="module")
def model() -> PromptableSegmenter:
    torch.manual_seed(0)
    model = PromptableSegmenter(SMALL).eval()
    for name in ("prompt_encoder", "mask_decoder"):  # weights as a float16 file has them
        part = getattr(model, name)
        part.load_state_dict({k: v.half().float() for k, v in part.state_dict().items()})
    return model


def widget(model, **state) -> ClickSegment:
    generator = torch.Generator().manual_seed(0)
    images = [
        torch.randint(0, 256, (3, 64, 64), generator=generator, dtype=torch.uint8) for _ in range(2)
    ]
    boxes = [[5, 6, 40, 50], [8, 8, 30, 30]]
    return ClickSegment(model, images, [(20, 30, ON), (40, 10, ON)], boxes, **state)


# The page's own steps, from the traits as they travel.
ASK = """
export function ask(traits) {
  const net = tensors(traits.shapes, traits.weights.map(half));
  const [channels, few] = traits.channels;
  const scales = traits.scales[traits.picture];
  const each = traits.embeddings.length / traits.pictures;
  const bytes = traits.embeddings.slice(traits.picture * each, (traits.picture + 1) * each);
  const cells = (each * channels) / (channels + 4 * few);
  const maps = [
    bytes.slice(0, cells).map((v, k) => v * scales[k % channels]),
    bytes.slice(cells).map((v, k) => v * scales[channels + (k % few)]),
  ];
  const points = traits.points.map(([x, y, label]) => [x / traits.size, y / traits.size, label]);
  const box = traits.boxed ? traits.box.map((v) => v / traits.size) : null;
  let last = null;
  let handed = null;
  for (const prompt of rounds(points, box)) {
    last = answer(net, traits.heads, maps[0], maps[1], prompt, handed);
    handed = last.logits[best(last.scores, prompt)];
  }
  return last;
}
"""


def in_the_page(w: ClickSegment) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits [1 + A, M²] and scores of the JavaScript."""
    names = ("shapes", "heads", "channels", "scales", "size", "picture", "points", "box", "boxed")
    traits = {name: getattr(w, name) for name in names}
    traits["weights"] = np.frombuffer(w.weights, "<u2").tolist()
    traits["embeddings"] = np.frombuffer(w.embeddings, np.int8).tolist()
    traits["pictures"] = len(w.pictures)
    (found,) = run(bundle("click_segment") + ASK, "ask", [[traits]])
    return torch.tensor(found["logits"]), torch.tensor(found["scores"])


@needs_node
@pytest.mark.parametrize(
    "state",
    [
        {},
        {"picture": 1, "points": [[33.0, 12.5, BESIDE]]},
        {"points": [[20.0, 30.0, ON], [50.0, 8.0, BESIDE], [22.0, 40.0, ON]]},
        {"boxed": True, "points": []},
        {"boxed": True, "points": [[30.0, 30.0, ON]]},
    ],
)
def test_the_page_answers_as_python_does(model, state):
    w = widget(model, **state)
    answers, _ = w.answers()
    logits, scores = in_the_page(w)
    torch.testing.assert_close(logits, answers.logits[0].flatten(1), atol=1e-4, rtol=0)
    torch.testing.assert_close(scores, answers.scores[0], atol=1e-4, rtol=0)


@needs_node
def test_halves_are_numpys():
    values = np.array([0.0, -0.0, 1.0, -2.5, 6.1e-5, 5.96e-8, 65504.0, 0.1], "<f2")
    assert call("click_segment", "half", [[int(v)] for v in values.view("<u2")]) == values.tolist()


@needs_node
def test_enlarged_logits_are_pytorchs():
    logits = torch.randn(6, 6, generator=torch.Generator().manual_seed(0))
    (got,) = call("click_segment", "resized", [[logits.flatten().tolist(), 9]])
    torch.testing.assert_close(
        torch.tensor(got).reshape(9, 9), at_size(logits[None, None], (9, 9))[0, 0]
    )


@needs_node
def test_erf_and_the_order_of_rounds():
    x = torch.linspace(-3, 3, 25)
    got = call("click_segment", "erf", [[v] for v in x.tolist()])
    torch.testing.assert_close(torch.tensor(got), torch.erf(x), atol=2e-7, rtol=0)
    clicks = [[0.1, 0.2, 1], [0.3, 0.4, 0]]
    box = [[0, 0, 2], [1, 1, 3]]
    assert call("click_segment", "rounds", [[clicks, None], [clicks, [0, 0, 1, 1]]]) == [
        [clicks[:1], clicks],
        [box, [*box, clicks[0]], [*box, *clicks]],
    ]


def test_one_click_shows_three_masks_and_a_box_one(model):
    assert len(widget(model).figure().axes) == 4
    assert len(widget(model, boxed=True, points=[]).figure().axes) == 2


def test_what_travels_is_small(model):
    w = widget(model)
    assert len(w.embeddings) == 2 * (24 * 24 * 16 + 48 * 48 * 8)
    assert len(w.weights) == 2 * sum(int(np.prod(shape)) for _, shape in w.shapes)
    json.dumps([w.shapes, w.scales, w.first, w.boxes])


def test_what_does_not_fit_is_said(model):
    image = torch.zeros(3, 8, 8, dtype=torch.uint8)
    with pytest.raises(ValueError, match="square and of one size"):
        ClickSegment(model, [image[:, :4]], [(1, 1, ON)], [[0, 0, 4, 4]])
    with pytest.raises(ValueError, match="one first click and one box"):
        ClickSegment(model, [image], [], [[0, 0, 4, 4]])
