"""The roofline of a processor, and where the layers of a Mask R-CNN meet it.

    python -m benchmarks.roofline       # two minutes; writes results/roofline_cpu.json

First the two roofs: the most multiply-adds per second that a large matrix product reaches, and the
most bytes per second that copying and adding large arrays moves, with one thread and with all.
Then every convolution and matrix product of the R50-FPN model at 800 × 1088 pixels, one by one, in
both memory layouts, interleaved, with what it must compute and must move at least. Then what moves
memory and computes almost nothing (ReLU, addition, norm, pooling), bfloat16 where the processor
has it, and a chain of such operations through torch.compile. bfloat16 is tried in a process of its
own first: on some virtual processors it ends with an illegal instruction.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.timing import interleave, medians, table
from mrcnn_edu.evaluation.cost import DETECTIONS
from mrcnn_edu.evaluation.roofline import Layer, layers
from mrcnn_edu.files import write_json
from mrcnn_edu.nn.roi_layer import pool_rois
from mrcnn_edu.presets import preset
from mrcnn_edu.provenance import provenance

SEED = 0
IMAGE = (800, 1088)
MODEL = "r50_fpn"
PRODUCT = 2048  # side of the matrices of the compute roof
NUMBERS = 2**25  # of each array of the memory roof: 128 MiB, more than any cache here
LAST = torch.channels_last

BF16_TEST = """
import torch
x = torch.randn(64, 64).bfloat16()
y = torch.nn.Linear(64, 64).bfloat16()(x)
z = torch.nn.Conv2d(16, 16, 3).bfloat16()(torch.randn(1, 16, 9, 9).bfloat16())
assert y.isfinite().all() and z.isfinite().all()
"""


def bf16_works() -> bool:
    """Whether the processor computes in bfloat16, tried where a crash does no harm."""
    return subprocess.run([sys.executable, "-c", BF16_TEST], check=False).returncode == 0


def best(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """The least seconds of each: a roof is what the machine can do, not what it does on average."""
    return {name: min(s) for name, s in interleave(calls, repeats).items()}


def roofs(threads: int, bf16: bool, repeats: int) -> dict[str, float]:
    """Multiply-adds and bytes per second."""
    torch.set_num_threads(threads)
    a, b, c = (torch.randn(NUMBERS) for _ in range(3))
    m, n = (torch.randn(PRODUCT, PRODUCT) for _ in range(2))
    moves = best({"copy": lambda: a.copy_(b), "add": lambda: torch.add(a, b, out=c)}, repeats)
    products: dict[str, Callable[[], object]] = {"float32": lambda: m @ n}
    if bf16:
        m16, n16 = m.bfloat16(), n.bfloat16()
        products["bf16"] = lambda: m16 @ n16
    computed = best(products, repeats)
    size = 4 * NUMBERS
    speed = max(2 * size / moves["copy"], 3 * size / moves["add"])
    found = {"bytes_s": speed, "copy_bytes_s": 2 * size / moves["copy"]}
    return found | {f"{name}_macs_s": PRODUCT**3 / s for name, s in computed.items()}


def make(layer: Layer, last: bool, dtype: torch.dtype) -> Callable[[], object]:
    """A call of the layer on random numbers, in one of the two memory layouts."""
    x, weight = torch.rand(layer.input), torch.randn(layer.weight) / 16
    if last and x.dim() == 4:
        x, weight = x.contiguous(memory_format=LAST), weight.contiguous(memory_format=LAST)
    x, weight = x.to(dtype), weight.to(dtype)
    return lambda: layer.run(x, weight)


def layer_rows(bf16: bool, repeats: int) -> list[dict[str, object]]:
    """Each layer of the model, in three ways, beside what it needs.

    A round goes through all layers, so that another program disturbs one round of each, and not all
    of one.
    """
    ways = {"channels last": (True, torch.float32), "channels first": (False, torch.float32)}
    if bf16:
        ways["bf16"] = (True, torch.bfloat16)
    found = layers(preset(MODEL), IMAGE)
    seconds: dict[Layer, dict[str, list[float]]] = {
        layer: {way: [] for way in ways} for layer in found
    }
    with torch.no_grad():
        for _ in range(repeats):
            for layer, of in seconds.items():
                calls = {way: make(layer, *how) for way, how in ways.items()}
                for way, times in interleave(calls, repeats=1, warmup=1).items():
                    of[way] += times
    rows: list[dict[str, object]] = [
        {
            "stage": layer.stage,
            "kind": layer.kind,
            "input": layer.input,
            "weight": layer.weight,
            "times": found[layer],
            "multiply_adds": layer.multiply_adds,
            "moved": layer.moved,
            **{f"{way} ms": round(1e3 * s, 4) for way, s in medians(of).items()},
        }
        for layer, of in seconds.items()
    ]
    print(table("layers", rows), flush=True)
    return rows


def operation_rows(repeats: int) -> list[dict[str, object]]:
    """What moves memory and computes little, on the output of the first residual stage.

    Bytes are those of the arrays that are read and written; of the pooled features the pyramid is
    read once.
    """
    x, y = (torch.randn(1, 256, 200, 272).contiguous(memory_format=LAST) for _ in range(2))
    scale, shift = torch.rand(256, 1, 1), torch.rand(256, 1, 1)
    norm = nn.GroupNorm(32, 256)
    pyramid = [
        torch.randn(1, 256, -(-800 // s), -(-1088 // s)).contiguous(memory_format=LAST)
        for s in (4, 8, 16, 32)
    ]
    centre = torch.rand(1000, 2) * torch.tensor([1088.0, 800.0])
    side = 16 * 32 ** torch.rand(1000, 2)
    boxes = torch.cat([centre - side / 2, centre + side / 2], dim=1)  # [1000, 4]
    scales, config, one = [1 / s for s in (4, 8, 16, 32)], preset(MODEL), 4 * x.numel()
    maps = 4 * sum(p.numel() for p in pyramid)
    bins = 1000 * 256 * 49
    calls: dict[str, tuple[Callable[[], object], int, int]] = {
        "ReLU": (lambda: F.relu(x), x.numel(), 2 * one),
        "ReLU in place": (lambda: F.relu(x, inplace=True), x.numel(), 2 * one),
        "x + y": (lambda: x + y, x.numel(), 3 * one),
        "scale and shift": (lambda: x * scale + shift, x.numel(), 2 * one),
        "GroupNorm": (lambda: norm(x), 3 * x.numel(), 3 * one),
        "max pool, stride 2": (lambda: F.max_pool2d(x, 3, 2, 1), 9 * x.numel() // 4, 5 * one // 4),
        "RoIAlign": (
            lambda: pool_rois(pyramid, [boxes], 7, scales, config), 16 * bins, maps + 4 * bins
        ),
    }  # fmt: skip
    with torch.no_grad():
        seconds = medians(interleave({name: call for name, (call, *_) in calls.items()}, repeats))
    return [
        {"kind": n, "multiply_adds": w, "moved": b, "ms": round(1e3 * seconds[n], 4)}
        for n, (_, w, b) in calls.items()
    ]


def chain(x: Tensor, y: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """The end of a residual block whose norm is not folded away: norm, addition, ReLU."""
    return F.relu(x * scale + shift + y)


def compiled_row(repeats: int) -> dict[str, object]:
    """That chain by PyTorch as it stands, and through torch.compile."""
    x, y = (torch.randn(1, 256, 200, 272).contiguous(memory_format=LAST) for _ in range(2))
    scale, shift = torch.rand(256, 1, 1), torch.rand(256, 1, 1)
    fused = torch.compile(chain)
    torch.testing.assert_close(fused(x, y, scale, shift), chain(x, y, scale, shift))
    calls = {
        "eager": lambda: chain(x, y, scale, shift),
        "compiled": lambda: fused(x, y, scale, shift),
    }
    seconds = medians(interleave(calls, repeats))
    return {
        "chain": "relu(x * scale + shift + y)",
        "arrays moved, eager": "2 + 2 + 3 + 2",
        "arrays moved, fused": "3",
        **{f"{name} ms": round(1e3 * s, 4) for name, s in seconds.items()},
    }


def thread_rows(cores: int, repeats: int) -> list[dict[str, object]]:
    """One layer under each roof with one thread and with all."""
    x = torch.randn(1, 256, 100, 136).contiguous(memory_format=LAST)
    weight = torch.randn(256, 256, 3, 3).contiguous(memory_format=LAST)
    big = torch.randn(NUMBERS)
    of: dict[str, Callable[[], object]] = {
        "3×3 conv": lambda: F.conv2d(x, weight, padding=1),
        "ReLU in place": lambda: F.relu(big, inplace=True),
    }

    def with_threads(threads: int, call: Callable[[], object]) -> Callable[[], object]:
        def run() -> None:
            torch.set_num_threads(threads)
            call()

        return run

    counts = sorted({1, cores})
    calls = {f"{n} {t}": with_threads(t, call) for n, call in of.items() for t in counts}
    seconds = medians(interleave(calls, repeats))
    return [
        {"kind": n, **{f"{t} threads ms": round(1e3 * seconds[f"{n} {t}"], 4) for t in counts}}
        for n in of
    ]


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", default="results/roofline_cpu.json")
    options = parser.parse_args()
    torch.manual_seed(SEED)
    cores, bf16 = os.cpu_count() or 1, bf16_works()
    config = {"repeats": options.repeats, "image": IMAGE, "model": MODEL, "detections": DETECTIONS}
    config |= {"product": PRODUCT, "array_bytes": 4 * NUMBERS, "bf16_works": bf16}
    origin = provenance(config, SEED)
    result: dict[str, Any] = {**origin, "load_before": os.getloadavg()[0]}
    result["roofs"] = {str(t): roofs(t, bf16, options.repeats) for t in sorted({1, cores})}
    print(result["roofs"])
    result["threads"] = thread_rows(cores, 3 * options.repeats)
    print(table("threads", result["threads"]))
    torch.set_num_threads(cores)
    result["operations"] = operation_rows(3 * options.repeats)
    print(table("operations", result["operations"]))
    result["layers"] = layer_rows(bf16, options.repeats)
    result["compiled"] = compiled_row(3 * options.repeats)
    print(result["compiled"])
    write_json(options.out, result)


if __name__ == "__main__":
    main()
