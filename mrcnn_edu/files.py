"""Files that appear whole or not at all.

Everything a run leaves behind is written by `write_atomically`: a reader, or a process killed half
way, never sees half a file.
"""

import json
import os
import tempfile
from pathlib import Path
from typing import Any


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write `content` as JSON, whole or not at all."""
    write_atomically(path, (json.dumps(content, indent=1) + "\n").encode())


def write_atomically(path: str | os.PathLike[str], content: bytes) -> None:
    """Write `content` to `path` whole or not at all.

    The bytes go to a temporary file in the same folder, which then takes the final name in one
    step; a reader, or a process killed half way, never sees half a file.

    Raises:
        OSError: the folder cannot be written, or the disk is full; `path` is then unchanged.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp makes files that only their owner can read
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
