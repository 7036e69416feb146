"""The proposal explorer: what its JavaScript computes is what the library computes."""

import pytest
import torch

pytest.importorskip("anywidget", reason="widgets need anywidget: pip install anywidget")

from mrcnn_edu import boxes as box_ops
from mrcnn_edu.model import MaskRCNN
from mrcnn_edu.widgets.common import pack
from mrcnn_edu.widgets.proposals import ProposalExplorer
from tests.fake_data import small_config
from tests.widgets.node import call, needs_node


def random_boxes(generator, count):
    corners = torch.rand(count, 2, generator=generator) * 80
    return torch.cat([corners, corners + torch.rand(count, 2, generator=generator) * 40], dim=1)


def explorer(seed, count=60, truths=5, **traits) -> ProposalExplorer:
    generator = torch.Generator().manual_seed(seed)
    return ProposalExplorer(
        image=bytes(120 * 120 * 3),
        size=[120, 120],
        candidates=pack(random_boxes(generator, count)),
        scores=pack(torch.linspace(1, 0.01, count)),
        levels=torch.randint(3, (count,), generator=generator).tolist(),
        truths=pack(random_boxes(generator, truths)),
        **traits,
    )


@needs_node
@pytest.mark.parametrize("nms", [0.05, 0.4, 1.0])
@pytest.mark.parametrize("level", [-1, 1])
def test_javascript_keeps_what_the_library_keeps(nms, level):
    for seed in range(5):
        widget = explorer(seed, nms=nms, level=level, kept=200)
        boxes = ProposalExplorer._boxes(widget.candidates).tolist()
        (kept,) = call("proposals", "survivors", [[boxes, widget.levels, level, nms]])
        assert kept == widget.selected().tolist()


@needs_node
def test_javascript_finds_what_the_library_finds():
    for seed in range(5):
        widget = explorer(seed, kept=9, nms=0.6, covered=0.3)
        chosen = ProposalExplorer._boxes(widget.candidates)[widget.selected()].tolist()
        truths = ProposalExplorer._boxes(widget.truths).tolist()
        (needs,) = call("proposals", "needed", [[truths, chosen, 0.3]])
        assert [n > 0 for n in needs] == widget.found().tolist()
        (share,) = call("proposals", "recall", [[needs, 9]])
        assert share == pytest.approx(float(widget.found().float().mean()))


@needs_node
def test_javascript_s_iou_is_the_library_s():
    generator = torch.Generator().manual_seed(0)
    a, b = random_boxes(generator, 50), random_boxes(generator, 50)
    b[:3] = a[:3]
    a[4] = b[4] = torch.tensor([3.0, 3, 3, 3])  # without area
    found = call(
        "proposals", "iou", [list(pair) for pair in zip(a.tolist(), b.tolist(), strict=True)]
    )
    expected = box_ops.iou(a, b).diagonal().nan_to_num()
    assert found == pytest.approx(expected.tolist(), abs=1e-5)


def test_one_is_made_of_a_record_and_draws_itself():
    torch.manual_seed(0)
    model = MaskRCNN(small_config())
    record = model([torch.rand(3, 64, 96)])
    widget = ProposalExplorer.from_record(
        record, model.config, torch.tensor([[5.0, 5.0, 40.0, 40.0]]), limit=50
    )
    assert widget.size == [64, 96]
    assert len(widget.image) == 64 * 96 * 3
    assert len(widget.levels) == 50
    assert len(widget.selected()) <= 20
    assert widget.figure().axes[0].patches


def test_no_candidates_find_nothing():
    widget = explorer(0, count=0)
    assert widget.selected().tolist() == []
    assert not widget.found().any()
    widget.figure()
