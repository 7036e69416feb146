"""What the threads of a launch read and wrote, and the questions that one can ask about it.

Sectors, lanes and conflicts are those of NVIDIA's GPUs: 32 threads to a warp, 32 bytes to a sector,
32 banks of 4 bytes in shared memory. Nothing here knows time. Chapters 07a and 07b.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

WARP = 32  # threads that share their instructions
SECTOR = 32  # bytes: the smallest piece of memory that is moved
BANKS, WORD = 32, 4  # shared memory: banks that serve one word of 4 bytes each at a time
Index = tuple[int, int, int]


@dataclass(frozen=True)
class Access:
    """One read, write or atomic addition.

    `lane` numbers the threads of a block, x fastest; `cell` the numbers of an array in the order
    of its indices; `address` is in bytes from the array's start, by its strides, as it lies in
    memory. `inside` is False for an index that the array does not have.
    """

    block: Index
    lane: int
    kind: str  # "read", "write" or "atomic"
    array: str
    index: tuple[int, ...]
    cell: int
    address: int
    inside: bool
    place: tuple[Any, ...] = ()  # in the program: function, lines and columns

    @property
    def who(self) -> tuple[Index, int]:
        """The thread."""
        return self.block, self.lane


@dataclass
class Trace:
    """What the threads of a launch did, in the order in which they were run."""

    threads: list[tuple[Index, int]] = field(default_factory=list)
    accesses: list[Access] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)  # numbers in each array

    def outside(self) -> list[Access]:
        """Accesses outside their arrays. On a GPU they read or destroy other data, silently."""
        return [a for a in self.accesses if not a.inside]

    def races(self) -> dict[tuple[str, tuple[int, ...]], int]:
        """Cells that one thread writes plainly while others use them, and how many threads do.

        {(array, index): threads}. An addition `out[i] += v` is a read and a plain write.
        """
        users, written = defaultdict(set), set()
        for a in self.accesses:
            users[a.array, a.index].add(a.who)
            if a.kind == "write":
                written.add((a.array, a.index))
        return {
            cell: len(users[cell]) for cell in users if cell in written and len(users[cell]) > 1
        }

    def sectors(self, array: str, kind: str = "read") -> list[int]:
        """32-byte sectors that each request for `array` touches."""
        return [len({a.address // SECTOR for a in r}) for r in self._requests(array, kind)]

    def lanes(self, array: str, kind: str = "read") -> list[int]:
        """Threads of the warp that take part in each request for `array`, of 32."""
        return [len(request) for request in self._requests(array, kind)]

    def conflicts(self, array: str, kind: str = "read") -> list[int]:
        """Turns that shared memory needs for each request: the most words wanted of one bank."""
        found = []
        for request in self._requests(array, kind):
            wanted = defaultdict(set)
            for word in {a.address // WORD for a in request}:
                wanted[word % BANKS].add(word)
            found.append(max(map(len, wanted.values())))
        return found

    def unwritten(self, array: str) -> list[Access]:
        """Reads of cells of a shared array that nobody in the block has written before."""
        written: set[tuple[Index, int]] = set()
        found = []
        for a in self.accesses:
            if a.array == array:
                cell = (a.block, a.cell)
                if a.kind == "read" and cell not in written:
                    found.append(a)
                elif a.kind != "read":
                    written.add(cell)
        return found

    def _requests(self, array: str, kind: str) -> list[list[Access]]:
        """The accesses of a warp's threads that one instruction makes at one time."""
        times: dict[tuple[Any, ...], int] = defaultdict(int)
        requests = defaultdict(list)
        for a in self.accesses:
            if a.array == array and a.kind == kind and a.inside:
                here = (a.who, a.place)
                requests[a.block, a.lane // WARP, a.place, times[here]].append(a)
                times[here] += 1
        return list(requests.values())

    def lines(self) -> list[str]:
        """The accesses as text, one line a thread."""
        told = defaultdict(list)
        for a in self.accesses:
            mark = {"read": "reads", "write": "writes", "atomic": "adds to"}[a.kind]
            where = ", ".join(map(str, a.index)) + ("" if a.inside else "!")
            told[a.who].append(f"{mark} {a.array}[{where}]")
        return [
            f"block {block[0]} thread {lane}: {', '.join(told[block, lane]) or 'nothing'}"
            for block, lane in self.threads
        ]
