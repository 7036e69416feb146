"""Redraw the figures: `python -m figures [NAME ...]`; none named means all."""

import sys

import figures
from mrcnn_edu.files import write_atomically


def main() -> None:
    """Draw the figures that the command line names, and write those that changed."""
    unknown = set(sys.argv[1:]) - set(figures.names())
    if unknown:
        sys.exit(f"no such figure: {', '.join(sorted(unknown))}; there are {figures.names()}")
    for name in sys.argv[1:] or figures.names():
        path = figures.HERE / f"{name}.svg"
        svg = figures.render(name)
        if path.exists() and figures.same(path.read_text(), svg.decode()):
            print(f"{path.name}: unchanged")
            continue
        write_atomically(path, svg)
        print(f"{path.name}: written, {len(svg) / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
