"""Pool with the mean, after the operator named on the command line has been compiled; a script.

Started by test_compiled.py with an empty cache. Prints a hash of the results, and how many boxes
with a sample on the very edge of the map are pooled differently by torchvision.
"""

import hashlib
import sys

import torch
import torchvision

from mrcnn_edu.roi import roi_align, roi_pool


def edge_boxes(height: int, bins: int, sampling: int, generator: torch.Generator) -> torch.Tensor:
    """[R, 5]: in exact arithmetic, some sample of each box lies at x = `height`, the limit."""
    count = 500
    left = torch.rand(count, generator=generator) * (height - 1)
    bin_ = torch.randint(0, bins, (count,), generator=generator)
    sample = torch.randint(0, sampling, (count,), generator=generator)
    place = (bin_ + (sample + 0.5) / sampling) / bins  # of the sample within the box, 0 to 1
    zero, bottom = torch.zeros(count), torch.full((count,), float(height))
    return torch.stack([zero, left, zero, left + (height - left) / place, bottom], 1)


def main() -> None:
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    some = torch.rand(1, 8, 9, 9, requires_grad=True)
    box = torch.tensor([[0.0, 1, 1, 5, 5]])
    if sys.argv[1] == "max":
        roi_align(some, box, 2, 1.0, 2, False, reduce="max").sum().backward()
        roi_pool(some, box, 2, 1.0).sum().backward()
    digest, different = hashlib.sha256(), 0
    for _ in range(30):
        height = int(torch.randint(3, 30, (), generator=generator))
        bins = int(torch.randint(1, 10, (), generator=generator))
        sampling = int(torch.randint(1, 6, (), generator=generator))
        boxes = edge_boxes(height, bins, sampling, generator)
        x = torch.rand(1, 8, height, height, generator=generator) + 1
        last = x.contiguous(memory_format=torch.channels_last).requires_grad_()
        ours = roi_align(last, boxes, bins, 1.0, sampling, False)
        theirs = torchvision.ops.roi_align(x, boxes, bins, 1.0, sampling, False)
        different += int(((ours - theirs).abs().amax((1, 2, 3)) > 1e-3).sum())
        (gradient,) = torch.autograd.grad((ours * ours).sum(), last)
        digest.update(ours.detach().numpy().tobytes() + gradient.numpy().tobytes())
    print(digest.hexdigest(), different)


if __name__ == "__main__":
    main()
