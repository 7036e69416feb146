"""Threads that wait for each other do not spin for long, unless the user says so."""

import os
import subprocess
import sys

import pytest

SEEN = "import mrcnn_edu, torch, os; print(os.environ.get('GOMP_SPINCOUNT'))"


def environment(**settings: str) -> dict[str, str]:
    foreign = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    return {k: v for k, v in os.environ.items() if k not in foreign} | settings


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        ({}, "10000"),
        ({"GOMP_SPINCOUNT": "7"}, "7"),
        ({"OMP_WAIT_POLICY": "active"}, "None"),
    ],
)
def test_what_the_user_set_stays(settings, count):
    done = subprocess.run(
        [sys.executable, "-c", SEEN],
        env=environment(**settings),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [count]


@pytest.mark.skipif(sys.platform != "linux", reason="PyTorch brings libgomp on Linux only")
@pytest.mark.parametrize(
    "program",
    [
        "import mrcnn_edu, torch; torch.ones(9).sum()",
        "from mrcnn_edu.training.train import train",  # as the commands do
        "import numpy, matplotlib.pyplot; import mrcnn_edu.pictures.show",  # as the chapters do
    ],
)
def test_the_library_that_spins_has_read_it(program):
    """libgomp itself says what it uses, when PyTorch loads it."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment(OMP_DISPLAY_ENV="verbose"),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "GOMP_SPINCOUNT = '10000'" in done.stderr
