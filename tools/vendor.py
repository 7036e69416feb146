"""Fetch what the book's pages load, so that no page ever asks the network for anything.

`book/package.json` names exact versions. They are fetched with npm once, at build, and cached in
`book/_build/npm`; only what pages need is copied into the book. Nothing of it is committed.
"""

import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import anywidget

from tools.notebooks import ROOT

PACKAGES = ROOT / "book" / "package.json"
CACHE = ROOT / "book" / "_build" / "npm"


def fetch(name: str) -> Path:
    """The folder of a package of `book/package.json`, fetched if it is not there yet.

    Raises:
        SystemExit: npm is missing or fails; the message says what to do.
    """
    listed = json.loads(PACKAGES.read_text())
    version = {**listed["dependencies"], **listed["devDependencies"]}[name]
    folder = CACHE / f"{name.strip('@').replace('/', '-')}-{version}"
    if folder.exists():
        return folder
    if shutil.which("npm") is None:
        sys.exit("The book needs npm, once, to fetch MathJax and the widgets' scripts: install it.")
    CACHE.mkdir(parents=True, exist_ok=True)
    command = ["npm", "pack", "--silent", f"{name}@{version}", "--pack-destination", str(CACHE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=CACHE)
    if done.returncode:
        sys.exit(f"npm cannot fetch {name} {version}:\n{done.stderr}")
    archive = CACHE / done.stdout.split()[-1]
    unpacked = CACHE / f".{folder.name}"
    shutil.rmtree(unpacked, ignore_errors=True)
    with tarfile.open(archive) as file:
        file.extractall(unpacked, filter="data")
    archive.unlink()
    (unpacked / "package").rename(folder)
    unpacked.rmdir()
    return folder


def vendor(target: Path) -> None:
    """Put MathJax, RequireJS, html-manager and anywidget into the folder `target`."""
    mathjax = fetch("mathjax") / "es5"
    target.mkdir(parents=True, exist_ok=True)
    (target / "mathjax").mkdir(exist_ok=True)
    shutil.copy(mathjax / "tex-mml-chtml.js", target / "mathjax")
    for part in ("output/chtml/fonts", "input/tex/extensions", "a11y", "sre", "ui"):
        shutil.copytree(mathjax / part, target / "mathjax" / part, dirs_exist_ok=True)
    shutil.copy(fetch("requirejs") / "require.js", target)
    manager = fetch("@jupyter-widgets/html-manager") / "dist"
    ignore = shutil.ignore_patterns("*.map", "embed.js", "libembed.js")
    shutil.copytree(manager, target / "html-manager", ignore=ignore, dirs_exist_ok=True)
    module = Path(anywidget.__file__).parent / "nbextension" / "index.js"
    shutil.copy(module, target / "anywidget.js")


if __name__ == "__main__":
    print(fetch(sys.argv[1]))
