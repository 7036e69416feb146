"""The quickstart's model against torchvision's MaskRCNN: same network, images, recipe, time.

Trains ours for the quickstart's number of steps, then torchvision's for as many seconds of
processor time, on the same images in the same order, and measures both on the 200 validation
images. Both have the same backbone, pyramid, heads (torchvision's own head classes, of the same
sizes and norms), anchors, sample sizes, proposal counts, optimiser, sizes of images and cosine
schedule; torchvision's schedule runs over time, so that it too ends at a rate of zero. What differs
is the code: operators, alignment, mask targets and pasting.

Processor time is what all threads of the process have used, so other programs on the machine
lengthen neither. On one thread (OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1) no thread waits for another.

    python -m benchmarks.quickstart --seeds 0 1 2                # both; twice ten minutes a seed
    python -m benchmarks.quickstart --seeds 0 1 2 --only ours
    python -m benchmarks.quickstart --seeds 0 --only torchvision   # as long as ours was measured

Writes results/quickstart_seed0.json and so on; the trained model stays in runs/quickstart_seed0/.
"""

import argparse
import copy
import dataclasses
import json
import math
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torchvision.models.detection import MaskRCNN as TorchvisionMaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops import MultiScaleRoIAlign
from tqdm.auto import tqdm

from mrcnn_edu import masks as mask_ops
from mrcnn_edu.cli.quickstart import QUICKSTART_TRAIN, metrics_table, write_config
from mrcnn_edu.config import ModelConfig
from mrcnn_edu.data.shapes import ShapesDataset, default_sets
from mrcnn_edu.data.transforms import to_float
from mrcnn_edu.evaluation.detect import coco_results
from mrcnn_edu.evaluation.measure import measure
from mrcnn_edu.files import write_json
from mrcnn_edu.model import MaskRCNN
from mrcnn_edu.nn.layers import group_norm
from mrcnn_edu.presets import TINY_FPN
from mrcnn_edu.provenance import provenance
from mrcnn_edu.training.batches import load_sample, make_batch
from mrcnn_edu.training.config import TrainConfig
from mrcnn_edu.training.optimizer import make_optimizer, set_rate
from mrcnn_edu.training.order import make_order
from mrcnn_edu.training.run_log import STEP_LOG, read_metrics
from mrcnn_edu.training.train import train

ROOT = Path(__file__).resolve().parent.parent


class Backbone(nn.Module):
    """Our backbone and pyramid, as torchvision wants them."""

    def __init__(self, model: MaskRCNN) -> None:
        super().__init__()
        self.backbone, self.neck = model.backbone, model.neck
        self.out_channels = model.config.fpn_channels

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        pyramid = self.neck(self.backbone(x))
        return OrderedDict(zip(("0", "1", "2", "3", "pool"), pyramid, strict=True))


def torchvision_model(c: ModelConfig) -> TorchvisionMaskRCNN:
    """torchvision's MaskRCNN with the numbers of `c`."""

    def pool(size: int) -> MultiScaleRoIAlign:
        return MultiScaleRoIAlign(
            ["0", "1", "2", "3"], size, c.roi_sampling_ratio, canonical_scale=c.roi_canonical_size
        )

    channels, norm = c.fpn_channels, group_norm if c.head_norm == "group_norm" else None
    return TorchvisionMaskRCNN(
        Backbone(MaskRCNN(c)),
        min_size=c.short_side,
        max_size=c.long_side,
        image_mean=list(c.pixel_mean),
        image_std=list(c.pixel_std),
        rpn_anchor_generator=AnchorGenerator(
            tuple((s,) for s in c.anchor_sizes), (c.anchor_ratios,) * len(c.anchor_sizes)
        ),
        rpn_pre_nms_top_n_train=c.rpn_top_before_nms[0],
        rpn_pre_nms_top_n_test=c.rpn_top_before_nms[1],
        rpn_post_nms_top_n_train=c.rpn_top_after_nms[0],
        rpn_post_nms_top_n_test=c.rpn_top_after_nms[1],
        rpn_batch_size_per_image=c.rpn_samples,
        box_batch_size_per_image=c.box_samples,
        box_roi_pool=pool(c.box_pool),
        box_head=FastRCNNConvFCHead(
            (channels, c.box_pool, c.box_pool),
            [channels] * c.box_convs,
            [c.box_hidden] * c.box_fcs,
            norm_layer=norm,
        ),
        box_predictor=FastRCNNPredictor(c.box_hidden, c.num_classes + 1),
        mask_roi_pool=pool(c.mask_pool),
        mask_head=MaskRCNNHeads(channels, [c.mask_channels] * c.mask_convs, 1, norm_layer=norm),
        mask_predictor=MaskRCNNPredictor(c.mask_channels, c.mask_channels, c.num_classes + 1),
    )


def train_torchvision(
    c: ModelConfig, t: TrainConfig, dataset: ShapesDataset, seconds: float
) -> tuple[TorchvisionMaskRCNN, int]:
    """Train torchvision's model; return its averaged weights and its steps.

    Args:
        c: the model.
        t: the recipe; its number of steps does not count.
        dataset: the images.
        seconds: of processor time.
    """
    torch.manual_seed(t.seed)
    model = torchvision_model(c).train()
    optimizer = make_optimizer(model, t)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(t.average_decay))
    # torchvision resizes inside the model: it gets the images as they are.
    unscaled, plain = (
        dataclasses.replace(c, short_side=0),
        dataclasses.replace(t, short_sides=(), grow=False),
    )
    order = make_order(dataset, t)
    step, start = 0, time.process_time()
    with tqdm(total=round(seconds), desc="torchvision", unit="s") as bar:
        while (elapsed := time.process_time() - start) < seconds:
            bar.update(round(elapsed) - bar.n)
            side = t.short_sides[int(len(t.short_sides) * elapsed / seconds)]
            model.transform.min_size, model.transform.max_size = (side,), side
            rate = t.learning_rate * 0.5 * (1 + math.cos(math.pi * elapsed / seconds))
            set_rate(optimizer, rate * min(1.0, (step + 1) / t.warmup_steps))
            places = order.step(step, t.batch_size)
            batch = make_batch([load_sample(dataset, place, plain, unscaled) for place in places])
            losses = model(batch.images, batch.targets)
            optimizer.zero_grad(set_to_none=True)
            sum(losses.values()).backward()
            nn.utils.clip_grad_norm_(model.parameters(), t.clip_gradient_norm)
            optimizer.step()
            average.update_parameters(model)
            step += 1
    model = average.module.eval()
    model.transform.min_size, model.transform.max_size = (c.short_side,), c.long_side
    return model, step


@torch.no_grad()
def torchvision_results(model: TorchvisionMaskRCNN, dataset: ShapesDataset) -> list[dict[str, Any]]:
    """Detections of torchvision's model, masks pasted by torchvision, in COCO's format."""
    results = []
    for i in range(len(dataset)):
        found = model([to_float(dataset[i][0])])[0]
        for box, label, score, mask in zip(
            found["boxes"].tolist(),
            found["labels"].tolist(),
            found["scores"].tolist(),
            found["masks"][:, 0] > 0.5,
            strict=True,
        ):
            rle = mask_ops.encode(mask)
            results.append(
                {
                    "image_id": dataset.image_ids[i],
                    "category_id": dataset.to_category_id(label),
                    "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
                    "score": score,
                    "segmentation": {"size": rle["size"], "counts": rle["counts"].decode("ascii")},
                }
            )
    return results


def measure_ours(seed: int, runs: Path) -> dict[str, Any]:
    """Train and measure our model; its run folder stays."""
    c, t = TINY_FPN, dataclasses.replace(QUICKSTART_TRAIN, seed=seed)
    configs = {"model": dataclasses.asdict(c), "train": dataclasses.asdict(t)}
    origin = provenance(configs, seed)  # the commit that runs, not a later one
    training_set, validation_set = (ShapesDataset(s) for s in default_sets())
    folder = runs / f"quickstart_seed{seed}"
    if folder.exists():  # a run that goes on is not timed whole
        raise SystemExit(f"{folder} exists; remove it to measure this seed again.")
    write_config(folder / "config.json", c, t)
    start, busy = time.perf_counter(), time.process_time()
    model = train(c, t, training_set, folder)
    seconds, busy = time.perf_counter() - start, time.process_time() - busy
    steps = sorted(m["seconds"] for m in read_metrics(folder / STEP_LOG))
    found = measure(validation_set, coco_results(model, validation_set, batch_size=8), c)
    return {
        **origin,
        "train_processor_seconds": round(busy, 1),
        "train_seconds": round(seconds, 1),
        "ours": {"steps": t.steps, "median_step_seconds": steps[len(steps) // 2], **found},
    }


def measure_torchvision(seed: int, seconds: float) -> dict[str, Any]:
    """Train torchvision's model for so much processor time, and measure it."""
    c, t = TINY_FPN, dataclasses.replace(QUICKSTART_TRAIN, seed=seed)
    origin = provenance({}, seed)
    training_set, validation_set = (ShapesDataset(s) for s in default_sets())
    model, steps = train_torchvision(c, t, training_set, seconds)
    found = measure(validation_set, torchvision_results(model, validation_set), c)
    return {"commit": origin["commit"], "clean": origin["clean"], "steps": steps, **found}


def main() -> None:
    """Run the seeds that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", choices=["ours", "torchvision"])
    parser.add_argument("--out", type=Path, default=ROOT / "results")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs")
    options = parser.parse_args()
    for seed in options.seeds:
        path = options.out / f"quickstart_seed{seed}.json"
        if options.only == "torchvision":
            result = json.loads(path.read_text())
        else:
            result = measure_ours(seed, options.runs)
            write_json(path, result)
        if options.only != "ours":
            seconds = result["train_processor_seconds"]
            result["torchvision"] = measure_torchvision(seed, seconds)
            write_json(path, result)
        for name in ("ours", "torchvision"):
            if name in result:
                title = f"{name}, seed {seed}: {result[name]['steps']} steps"
                Console().print(metrics_table(copy.deepcopy(result[name]), title))


if __name__ == "__main__":
    main()
