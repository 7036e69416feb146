"""What was detected so far, on disk, so that an evaluation that was killed goes on.

A line an image is appended as soon as its batch is done, by each process to its own file, and all
files are read at the start. So any number of processes can go on with what any other number left.
The first line says which run the file belongs to. Chapter 11.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mrcnn_edu.errors import UserError
from mrcnn_edu.files import write_atomically

Found = list[dict[str, Any]]  # the COCO results of one image


class DetectionLog:
    """The files of one evaluation in a folder.

    Args:
        folder: is made if need be.
        run: what the detections depend on; any text.
        rank: the number of this process; it alone writes `detections.part<rank>.jsonl`.

    Raises:
        UserError: the folder holds the files of another run.
    """

    def __init__(self, folder: Path, run: str, rank: int = 0) -> None:
        self.folder, self.run = folder, run
        self.done: dict[int, Found] = {}  # by the image's index in the data set
        folder.mkdir(parents=True, exist_ok=True)
        for path in self._parts():
            for line in self._read(path):
                self.done[line["index"]] = line["detections"]
        path = folder / f"detections.part{rank}.jsonl"
        # Without the line that was being written when the process was killed.
        lines = [{"run": run}, *(self._read(path) if path.exists() else [])]
        write_atomically(path, "".join(json.dumps(line) + "\n" for line in lines).encode())
        self._file = open(path, "a")  # noqa: SIM115

    def append(self, indices: Sequence[int], found: Sequence[Found]) -> None:
        """Add the results of some images; they are on disk when this returns."""
        lines = []
        for index, detections in zip(indices, found, strict=True):
            self.done[index] = detections
            lines.append(json.dumps({"index": index, "detections": detections}) + "\n")
        self._file.write("".join(lines))
        self._file.flush()

    def close(self) -> None:
        """Stop writing; the files stay."""
        self._file.close()

    def remove(self) -> None:
        """Delete the files of all processes, once the results are safe elsewhere."""
        self.close()
        for path in self._parts():
            path.unlink(missing_ok=True)

    def _parts(self) -> list[Path]:
        return sorted(self.folder.glob("detections.part*.jsonl"))

    def _read(self, path: Path) -> list[dict[str, Any]]:
        """The whole lines of a file, without the first."""
        text = path.read_bytes()
        head, *lines = text[: text.rfind(b"\n") + 1].splitlines() or [b"{}"]
        try:
            run, *found = (json.loads(line) for line in (head, *lines))
            for line in found:
                if type(line["index"]) is not int or not isinstance(line["detections"], list):
                    raise TypeError("a line without index and detections")
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise UserError(
                f"{path} is damaged ({error}). Delete it: what it holds is detected again."
            ) from error
        if run not in ({"run": self.run}, {}):
            raise UserError(
                f"{path} was left by an evaluation of another model, data set or batch size that "
                "did not come to its end. Run that one again to finish it, delete the file, or "
                "choose another folder with --out."
            )
        return found
