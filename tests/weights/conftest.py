"""What several tests of weights share."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A folder that is gone after the test: a model's file has 170 MB, and pytest keeps its own."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)
