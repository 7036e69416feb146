"""Where a measured number comes from: configuration, seed, commit, machine, date.

Every file in `results/` carries what `provenance` returns, so that a reader can repeat the run and
knows what it ran on. Host and user names are never recorded.
"""

import datetime
import importlib.metadata
import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

import torch

LIBRARIES = ("torch", "torchvision", "numpy", "numba", "pycocotools")


def provenance(config: dict[str, Any], seed: int) -> dict[str, Any]:
    """Describe a measurement.

    Args:
        config: the settings that were measured, as plain JSON values.
        seed: the seed of the run.

    Returns:
        A dictionary with `config`, `seed`, `commit`, `clean` (False if tracked files
        differed from that commit), `machine`, `versions` and `date` (UTC).
    """
    return {
        "config": config,
        "seed": seed,
        **_commit(),
        "machine": _machine(),
        "versions": {"python": platform.python_version(), **_versions()},
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
    }


def _commit() -> dict[str, Any]:
    root = Path(__file__).resolve().parent.parent

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False
            )
        except FileNotFoundError:  # no git on this machine
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "HEAD")
    if commit is None:
        return {"commit": None, "clean": False}
    return {"commit": commit, "clean": git("status", "--porcelain", "--untracked-files=no") == ""}


def _machine() -> dict[str, Any]:
    machine: dict[str, Any] = {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gib": _memory_gib(),
        "system": f"{platform.system()} {platform.machine()}",
    }
    if torch.cuda.is_available():
        machine["gpu"] = torch.cuda.get_device_name()
        machine["gpu_memory_gib"] = round(torch.cuda.get_device_properties(0).total_memory / 2**30)
    return machine


def _memory_gib() -> int | None:
    """The machine's memory; None where the system has no call for it, as on Windows."""
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)
    except (AttributeError, ValueError):
        return None


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        match = re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE)
        if match:
            return match.group(1).strip()
    return platform.processor() or "unknown"


def _versions() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
