"""A long list in one block of memory, which worker processes share instead of copying.

COCO's annotations are a million small dictionaries. A process that only counts references to them
writes to their memory, so each forked worker ends up with a copy of all; a worker that is started
anew gets one right away. Here every item is pickled into one tensor, and torch hands tensors to
workers as shared memory. Chapter 12.
"""

import pickle
from collections.abc import Iterable
from typing import Any

import torch


class PackedList:
    """Items that can be pickled; reading one makes a new object of it.

    Pickles are read back from this process's memory only, never from a file.
    """

    def __init__(self, items: Iterable[Any]) -> None:
        blobs = [pickle.dumps(item) for item in items]
        lengths = torch.tensor([0, *map(len, blobs)])
        self._ends = lengths.cumsum(0)  # [n + 1]
        joined = bytearray(b"".join(blobs))
        self._bytes = torch.frombuffer(joined, dtype=torch.uint8) if joined else torch.zeros(0)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: int) -> Any:
        if not 0 <= index < len(self):
            raise IndexError(f"item {index} of {len(self)}")
        start, end = self._ends[index : index + 2].tolist()
        return pickle.loads(self._bytes[start:end].numpy().tobytes())
