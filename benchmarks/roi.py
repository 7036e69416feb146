"""RoIAlign, RoIPool and RoIWarp against torchvision, on the CPU or on a GPU.

Run with `python -m benchmarks.roi` (CPU) or `python -m benchmarks.roi --device cuda`. Prints a
row for each case and writes results/roi_cpu.json or results/roi_cuda.json. A ratio is
torchvision's time divided by ours, medians of interleaved calls; torchvision always gets
channels-first maps, the only ones it does not copy. Every case first checks that both compute
the same. On a GPU the share of the memory-bandwidth floor is added: the time to read the touched
maps once and write the result once, at the speed of a large copy in the same run, divided by
our time.
"""

import argparse
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
import torchvision
from torch import Tensor

from benchmarks.timing import interleave, medians, ratio, table
from mrcnn_edu.files import write_json
from mrcnn_edu.provenance import provenance
from mrcnn_edu.roi import multiscale_roi_align, roi_align, roi_pool, roi_warp

SEED = 0
OPS, REFERENCE = torch.ops.mrcnn_edu, torch.ops.torchvision


@dataclass(frozen=True)
class Case:
    """A map, boxes with sides from `low` to `high` image pixels, and how they are pooled."""

    name: str
    shape: tuple[int, int, int, int]
    stride: int
    rois: int
    low: int
    high: int
    bins: int
    sampling: int


P2 = ((2, 256, 200, 272), 4, 512)
C4 = ((1, 1024, 50, 68), 16, 300)
SMALL = ((2, 64, 32, 32), 4, 256)
CASES = (
    [Case("P2", *P2, *sides, bins, sampling)
     for sides in ((16, 112), (32, 512)) for bins in (7, 14) for sampling in (2, 0)]
    + [Case("C4", *C4, 32, 512, bins, sampling) for bins in (7, 14) for sampling in (2, 0)]
    + [Case("small", *SMALL, 16, 112, bins, 2) for bins in (7, 14)]
)  # fmt: skip


def make_boxes(case: Case, generator: torch.Generator) -> Tensor:
    """[R, 5]: sides log-uniform, centres uniform, cut to the image."""
    images, _, height, width = case.shape
    sides = torch.rand(case.rois, 2, generator=generator) * math.log(case.high / case.low)
    sides = case.low * sides.exp()
    image = torch.tensor([width, height]) * case.stride
    centres = torch.rand(case.rois, 2, generator=generator) * image
    corners = torch.cat([centres - sides / 2, centres + sides / 2], 1)
    corners = torch.minimum(corners.clamp(min=0), image.repeat(2))
    index = torch.randint(0, images, (case.rois, 1), generator=generator)
    return torch.cat([index, corners], 1)


class Bench:
    """Times pairs of calls on one device and collects rows."""

    def __init__(self, device: str, repeats: int) -> None:
        self.device, self.repeats = device, repeats
        self.rows: list[dict[str, object]] = []
        self.bandwidth = self._copy_speed() if device == "cuda" else 0.0

    def compare(
        self,
        case: Case | None,
        what: str,
        reference: Callable[[], Tensor],
        ours: dict[str, Callable[[], Tensor]],
        moved: int = 0,
        tolerance: float = 2e-3,
    ) -> None:
        """One row for each of `ours`, which must compute what `reference` does.

        `moved` is the number of bytes that must be read and written at least. The tolerance is
        that of float32 coordinates: one part in 2²³ of 272 pixels, times the slope of noise.
        """
        expected = reference()
        for call in ours.values():
            torch.testing.assert_close(call(), expected, rtol=0, atol=tolerance)
        calls = {"torchvision": self._whole(reference)}
        calls |= {name: self._whole(call) for name, call in ours.items()}
        seconds = interleave(calls, self.repeats, warmup=1)
        middle = medians(seconds)
        for name in ours:
            row: dict[str, object] = {
                "case": case.name if case else "P2-P5",
                "sides": f"{case.low}-{case.high}" if case else "16-512",
                "bins": case.bins if case else 7,
                "sampling": case.sampling if case else 2,
                "what": what,
                "layout": name,
                "torchvision_ms": middle["torchvision"] * 1e3,
                "ours_ms": middle[name] * 1e3,
                "ratio": ratio(seconds, "torchvision", name),
            }
            if self.device == "cuda":
                row["of_floor"] = moved / self.bandwidth / middle[name] if moved else float("nan")
            self.rows.append(row)
            print(table("", [row]).splitlines()[-1], flush=True)

    def _whole(self, call: Callable[[], Tensor]) -> Callable[[], object]:
        """The call with what it left running on the GPU."""
        if self.device != "cuda":
            return call

        def synchronised() -> None:
            call()
            torch.cuda.synchronize()

        return synchronised

    def _copy_speed(self) -> float:
        """Bytes a second of a 1 GB copy, read and written."""
        source = torch.empty(2**28, device="cuda")
        target = torch.empty_like(source)
        seconds = interleave({"copy": self._whole(lambda: target.copy_(source))}, 10, 3)
        return 2 * 4 * 2**28 / medians(seconds)["copy"]


def touched_pixels(case: Case, rois: Tensor) -> int:
    """Map pixels that at least one box covers."""
    images, _, height, width = case.shape
    covered = torch.zeros(images, height, width, dtype=torch.bool)
    for n, x1, y1, x2, y2 in (rois / torch.tensor([1, *[case.stride] * 4])).tolist():
        covered[int(n), int(y1) : math.ceil(y2), int(x1) : math.ceil(x2)] = True
    return int(covered.sum())


def run_case(bench: Bench, case: Case, generator: torch.Generator) -> None:
    """All comparisons of one case."""
    n, c, h, w = case.shape
    rois = make_boxes(case, generator)
    out_shape = (case.rois, c, case.bins, case.bins)
    moved = 4 * (touched_pixels(case, rois) * c + math.prod(out_shape))
    x = torch.randn(case.shape, generator=generator).to(bench.device)
    g = torch.randn(out_shape, generator=generator).to(bench.device)
    rois = rois.to(bench.device)
    last, g_last = (t.contiguous(memory_format=torch.channels_last) for t in (x, g))
    levels = torch.zeros(case.rois, dtype=torch.int64, device=bench.device)
    p, scale, s = case.bins, 1 / case.stride, case.sampling

    bench.compare(
        case, "align forward", lambda: torchvision.ops.roi_align(x, rois, p, scale, s, True),
        {"channels last": lambda: roi_align(last, rois, p, scale, s, True),
         "NCHW": lambda: roi_align(x, rois, p, scale, s, True)}, moved,
    )  # fmt: skip
    tail = (rois, levels, n, [h], [w], [scale], s, True, False)
    bench.compare(
        case, "align backward",
        lambda: REFERENCE._roi_align_backward(g, rois, scale, p, p, n, c, h, w, s, True),
        {"channels last": lambda: OPS.roi_mean_backward(g_last, *tail, True)[0],
         "NCHW": lambda: OPS.roi_mean_backward(g, *tail, False)[0]}, moved,
    )  # fmt: skip
    if s == 0:
        return
    rounded = torch.cat([rois[:, :1], torch.floor(rois[:, 1:] * scale + 0.5)], 1)
    bench.compare(
        case, "warp forward", lambda: torchvision.ops.roi_align(x, rounded, p, 1.0, s, False),
        {"channels last": lambda: roi_warp(last, rois, p, scale, s)}, moved,
    )  # fmt: skip
    bench.compare(
        case, "pool forward", lambda: torchvision.ops.roi_pool(x, rois, p, scale),
        {"channels last": lambda: roi_pool(last, rois, p, scale),
         "NCHW": lambda: roi_pool(x, rois, p, scale)}, moved, 0,
    )  # fmt: skip
    source = REFERENCE.roi_pool(x, rois, scale, p, p)[1]
    mine = OPS.roi_pool_max([last], rois, levels, [p, p], [scale])[1]
    bench.compare(
        case, "pool backward",
        lambda: REFERENCE._roi_pool_backward(g, rois, source, scale, p, p, n, c, h, w),
        {"channels last": lambda: OPS.roi_pool_max_backward(
            g_last, mine, rois, levels, n, [h], [w], True)[0]}, moved,
    )  # fmt: skip


def run_pyramid(bench: Bench, generator: torch.Generator) -> None:
    """Four levels in one call, 1,024 boxes of all sizes."""
    strides = (4, 8, 16, 32)
    case = Case("P2-P5", (2, 256, 200, 272), 4, 1024, 16, 512, 7, 2)
    rois = make_boxes(case, generator)
    boxes = [rois[rois[:, 0] == n, 1:].to(bench.device) for n in range(2)]
    shapes = [(2, 256, -(-800 // s), 1088 // s) for s in strides]
    maps = [torch.randn(shape, generator=generator).to(bench.device) for shape in shapes]
    last = [m.contiguous(memory_format=torch.channels_last) for m in maps]
    named = {str(i): m for i, m in enumerate(maps)}
    pooler = torchvision.ops.MultiScaleRoIAlign(list(named), 7, 2)
    scales = [1 / s for s in strides]
    bench.compare(
        None, "pyramid align", lambda: pooler(named, boxes, [(800, 1088)] * 2),
        {"channels last": lambda: multiscale_roi_align(last, boxes, 7, scales, 2, False),
         "NCHW": lambda: multiscale_roi_align(maps, boxes, 7, scales, 2, False)},
    )  # fmt: skip


def main() -> None:
    """Run every case on the device that was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    generator = torch.Generator().manual_seed(SEED)
    bench = Bench(arguments.device, arguments.repeats)
    for case in CASES:
        run_case(bench, case, generator)
    run_pyramid(bench, generator)
    print(table(f"RoI operators on {arguments.device}: torchvision / ours", bench.rows))
    config = {
        "device": arguments.device,
        "repeats": arguments.repeats,
        "threads": torch.get_num_threads(),
        "cases": [asdict(case) for case in CASES],
    }
    if arguments.device == "cuda":
        config["gpu"] = torch.cuda.get_device_name()
        config["copy_bytes_per_second"] = bench.bandwidth
    write_json(
        f"results/roi_{arguments.device}.json",
        {**provenance(config, SEED), "rows": bench.rows},
    )


if __name__ == "__main__":
    main()
