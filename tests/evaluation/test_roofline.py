"""The roofline: layers are those that PyTorch runs, counted as its own counter counts them."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from mrcnn_edu.evaluation.cost import count
from mrcnn_edu.evaluation.roofline import Layer, Machine, layers
from mrcnn_edu.presets import preset


@pytest.mark.parametrize("name", ["r50_fpn", "r50_c4", "tiny_fpn", "keypoint_r50_fpn"])
def test_layers_sum_up_to_the_model(name):
    config = preset(name)
    found: dict[str, float] = {}
    for layer, times in layers(config, (192, 256)).items():
        found[layer.stage] = found.get(layer.stage, 0) + times * layer.multiply_adds / 1e9
    assert found == pytest.approx(count(config, (192, 256))["gmac"], abs=0.006)


def test_each_layer_runs_and_is_counted_by_pytorch_and_by_its_tensors():
    for layer in layers(preset("tiny_fpn"), (64, 96)):
        x, weight = torch.zeros(layer.input), torch.zeros(layer.weight)
        with FlopCounterMode(display=False) as counter:
            output = layer.run(x, weight)
        assert tuple(output.shape) == layer.output
        assert layer.multiply_adds == counter.get_total_flops() / 2
        assert layer.moved == x.nbytes + weight.nbytes + output.nbytes


def test_groups_see_their_own_channels_only():
    options = ((1, 1), (1, 1), (1, 1), False, (0, 0), 4)
    layer = Layer("", (2, 8, 5, 7), (12, 2, 3, 3), (2, 12, 5, 7), options)
    with FlopCounterMode(display=False) as counter:
        assert layer.run(torch.zeros(layer.input), torch.zeros(layer.weight)).shape[1] == 12
    assert layer.multiply_adds == counter.get_total_flops() / 2 == 2 * 12 * 35 * 2 * 9
    assert layer.kind == "3×3 conv"


def test_the_slower_roof_counts():
    machine = Machine(peak=100.0, bandwidth=10.0)
    assert machine.ridge == 10
    assert (machine.least_seconds(200, 5), machine.roof(200, 5)) == (2.0, "compute")
    assert (machine.least_seconds(20, 5), machine.roof(20, 5)) == (0.5, "memory")
    assert machine.roof(50, 5) == "compute"  # both at once
    assert machine.least_seconds(0, 0) == 0
