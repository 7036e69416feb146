"""A help text must not wait for torch, and every command has one."""

import subprocess
import sys

import pytest

CODE = """
import contextlib, io, sys
from mrcnn_edu.cli import main
with contextlib.redirect_stdout(io.StringIO()) as text, contextlib.suppress(SystemExit):
    main(sys.argv[1:])
assert "usage: mrcnn-edu" in text.getvalue(), text.getvalue()
print(*({"torch", "matplotlib", "pycocotools", "numba"} & set(sys.modules)))
"""
COMMANDS = ["", "quickstart", "train", "evaluate", "predict", "ablate", "data", "data shapes"]


@pytest.mark.parametrize("command", [*COMMANDS, "config"])
def test_help_loads_no_heavy_library(command):
    words = [sys.executable, "-c", CODE, *command.split(), "--help"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
