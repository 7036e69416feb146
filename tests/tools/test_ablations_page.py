"""The page of the paper's tables: its commands are understood, its numbers are the files'."""

import re
import shlex
import shutil

import pytest

from mrcnn_edu.ablations.profiles import PROFILES
from mrcnn_edu.ablations.report import write
from mrcnn_edu.ablations.tables import TABLES, table
from mrcnn_edu.cli import main
from mrcnn_edu.cli.ablate import Ablate, seconds
from tools.notebooks import ROOT

PAGE = ROOT / "book" / "ablations.md"
RESULTS = ROOT / "results" / "ablations"


def commands() -> list[str]:
    """The lines of the shell block, without comments."""
    text = "\n".join(re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL))
    return [line for line in text.splitlines() if not line.startswith("#")]


@pytest.mark.parametrize("line", commands())
def test_every_command_parses_and_names_what_there_is(line, monkeypatch):
    caught: list[Ablate] = []
    monkeypatch.setattr(Ablate, "run", lambda self: caught.append(self))
    words = shlex.split(line)
    assert words[0] == "mrcnn-edu"
    main(words[1:])
    (command,) = caught
    assert command.profile in PROFILES
    assert all(table(key) for key in command.table)
    assert command.budget is None or seconds(command.budget) > 0


@pytest.mark.parametrize("name", ["cpu", "calm"])
def test_the_committed_page_and_plot_say_what_the_files_say(name, tmp_path):
    """`mrcnn-edu ablate --render` writes both again."""
    for file in RESULTS.glob("*.json"):
        shutil.copy(file, tmp_path)
    for path in write(TABLES, PROFILES[name], ["shapes", "persons", "nuclei"], tmp_path):
        assert path.read_text() == (RESULTS / path.name).read_text(), f"{path.name} is out of date"
