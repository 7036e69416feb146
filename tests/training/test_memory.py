"""A step's memory with 500 objects in an image: nothing is as large as objects × anchors."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mrcnn_edu.masks import _crop_blocks, crop_to_boxes
from mrcnn_edu.matching import _match_blocks, match
from mrcnn_edu.model import MaskRCNN
from tests.fake_data import generators, small_config

OBJECTS = 500


class LargestTensor(TorchDispatchMode):
    """Watches what PyTorch allocates, and keeps the size in bytes of the largest; no views."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        given = {t.untyped_storage().data_ptr() for t in _tensors((args, kwargs))}
        for tensor in _tensors(out):
            if tensor.untyped_storage().data_ptr() not in given:
                self.bytes = max(self.bytes, tensor.numel() * tensor.element_size())
        return out


def _tensors(tree):
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def crowded(side: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(OBJECTS, 2, generator=generator) * (side - 24)
    boxes = torch.cat([corner, corner + 4 + 20 * torch.rand(OBJECTS, 2, generator=generator)], 1)
    masks = torch.zeros(OBJECTS, side, side, dtype=torch.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.round().int().tolist(), strict=True):
        mask[y1:y2, x1:x2] = 1
    return {"boxes": boxes, "labels": torch.ones(OBJECTS, dtype=torch.int64), "masks": masks}


def test_a_step_with_500_objects():
    torch.manual_seed(0)
    model = MaskRCNN(small_config())
    target, image = crowded(256), torch.rand(3, 256, 256)
    anchors = sum(len(a) for a in model([image]).anchors)
    watch = LargestTensor()
    with watch:
        losses = model.losses(model([image]), [target], generators(1))
        torch.stack(list(losses.values())).sum().backward()
    assert float(losses["mask"].detach()) > 0
    assert watch.bytes < OBJECTS * anchors * 4 / 4  # a quarter of one float matrix of IoUs
    assert watch.bytes < target["masks"].numel()  # nor any copy of all masks


def test_the_watch_sees_a_large_tensor():
    watch = LargestTensor()
    with watch:
        torch.zeros(1000, 10).mm(torch.zeros(10, 1000)).sum()
    assert watch.bytes == 4_000_000


def test_matching_on_other_devices_goes_in_blocks():
    generator = torch.Generator().manual_seed(1)
    corner = torch.rand(20_000, 2, generator=generator) * 700
    boxes = torch.cat([corner, corner + 100 * torch.rand(20_000, 2, generator=generator)], dim=1)
    watch, chunk = LargestTensor(), 100_000
    with watch:
        found = _match_blocks(boxes[:OBJECTS], boxes, 0.7, 0.3, True, chunk)
    assert watch.bytes <= 2 * 4 * chunk + 8 * 20_000  # [≤ 5, A, 2] of float32, not [500, A]
    assert torch.equal(found, match(boxes[:OBJECTS], boxes, 0.7, 0.3, True))


def test_mask_targets_on_other_devices_go_in_blocks():
    target = crowded(128)
    index = torch.arange(0, OBJECTS, 3)
    arguments = (target["masks"], target["boxes"][index], index, 28, False)
    whole = _crop_blocks(*arguments, pixels=10**9)
    watch, pixels = LargestTensor(), 10 * 128 * 128
    with watch:
        found = _crop_blocks(*arguments, pixels=pixels)
    assert watch.bytes <= max(4 * pixels, 4 * found.numel())
    assert torch.equal(found, whole)
    torch.testing.assert_close(found, crop_to_boxes(*arguments), rtol=0, atol=1e-5)
    none = torch.zeros(0, dtype=torch.int64)
    assert _crop_blocks(target["masks"], torch.zeros(0, 4), none, 28, True, 1).shape == (0, 28, 28)
