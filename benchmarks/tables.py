"""Write the tables of measured numbers in README.md from the files in results/.

    python -m benchmarks.tables          # rewrite the part between the two markers
    python -m benchmarks.tables --check  # exit 1 if it is not up to date

No measured number is typed by hand. A test runs the check.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"


def load(name: str) -> dict[str, Any] | None:
    """A result by its file name without the ending, or None where it was not measured yet."""
    path = ROOT / "results" / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def number(value: float | None) -> str:
    """One decimal; a range without ground truth has none."""
    return "–" if value is None else f"{value:.1f}"


def row(*cells: object) -> str:
    """One line of a Markdown table."""
    return "| " + " | ".join(str(c) for c in cells) + " |"


def origin(result: dict[str, Any]) -> str:
    """Commit, date and machine of a result."""
    m = result["machine"]
    return (
        f"`{result['commit'][:7]}`, {result['date']}, {m['cpu']} with {m['cores']} cores and "
        f"{m['memory_gib']} GiB, torch {result['versions']['torch']}"
    )


def trained() -> list[str]:
    """Models trained here: Shapes beside torchvision, nuclei, eight photographs."""
    lines = [
        row("trained from scratch", "code", "seed", "steps", "minutes", "box AP", "mask AP"),
        row("---", "---", "--:", "--:", "--:", "--:", "--:"),
    ]
    sources = []
    for seed in (0, 1):
        result = load(f"quickstart_seed{seed}")
        if result is None:
            continue
        sources.append(f"Shapes, seed {seed}: {origin(result)}")
        for name in ("ours", "torchvision"):
            r = result[name]
            lines.append(
                row(
                    "Shapes, 200 unseen images",
                    "mrcnn_edu" if name == "ours" else "torchvision's MaskRCNN, same network",
                    seed,
                    r["steps"],
                    number(result["train_seconds"] / 60),
                    number(r["box"]["AP"]),
                    number(r["mask"]["AP"]),
                )
            )
    for name, title in (
        ("nuclei", "nuclei, 85 unseen images (300 detections an image)"),
        ("coco_overfit", "eight COCO photographs, measured on themselves"),
    ):
        result = load(name)
        if result is None:
            continue
        sources.append(f"{name}: {origin(result)}")
        lines.append(
            row(
                title,
                "mrcnn_edu",
                result["seed"],
                result["config"]["train"]["steps"],
                number(result["train_seconds"] / 60),
                number(result["box"]["AP"]),
                number(result["mask"]["AP"]),
            )
        )
    return [*lines, "", "Measured. " + "; ".join(sources) + "."]


def speed() -> list[str]:
    """Ratios against torchvision: its time divided by ours, smallest and largest of all cases."""
    lines = [row("operation on a CPU", "torchvision's time / ours"), row("---", "--:")]
    for name, title in (
        ("nms_cpu", "non-maximum suppression, 1,000 to 12,000 boxes"),
        ("paste_cpu", "masks to run-lengths, and mask targets"),
        ("roi_cpu", "RoI operators, forward and backward"),
    ):
        result = load(name)
        if result is None:
            continue
        ratios = [r["ratio"] for r in result["rows"] if r.get("ratio") is not None]
        lines.append(row(title, f"×{min(ratios):.1f} to ×{max(ratios):.0f}"))
    return [
        *lines,
        "",
        "Measured: medians of interleaved calls. Every case is a row in `results/*_cpu.json`.",
    ]


def main() -> None:
    """Rewrite README.md, or check it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    readme = ROOT / "README.md"
    text = readme.read_text()
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    tables = "\n".join([*trained(), "", *speed()])
    new = f"{before}{BEGIN}\n{tables}\n{END}{after}"
    if check:
        sys.exit(0 if new == text else "README.md is not what results/ says: make tables")
    readme.write_text(new)


if __name__ == "__main__":
    main()
