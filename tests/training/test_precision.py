"""Under autocast the network is half precision; what needs float32 stays float32."""

import pytest
import torch

import mrcnn_edu.model
from mrcnn_edu.model import MaskRCNN
from mrcnn_edu.nn import detector
from mrcnn_edu.training.precision import autocast, make_scaler
from tests.fake_data import generators, small_config, small_shapes

HALF = {"fp16": torch.float16, "bf16": torch.bfloat16}


@pytest.fixture(scope="module")
def sample():
    image, target = small_shapes()[0]
    return [image.float() / 255], [target]


@pytest.mark.parametrize("precision", ["fp16"])  # bf16 products crash on some virtual CPUs
def test_roi_operators_nms_and_losses_stay_float32(sample, precision, monkeypatch):
    torch.manual_seed(0)
    model = MaskRCNN(small_config()).train()
    seen: dict[str, set] = {}

    def watched(module, name):
        original = getattr(module, name)

        def call(*arguments, **options):
            tensors = [a for a in arguments if isinstance(a, torch.Tensor)]
            seen.setdefault(name, set()).update(t.dtype for t in tensors if t.is_floating_point())
            return original(*arguments, **options)

        return call

    for name in ("rpn_losses", "box_losses", "mask_loss", "propose"):
        module = detector if name in ("propose", "rpn_losses") else mrcnn_edu.model
        monkeypatch.setattr(module, name, watched(module, name))
    with autocast(precision, "cpu"):
        record = model(sample[0])
        losses = model.losses(record, sample[1], generators(1))
    assert record.pyramid[0].dtype == HALF[precision]  # else nothing is gained
    assert record.objectness.dtype == record.deltas.dtype == torch.float32
    assert all(loss.dtype == torch.float32 for loss in losses.values())
    assert seen == {name: {torch.float32} for name in seen}
    assert {"rpn_losses", "box_losses", "mask_loss"} <= seen.keys()
    exact = MaskRCNN(small_config()).train()
    exact.load_state_dict(model.state_dict())
    expected = exact.losses(exact(sample[0]), sample[1], generators(1))
    for name, loss in losses.items():
        assert loss.item() == pytest.approx(expected[name].item(), rel=0.05, abs=0.02), name


def test_roi_align_sums_in_float32_under_autocast():
    """A thousand samples of 1 + 2⁻¹⁰ in float16 would drift; their mean must not."""
    from mrcnn_edu.roi import roi_align

    features = torch.full((1, 1, 64, 64), 1 + 2**-10, dtype=torch.float16)
    boxes = torch.tensor([[0.0, 4, 4, 60, 60]])
    with autocast("fp16", "cpu"):
        pooled = roi_align(features, boxes, 1, 1.0, 32, True)
    assert pooled.dtype == torch.float16
    assert pooled.item() == 1 + 2**-10


def test_float32_needs_no_context_and_no_scaler():
    with autocast("float32", "cpu"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
    scaler = make_scaler("float32", "cpu")
    loss = torch.ones(())
    assert scaler.scale(loss) is loss
    assert make_scaler("fp16", "cpu").scale(loss) == 2**16
    assert not make_scaler("bf16", "cpu").is_enabled()
