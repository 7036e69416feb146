"""Open every page of the built book in a browser (`make test-book`).

`python -m tools.check_book` serves `book/_build/html` on 127.0.0.1 and runs
`check_pages.mjs` in headless Chromium. It fails on console errors, requests to the network,
missing files, formulas that are not rendered, links and anchors that lead nowhere, pages that
scroll sideways, and widgets that do not follow a drag.
`--screenshots DIR` keeps a picture of every page in every view.
"""

import argparse
import functools
import http.server
import shutil
import subprocess
import sys
import threading
from pathlib import Path

from tools.book import HTML
from tools.vendor import fetch

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SCRIPT = Path(__file__).with_name("check_pages.mjs")


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves files without a word: the browser reports what is missing."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


class Server(http.server.ThreadingHTTPServer):
    """A server whose client may hang up: browsers do that with connections they do not need."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Print only what is not a hung-up connection."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def check(folder: Path, pages: list[str], screenshots: Path | None = None) -> int:
    """Check pages of a folder; returns 0 if nothing is wrong.

    Raises:
        SystemExit: Chromium or Node is missing.
    """
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if browser is None or shutil.which("node") is None:
        sys.exit("The book's test needs Node and Chromium: apt-get install nodejs npm chromium")
    if screenshots:
        screenshots.mkdir(parents=True, exist_ok=True)
    handler = functools.partial(Handler, directory=str(folder))
    with Server(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}/"
        arguments = [str(fetch("playwright-core")), browser, address, str(screenshots or "")]
        done = subprocess.run(["node", str(SCRIPT), *arguments, *pages], check=False)
        server.shutdown()
    return done.returncode


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.check_book", description=__doc__)
    parser.add_argument("--screenshots", type=Path, metavar="DIR")
    parser.add_argument("pages", nargs="*", help="such as notation.html; all if none is named")
    options = parser.parse_args()
    if not (HTML / "index.html").exists():
        sys.exit("There is no book yet: make book")
    found = [p.relative_to(HTML).as_posix() for p in sorted(HTML.rglob("*.html"))]
    left_out = ("_static/", "index.html")  # the first page only leads to the second
    pages = options.pages or [p for p in found if not p.startswith(left_out)]
    sys.exit(check(HTML, pages, options.screenshots))


if __name__ == "__main__":
    main()
