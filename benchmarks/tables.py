"""Write the tables of measured numbers in book/measured.md from the files in results/.

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


def machine(result: dict[str, Any]) -> str:
    """Date and machine of a result."""
    m = result["machine"]
    return (
        f"{result['date']}, {m['cpu']} with {m['cores']} cores and {m['memory_gib']} GiB, "
        f"torch {result['versions']['torch']}, torchvision {result['versions']['torchvision']}"
    )


def commit(result: dict[str, Any]) -> str:
    """The commit that ran."""
    return f"`{result['commit'][:7]}`"


def measured(results: list[dict[str, Any]]) -> str:
    """One line that names every machine and day of the given results."""
    return "Measured: " + "; ".join(sorted({machine(r) for r in results})) + "."


def trained() -> list[str]:
    """Models trained here: Shapes beside torchvision, nuclei, eight photographs, and 92."""
    lines = [
        row("trained from scratch", "code", "seed", "steps", "min", "box AP", "mask AP", "commit"),
        row("---", "---", "--:", "--:", "--:", "--:", "--:", "---"),
    ]
    used = []
    for seed in (0, 1, 2):
        result = load(f"quickstart_seed{seed}")
        if result is None:
            continue
        used.append(result)
        for name, code in (("ours", "mrcnn_edu"), ("torchvision", "torchvision, same network")):
            if name not in result:
                continue
            r = result[name]
            lines.append(
                row(
                    "Shapes, 200 unseen images",
                    code,
                    seed,
                    r["steps"],
                    number(result.get("train_processor_seconds", result["train_seconds"]) / 60),
                    number(r["box"]["AP"]),
                    number(r["mask"]["AP"]),
                    commit(result),
                )
            )
    for name, part, title in (
        ("nuclei", "", "nuclei, 85 unseen images, 300 detections each"),
        ("coco_overfit", "", "eight COCO photographs, measured on themselves"),
        ("coco_cc", "seen", "92 COCO photographs, measured on themselves"),
        ("coco_cc", "", "92 COCO photographs, measured on 46 others"),
        ("shapes_cuda", "", "Shapes on a GPU, 200 unseen images"),
        ("nuclei_cuda", "", "nuclei on a GPU, 85 unseen images, 300 detections each"),
    ):
        result = load(name)
        if result is None:
            continue
        used.append(result)
        metrics = result[part] if part else result
        lines.append(
            row(
                title,
                "mrcnn_edu",
                result["seed"],
                result["config"]["train"]["steps"],
                number(result["train_seconds"] / 60),
                number(metrics["box"]["AP"]),
                number(metrics["mask"]["AP"]),
                commit(result),
            )
        )
    note = "Minutes of Shapes on a CPU are processor time."
    return [*lines, "", f"{measured(used)} {note}"] if used else []


def scatter() -> list[str]:
    """The same small training with several seeds, by two recipes."""
    result = load("calm")
    if result is None:
        return []
    lines = [
        row("600 steps on easier Shapes", "seeds", "mask AP, mean", "standard deviation"),
        row("---", "--:", "--:", "--:"),
    ]
    for profile, title in (("cpu", "AdamW, all weights at one rate"), ("calm", "recipe `tiny`")):
        found = result["summary"][profile]
        lines.append(
            row(
                f"{title} (profile `{profile}`)",
                found["seeds"],
                number(found["mask_AP_mean"]),
                number(found["mask_AP_deviation"]),
            )
        )
    used = [run for runs in result["runs"].values() for run in runs.values()]
    return [*lines, "", measured(used)]


def beside_others() -> list[str]:
    """What two busy processes cost a training step, by how long OpenMP's threads spin."""
    result = load("busy")
    if result is None:
        return []
    lines = [
        row(
            "seconds per step of the quickstart", "alone", "beside two busy processes", "speed kept"
        ),
        row("---", "--:", "--:", "--:"),
    ]
    for setting, found in result["summary"].items():
        lines.append(
            row(
                setting,
                f"{found['undisturbed_seconds']:.3f}",
                f"{found['beside_two_seconds']:.3f}",
                f"{found['kept_speed']:.0%}",
            )
        )
    note = "Medians of five rounds; each process uses both cores."
    return [*lines, "", f"{measured([result])} {note}"]


def speed() -> list[str]:
    """Ratios: another library's time divided by ours, smallest and largest of the cases.

    The other is torchvision where the line does not name it.
    """
    lines = [
        row("on a CPU", "cases", "torchvision's time / ours", "commit"),
        row("---", "--:", "--:", "---"),
    ]
    used = []
    for file, title, chosen in (
        ("roi_cpu", "RoIAlign forward, channels last", ("align forward", "channels last")),
        ("roi_cpu", "RoIAlign forward, channels first", ("align forward", "NCHW")),
        ("roi_cpu", "RoIAlign backward, channels last", ("align backward", "channels last")),
        ("roi_cpu", "RoIAlign backward, channels first", ("align backward", "NCHW")),
        ("roi_cpu", "RoIPool forward, channels last", ("pool forward", "channels last")),
        ("nms_cpu", "non-maximum suppression, 1,000 to 12,000 boxes", ()),
        ("paste_cpu", "100 masks to COCO run-lengths, 800 × 1066", ("paste to RLE",)),
        ("paste_cpu", "mask targets, 28 × 28", ("mask targets",)),
        ("model_cpu", "R50-FPN, inference, one image of 800 × 1066", ("inference",)),
        ("model_cpu", "R50-FPN, a training step of two such images", ("training",)),
        ("evaluate_cpu", "AP of boxes, 500 images: pycocotools' time", ("bbox",)),
        ("evaluate_cpu", "AP of masks: pycocotools' time", ("segm",)),
        ("evaluate_cpu", "AP of keypoints: pycocotools' time", ("keypoints",)),
    ):
        result = load(file)
        if result is None:
            continue
        used.append(result)
        ratios = [
            r["ratio"]
            for r in result["rows"]
            if r.get("case") != "small"  # maps of 32 × 32: listed in the file
            and all(any(str(v).startswith(c) for v in r.values()) for c in chosen)
        ]
        low, high = f"×{min(ratios):.1f}", f"×{max(ratios):.0f}"
        lines.append(
            row(title, len(ratios), low if len(ratios) == 1 else f"{low} to {high}", commit(result))
        )
    for size in (320, 800):
        result = load(f"train_cpu_float32_{size}")
        if result is not None:
            used.append(result)
            title = f"training with loader, R50-FPN, shorter side {size}: processor time"
            lines.append(row(title, 1, f"×{result['ratio_cpu_time']:.1f}", commit(result)))
    note = "Medians of interleaved calls; every case is a row in `results/*_cpu.json`."
    return [*lines, "", f"{measured(used)} {note}"] if used else []


def sizes() -> list[str]:
    """Parameters and multiply-adds of every preset, beside published ones."""
    result = load("counts")
    if result is None:
        return []
    lines = [
        row("model", "million parameters", "published", "GMAC", "published", "source"),
        row("---", "--:", "--:", "--:", "--:", "---"),
    ]
    for name, m in result["models"].items():
        published = m["published"] or {}
        million = published.get("parameters", 0) / 1e6
        lines.append(
            row(
                f"`{name}`",
                f"{m['parameters'] / 1e6:.1f}",
                ("–" if not million else f"{million:.1f}" if million % 1 else f"{million:.0f}"),
                number(m["gmac_total"]),
                published.get("gmac", "–"),
                published.get("source", ""),
            )
        )
    image = " × ".join(map(str, result["config"]["image"]))
    note = (
        f"Counted at commit {commit(result)}, with 80 classes and an image of {image} pixels (the "
        "tiny ones: 192 × 192). torchvision has 91 classes and outputs for the background; the "
        "published multiply-adds are means over 100 COCO images."
    )
    return [*lines, "", note]


def main() -> None:
    """Rewrite book/measured.md, or check it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    page = ROOT / "book" / "measured.md"
    text = page.read_text()
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    parts = (trained(), scatter(), beside_others(), speed(), sizes())
    tables = "\n".join(line for part in parts for line in [*part, ""]).rstrip()
    new = f"{before}{BEGIN}\n{tables}\n{END}{after}"
    if check:
        sys.exit(0 if new == text else "book/measured.md is not what results/ says: make tables")
    page.write_text(new)


if __name__ == "__main__":
    main()
