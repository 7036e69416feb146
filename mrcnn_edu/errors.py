"""The two errors a user of the command line is meant to read.

Everything else in the library raises Python's own `ValueError`, `TypeError` or `OSError` with a
sentence that says what was wrong, where, and what to do.
"""


class UserError(Exception):
    """Something the user can put right: a path, an option, a file. Printed without a traceback."""


class TrainingDivergedError(UserError):
    """A loss is NaN or infinite. The last good checkpoint is kept."""


class OutOfMemoryError(UserError):
    """Memory ran out, of this machine or of its GPU."""


_SIGNS_OF_NO_MEMORY = (
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "out of memory",
    "unable to allocate",
    "can't start new thread",
)


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether Python, NumPy or PyTorch says so; PyTorch's CPU allocator raises a RuntimeError."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(sign in text for sign in _SIGNS_OF_NO_MEMORY)
