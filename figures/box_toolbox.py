"""Chapter 01, the take-away: a box resized and flipped, compared, moved by deltas, chosen by NMS.

Every number printed in the figure is computed by the library.
"""

import skimage.data
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mrcnn_edu import boxes as box_ops
from mrcnn_edu.pictures.show import BLUE, ORANGE, RED, SKY, show_boxes, show_image

EYE = torch.tensor([[135.0, 85, 209, 149]])  # the left eye in scikit-image's chelsea
ANCHOR = torch.tensor([[110.0, 60, 190, 140]])


def draw() -> Figure:
    """Four panels."""
    import matplotlib.pyplot as plt

    photo = torch.from_numpy(skimage.data.chelsea().copy()).permute(2, 0, 1)  # [3, H, W]
    figure, axes = plt.subplots(2, 2, figsize=(7, 5.4))
    flip(axes[0, 0], photo)
    compare(axes[0, 1], photo)
    move(axes[1, 0], photo)
    suppress(axes[1, 1], photo)
    return figure


def flip(axis: Axes, photo: torch.Tensor) -> None:
    """The box follows its pixels through a mirror."""
    height, width = photo.shape[1:]
    small = photo.flip(-1)[:, ::3, ::3]  # a third of the pixels is enough for a small picture
    show_image(axis, small, f"flip: x goes to {width} − x", extent=(0, width, height, 0))
    mirrored = box_ops.hflip(EYE, width)
    show_boxes(axis, mirrored, ORANGE, linewidth=2)
    x1, y1, x2, y2 = mirrored[0].tolist()
    label(axis, (x1 + x2) / 2, y2 + 22, f"({x1:g}, {y1:g}, {x2:g}, {y2:g})")


def compare(axis: Axes, photo: torch.Tensor) -> None:
    """The shared area of two boxes."""
    zoom(axis, photo, f"compare: IoU {box_ops.iou(EYE, ANCHOR).item():.2f}")
    x1, y1 = torch.maximum(EYE[0, :2], ANCHOR[0, :2]).tolist()
    x2, y2 = torch.minimum(EYE[0, 2:], ANCHOR[0, 2:]).tolist()
    axis.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, color=SKY, alpha=0.55))
    show_boxes(axis, torch.cat((ANCHOR, EYE)), [BLUE, ORANGE], linewidth=2)


def move(axis: Axes, photo: torch.Tensor) -> None:
    """From an anchor to the object by four numbers."""
    dx, dy, dw, dh = box_ops.encode(EYE, ANCHOR)[0].tolist()
    zoom(axis, photo, "move: four deltas from anchor to object")
    show_boxes(axis, ANCHOR, BLUE, linewidth=2, linestyle="--")
    show_boxes(axis, EYE, ORANGE, linewidth=2)
    start, end = ((b[0, :2] + b[0, 2:]) / 2 for b in (ANCHOR, EYE))
    axis.annotate(
        "",
        end.tolist(),
        start.tolist(),
        arrowprops={"arrowstyle": "->", "color": "white", "linewidth": 2},
    )
    text = f"dx {dx:.2f}  dy {dy:.2f}  dw {dw:.2f}  dh {dh:.2f}".replace("-", "−")
    label(axis, 175, 172, text)


def suppress(axis: Axes, photo: torch.Tensor) -> None:
    """Forty candidates, one survivor."""
    generator = torch.Generator().manual_seed(3)
    deltas = 0.12 * torch.randn(40, 4, generator=generator).clamp(-2, 2)
    crowd = box_ops.decode(deltas, EYE)  # [40, 4]
    kept = box_ops.nms(crowd, box_ops.iou(crowd, EYE)[:, 0], 0.3)
    zoom(axis, photo, f"choose: NMS keeps {len(kept)} of {len(crowd)}")
    show_boxes(axis, crowd, SKY, linewidth=0.6)
    show_boxes(axis, crowd[kept], RED, linewidth=2.5)


def zoom(axis: Axes, photo: torch.Tensor, title: str) -> None:
    """The part of the photograph around the eye."""
    x1, y1, x2, y2 = 70, 45, 280, 185
    show_image(axis, photo[:, y1:y2:2, x1:x2:2], title, extent=(x1, x2, y2, y1))


def label(axis: Axes, x: float, y: float, text: str) -> None:
    """Text that can be read on a photograph."""
    box = {"facecolor": "white", "edgecolor": "none", "pad": 2, "alpha": 0.9}
    axis.text(x, y, text, ha="center", va="center", fontsize=8, bbox=box)
