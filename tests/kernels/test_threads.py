"""The kernels from several threads, several processes, and with any number of workers."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mrcnn_edu.kernels import threads
from mrcnn_edu.roi import roi_align, roi_pool


def example() -> tuple[Tensor, Tensor]:
    """Large enough that two threads are used."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 67, 40, 40, generator=generator)
    rois = torch.rand(120, 5, generator=generator) * 150
    rois[:, 0] = torch.arange(120) % 2
    rois[:, 3:] += rois[:, 1:3]
    return x.contiguous(memory_format=torch.channels_last), rois


def all_results() -> list[Tensor]:
    x, rois = example()
    x.requires_grad_()
    values = [
        roi_align(x, rois, 7, 0.25, 2, True),
        roi_align(x, rois, 7, 0.25, 2, True, reduce="max"),
        roi_pool(x, rois, 7, 0.25),
    ]
    gradients = [torch.autograd.grad((v * v).sum(), x)[0] for v in values]
    return [v.detach() for v in values] + gradients


def test_any_number_of_threads_gives_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for count in (1, 2, 3, 7):
        monkeypatch.setattr(threads, "threads_for", lambda work, count=count: count)
        monkeypatch.setattr("mrcnn_edu.roi.cpu.launch.threads_for", threads.threads_for)
        results.append(all_results())
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert torch.equal(a, b)


def test_several_python_threads_at_once() -> None:
    expected = all_results()
    with ThreadPoolExecutor(4) as pool:
        found = [f.result() for f in [pool.submit(all_results) for _ in range(8)]]
    for results in found:
        for a, b in zip(expected, results, strict=True):
            assert torch.equal(a, b)


class Pooled(Dataset[Tensor]):
    """A data set that pools in the worker."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Tensor:
        x, rois = example()
        return roi_align(x, rois, 7, 0.25, 2, True)


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_in_workers_of_a_data_loader(start: str) -> None:
    x, rois = example()
    expected = roi_align(x, rois, 7, 0.25, 2, True)  # the parent's threads exist before the fork
    loader = DataLoader(Pooled(), batch_size=None, num_workers=1, multiprocessing_context=start)
    for value in loader:
        assert torch.equal(value, expected)


def add_share(total: np.ndarray, first: int, step: int) -> None:
    total[first::step] += 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_process_gets_threads_of_its_own() -> None:
    total = np.zeros(10)
    threads.run(add_share, 3, total)
    child = os.fork()
    if child == 0:  # leaves without pytest's clean-up; 0 tells the parent that all shares ran
        threads.run(add_share, 3, total)
        os._exit(0 if (total == 2).all() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert (total == 1).all()
