"""Files that appear whole or not at all, and JSON files of any size.

Everything a run leaves behind is written by `write_atomically`: a reader, or a process killed half
way, never sees half a file.
"""

import errno
import gc
import json
import os
import tempfile
from pathlib import Path
from typing import Any


def advice(error: OSError) -> str:
    """What a user can do about a file that could not be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "Free some space and run the same command again"
    if error.errno == errno.ENOENT:
        return "Its folder is gone (deleted, renamed, unmounted?)"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "Choose a folder that you may write to with --out"
    return "Free some space, or choose a folder that you may write to with --out"


def read_json(path: str | os.PathLike[str]) -> Any:
    """The content of a JSON file, as `json.loads` of its bytes gives it.

    A file of results has millions of small objects. While they are made the garbage collector,
    which would look through all of them again and again, stands still, and the file's bytes are
    gone before its text is parsed.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not JSON, was cut short, or is nested deeper than anything needs.
    """
    content = Path(path).read_bytes()
    collecting = gc.isenabled()
    gc.disable()
    try:
        text = content.decode(json.detect_encoding(content), "surrogatepass")
        del content
        return json.loads(text)
    except RecursionError as error:
        raise ValueError(f"{path} is nested too deep to be read; is it the right file?") from error
    except ValueError as error:  # JSONDecodeError, UnicodeDecodeError, a number of 5,000 digits
        raise ValueError(
            f"{path} is not JSON ({error}); if it was copied or downloaded, do so again"
        ) from error
    finally:
        if collecting:
            gc.enable()


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
