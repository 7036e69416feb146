"""Every command on the page about COCO is one that the programs understand."""

import re
import shlex

import pytest

from benchmarks.train import command_line
from mrcnn_edu.cli import main
from mrcnn_edu.cli.data import CheckCoco, WriteRehearsal
from mrcnn_edu.cli.train import Train
from mrcnn_edu.presets import preset
from mrcnn_edu.training.config import RECIPES
from tools.notebooks import ROOT

PAGE = ROOT / "book" / "training_on_coco.md"


def commands() -> list[str]:
    """The lines of all shell blocks: joined, without comments, variables filled in."""
    text = "\n".join(re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL))
    text = text.replace("\\\n", " ")
    variables: dict[str, str] = {}

    def define(match: re.Match[str]) -> str:
        variables[match[1]] = " ".join(match[2].strip('"').split())
        return ""

    text = re.sub(r'^([A-Z]+)=("[^"]*"|\S+)\n', define, text, flags=re.MULTILINE)
    for _ in range(3):  # a variable may hold another
        text = re.sub(r"\$([A-Z]+)", lambda m: variables[m[1]], text)
    text = text.replace("train …", "train --recipe 1x --preset r50_fpn")
    lines = [re.sub(r"\s#.*", "", line).strip() for line in text.splitlines()]
    return [line for line in lines if line]


def arguments_of(line: str) -> list[str]:
    """What follows the program's name, whichever way it is started."""
    words = shlex.split(line)
    if words[0] == "torchrun":
        assert words[words.index("-m") + 1] == "mrcnn_edu.cli"
        return words[words.index("mrcnn_edu.cli") + 1 :]
    assert words[0] == "mrcnn-edu"
    return words[1:]


@pytest.mark.parametrize("line", commands())
def test_every_command_parses(line, monkeypatch):
    if line.startswith("python -m benchmarks.train"):
        command_line().parse_args(shlex.split(line)[3:])
        return
    caught: list = []
    for kind in (Train, CheckCoco, WriteRehearsal):
        monkeypatch.setattr(kind, "run", lambda self: caught.append(self))
    main(arguments_of(line))
    (command,) = caught
    if isinstance(command, Train):
        preset(command.preset, command.dialect)  # exists, in that dialect
        command.scaled()
        assert command.train.optimizer == "sgd"
        assert command.recipe in RECIPES


def test_the_page_has_the_models_of_the_issue():
    asked = " ".join(commands())
    for name in ("r50_fpn", "r50_c4", "r101_fpn", "x101_fpn", "keypoint_r50_fpn"):
        assert f"--preset {name} " in asked
    assert "data coco --check /data/coco" in asked
    assert len([c for c in commands() if "--nproc_per_node 8" in c]) >= 6


def test_projected_hours_are_their_arithmetic():
    found = re.findall(r"([\d,]+) × ([\d.]+) s = ([\d.]+)", PAGE.read_text())
    assert len(found) >= 6
    for steps, seconds, hours in found:
        product = int(steps.replace(",", "")) * float(seconds) / 3600
        assert float(hours) == pytest.approx(product, abs=0.051)


def test_readers_find_the_page():
    for file in ("README.md", "data/README.md"):
        assert "book/training_on_coco.md" in (ROOT / file).read_text()
