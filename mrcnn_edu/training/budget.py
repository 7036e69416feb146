"""What a run takes, before it has begun: hours, money, bytes, and what others have published.

A run is so many images. GPUs train them at some rate, processes that load images deliver them at
another, and since both work at the same time the slower one decides. Everything here is arithmetic
on numbers that somebody measured: `PUBLISHED` and `AP_BY_EPOCH` hold other people's, each with its
source; this project's own are in `results/`. Chapter 14.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from torch import nn

TRAIN_IMAGES = 117_266  # of COCO's train2017 that have objects: 118,287 − 1,021


@dataclass(frozen=True)
class Machine:
    """What trains, what feeds it, and what it costs."""

    gpus: int = 8
    images_s: float = 28.02  # that one GPU trains alone
    efficiency: float = 0.777  # of many GPUs: their rate over that of as many single ones
    workers: int = 16  # processes that load images, on the whole machine
    worker_images_s: float = 138.0  # of one of them
    price: float = 1.5  # of one GPU for one hour

    def __post_init__(self) -> None:
        """Refuse what no machine is."""
        if self.gpus < 1 or self.workers < 1:
            raise ValueError(f"gpus is {self.gpus} and workers {self.workers}; both at least 1.")
        if self.images_s <= 0 or self.worker_images_s <= 0 or not 0 < self.efficiency <= 1:
            raise ValueError(
                f"images_s is {self.images_s}, worker_images_s {self.worker_images_s} (both more "
                f"than 0) and efficiency {self.efficiency} (more than 0, at most 1)."
            )


@dataclass(frozen=True)
class Bill:
    """What a run takes on a machine."""

    rate: float  # images a second
    limit: Literal["GPUs", "loader"]  # which of the two is slower
    hours: float
    money: float
    idle: float  # share of the time that GPUs wait for images


def bill(images: float, machine: Machine) -> Bill:
    """What it takes to train on so many images, repeated ones counted.

    Args:
        images: steps times images a step.
        machine: GPUs, loader, price.
    """
    m = machine
    gpu_rate = m.gpus * m.images_s * (m.efficiency if m.gpus > 1 else 1.0)
    loader_rate = m.workers * m.worker_images_s
    rate = min(gpu_rate, loader_rate)  # they work at the same time
    hours = images / rate / 3600
    return Bill(
        rate=rate,
        limit="GPUs" if gpu_rate <= loader_rate else "loader",
        hours=hours,
        money=hours * m.gpus * m.price,
        idle=1 - rate / gpu_rate,
    )


def state_bytes(model: nn.Module, optimizer: Literal["sgd", "adamw"], average: bool = False) -> int:
    """Bytes that a run holds whatever its images are: weights, gradients, optimiser, average.

    SGD with momentum remembers one number for each weight that is trained, AdamW two. Frozen
    weights have neither gradient nor memory.

    Args:
        model: the network.
        optimizer: which one.
        average: whether a moving average of the weights is kept.
    """
    weights = sum(p.nbytes for p in model.parameters())
    trained = sum(p.nbytes for p in model.parameters() if p.requires_grad)
    buffers = sum(b.nbytes for b in model.buffers())
    copies = 2 if average else 1
    return copies * (weights + buffers) + trained * (1 + {"sgd": 1, "adamw": 2}[optimizer])


class Throughput(NamedTuple):
    """A published training speed of Mask R-CNN with R50-FPN at full size."""

    code: str
    gpus: int
    card: str
    images_s: float  # of all GPUs together
    source: str


_BENCHMARKS = "detectron2, docs/notes/benchmarks.md"
_FLAGPERF = "FlagPerf, training/nvidia/mask_rcnn-pytorch/README.md"
PUBLISHED = (
    Throughput("matterport", 8, "V100", 14, _BENCHMARKS),
    Throughput("Detectron", 8, "V100", 19, _BENCHMARKS),
    Throughput("tensorpack", 8, "V100", 50, _BENCHMARKS),
    Throughput("mmdetection", 8, "V100", 53, _BENCHMARKS),
    Throughput("maskrcnn-benchmark", 8, "V100", 53, _BENCHMARKS),
    Throughput("detectron2", 8, "V100", 62, _BENCHMARKS),
    Throughput(
        "NVIDIA, float16",
        8,
        "V100",
        180.0,
        "MLPerf training results v0.7, NVIDIA/results/dgx1_ngc20.06_pytorch/maskrcnn/result_0.txt",
    ),
    Throughput("FlagPerf", 1, "A100", 28.02, _FLAGPERF),
    Throughput("FlagPerf", 4, "A100", 97.52, _FLAGPERF),
    Throughput("FlagPerf", 8, "A100", 174.20, _FLAGPERF),
)

# (box AP, mask AP) on val2017 after epochs 1, 2, …: MLPerf training results v0.7,
# Google/results/tpu-v4-128-TF/maskrcnn/result_0.txt. Batches of 256, a warm-up of 1,800 steps, the
# rate ÷10 at steps 5,625 and 7,500.
AP_BY_EPOCH = (
    (6.6, 6.6), (17.3, 16.5), (21.5, 21.1), (23.5, 22.9), (26.6, 25.5), (27.6, 26.1),
    (27.5, 26.0), (29.4, 27.8), (29.8, 28.1), (30.7, 28.8), (30.9, 28.9), (30.4, 28.5),
    (36.8, 33.3), (37.0, 33.3), (37.3, 33.6), (37.5, 33.7), (37.9, 34.1),
)  # fmt: skip
AP_RUN = {"batch": 256, "warm-up": 1800, "drops": (5625, 7500), "images": 118_287}
