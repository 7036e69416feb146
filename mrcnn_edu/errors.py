"""The two errors a user of the command line is meant to read.

Everything else in the library raises Python's own `ValueError`, `TypeError` or `OSError` with a
sentence that says what was wrong, where, and what to do.
"""


class UserError(Exception):
    """Something the user can put right: a path, an option, a file. Printed without a traceback."""


class TrainingDivergedError(UserError):
    """A loss is NaN or infinite. The last good checkpoint is kept."""
