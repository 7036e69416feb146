"""Run the exported functions of a widget's JavaScript, to hold them against Python.

A test of a widget calls ``call("name", "function", [arguments, …])`` and gets a list of results.
Arguments and results travel as JSON: an array is a list there.
"""

import base64
import json
import shutil
import subprocess
from collections.abc import Sequence
from typing import Any

import pytest

pytest.importorskip("anywidget", reason="widgets need anywidget: pip install anywidget")

from mrcnn_edu.widgets.common import bundle

needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")

SCRIPT = """
const module = await import(process.argv[1]);
let text = "";
for await (const part of process.stdin) text += part;
const { name, cases } = JSON.parse(text);
const results = name ? cases.map((each) => module[name](...each)) : Object.keys(module);
process.stdout.write(JSON.stringify(results));
"""


def call(widget: str, function: str, cases: Sequence[Sequence[Any]]) -> list[Any]:
    """What ``function`` of ``widget``.js returns for each list of arguments."""
    return run(bundle(widget), function, cases)


def exports(widget: str) -> list[str]:
    """The names that a widget's module exports; fails where it is not valid JavaScript."""
    return run(bundle(widget), "", [])


def run(source: str, function: str, cases: Sequence[Sequence[Any]]) -> list[Any]:
    """The same for the text of a module."""
    address = "data:text/javascript;base64," + base64.b64encode(source.encode()).decode()
    done = subprocess.run(
        ["node", "--input-type=module", "--eval", SCRIPT, address],
        input=json.dumps({"name": function, "cases": [list(each) for each in cases]}),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
