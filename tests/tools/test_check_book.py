"""The browser test of the book fails on what a reader would stumble over, and on nothing else."""

import shutil

import pytest

from tools.check_book import BROWSERS, check

pytestmark = pytest.mark.skipif(
    not (any(map(shutil.which, BROWSERS)) and shutil.which("node") and shutil.which("npm")),
    reason="needs Chromium, Node and npm",
)

WIDGET = """
<div data-widget="dot" data-state="0"><div data-drag style="width: 30px; height: 30px"></div></div>
<script>
  const root = document.querySelector("[data-widget]");
  root.onpointermove = (e) => { if (e.buttons) root.dataset.state = String(e.clientX); };
</script>
"""
STYLE = "<style>html[data-theme=dark] body { background: #111; color: #eee; }</style>"
THEME = "<script>document.documentElement.dataset.theme = localStorage.getItem('mode')</script>"


def write(folder, name, body):
    page = f'<!doctype html><html><head>{STYLE}<link rel="icon" href="data:,"></head>'
    page += f'<body style="margin: 0">{THEME}<article id="top">{body}</article></body></html>'
    (folder / name).write_text(page)


GOOD = f"<style>body {{ background: #fff; color: #111 }}</style>{STYLE}"


def test_a_good_page_passes_and_its_widget_is_dragged(tmp_path, capfd):
    write(tmp_path, "a.html", GOOD + WIDGET + '<a href="b.html#top">b</a>')
    write(tmp_path, "b.html", GOOD + "<p>It costs $5 and $6. <code>$x$</code></p>")
    assert check(tmp_path, ["a.html", "b.html"]) == 0, capfd.readouterr().out
    out = capfd.readouterr().out
    assert "dragged: dot ×3; 0 problems" in out


def test_every_kind_of_problem_is_told(tmp_path, capfd):
    bad = {
        "console: oops": "<script>console.error('oops')</script>",
        "script: broken": "<script>throw new Error('broken')</script>",
        "asks the network: http://example.invalid/": "<img alt='x' src='http://example.invalid/'>",
        "404: ": "<script src='missing.js'></script>",
        "maths not rendered: x^2": "<span class='math'>x^2</span>",
        "formula left as text: so $a+b$": "<p>so $a+b$</p>",
        "Markdown left as text": "<p>see [this](there.md)</p>",
        "picture without a text": "<img src='data:image/gif;base64,R0lGODlhAQABAAAAACw='>",
        "scrolls sideways, 2000 px in 400: div.wide": "<div class='wide' style='width:2000px'>a",
        "page and text have no contrast": "<style>body { color: #fff !important }</style>",
        "widget dead does not follow a drag": "<div data-widget='dead'><b data-drag>x</b></div>",
        "widget bare has nothing to drag": "<div data-widget='bare'>x</div>",
        "no such place: 3.html#nowhere": "<a href='3.html#nowhere'>x</a>",
        "no such file: gone.html": "<a href='gone.html'>x</a>",
    }
    for i, body in enumerate(bad.values()):
        write(tmp_path, f"{i}.html", GOOD + body)
    assert check(tmp_path, [f"{i}.html" for i in range(len(bad))]) == 1
    lines = capfd.readouterr().out.splitlines()
    for i, message in enumerate(bad):
        assert any(line.startswith(f"{i}.html: {message}") for line in lines), (message, lines)
    good = [line for line in lines if "no such" not in line and line.startswith("12.html")]
    assert good == []
