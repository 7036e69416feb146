"""The constructor as a drawing: a model's parts appear and are counted as it is configured.

Chapter 10.
"""

from typing import Any

import traitlets
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from mrcnn_edu.nn.resnet import PLANS
from mrcnn_edu.pictures.show import BLUE, GREEN, ORANGE, PINK, RED, SKY
from mrcnn_edu.widgets.common import Widget, bundle

BACKBONES = {
    "resnet50": "ResNet-50",
    "resnet101": "ResNet-101",
    "resnext101_32x8d": "ResNeXt-101 32×8d",
}
PARTS = ("backbone", "pyramid", "RPN", "box head", "mask head", "keypoint head")
PAINTS = dict(zip(PARTS, (BLUE, SKY, GREEN, ORANGE, RED, PINK), strict=True))


class Constructor(Widget):
    """What the configuration builds, with parameters and multiply-adds, at an image size.

    The numbers are those of one image of a short side and 4/3 of it, both rounded up to multiples
    of 32; 100 detections reach the mask and keypoint heads.
    """

    _esm = bundle("constructor")
    backbone = traitlets.Enum(list(BACKBONES), default_value="resnet50").tag(sync=True)
    neck = traitlets.Enum(["fpn", "c4"], default_value="fpn").tag(sync=True)
    masks = traitlets.Bool(True).tag(sync=True)
    keypoints = traitlets.Bool(False).tag(sync=True)
    classes = traitlets.Int(80).tag(sync=True)  # K
    side = traitlets.Int(800).tag(sync=True)  # the short side, pixels
    proposals = traitlets.Int(1000).tag(sync=True)  # RoIs that the box head sees
    plans = traitlets.Dict().tag(sync=True)  # by backbone: depths, channels, widths, groups

    def __init__(self, **traits: Any) -> None:
        plans = {
            name: {
                "name": title,
                "depths": list(PLANS[name].depths),
                "channels": list(PLANS[name].channels),
                "widths": list(PLANS[name].widths or ()),
                "groups": PLANS[name].groups,
            }
            for name, title in BACKBONES.items()
        }
        super().__init__(plans=plans, **traits)

    def config(self) -> Any:
        """The configuration that is drawn, a `ModelConfig`."""
        import dataclasses

        from mrcnn_edu.presets import preset

        chosen: dict[str, Any] = {
            "backbone": self.backbone,
            "num_classes": self.classes,
            "mask_head": "fcn" if self.masks else "none",
            "keypoints": 17 if self.keypoints and self.neck == "fpn" else 0,
            "rpn_top_after_nms": (2000, self.proposals),
        }
        return dataclasses.replace(preset("r50_fpn" if self.neck == "fpn" else "r50_c4"), **chosen)

    def image_size(self) -> tuple[int, int]:
        """(height, width) of the image that is counted."""
        return _up(self.side), _up(self.side * 4 / 3)

    def counts(self) -> dict[str, Any]:
        """Parameters and billions of multiply-adds, counted on the real modules."""
        from mrcnn_edu.evaluation.cost import count

        return count(self.config(), self.image_size())

    def figure(self) -> Figure:
        """The parts as boxes, left to right, with their multiply-adds."""
        found = self.counts()
        figure = Figure(figsize=(7.6, 2.1), layout="constrained")
        axis = figure.subplots()
        names = list(found["gmac"])
        for i, name in enumerate(names):
            axis.add_patch(
                FancyBboxPatch(
                    (1.25 * i, 0),
                    1,
                    1,
                    boxstyle="round,pad=0.02,rounding_size=0.08",
                    facecolor=PAINTS[name],
                    alpha=0.25,
                    edgecolor=PAINTS[name],
                )
            )
            title = BACKBONES[self.backbone] if name == "backbone" else name
            axis.text(1.25 * i + 0.5, 0.66, title.replace(" ", "\n", 1), ha="center", va="center")
            axis.text(1.25 * i + 0.5, 0.2, f"{found['gmac'][name]:.0f} G", ha="center", va="center")
            if i:
                arrow = {"arrowstyle": "->", "color": "0.4"}
                axis.annotate("", (1.25 * i, 0.5), (1.25 * i - 0.22, 0.5), arrowprops=arrow)
        axis.set(xlim=(-0.1, 1.25 * len(names) - 0.15), ylim=(-0.1, 1.15))
        axis.set_title(
            f"{found['parameters'] / 1e6:.1f} million parameters, {found['gmac_total']:.0f} "
            f"billion multiply-adds for {self.image_size()[0]} × {self.image_size()[1]} pixels",
            fontsize=9,
        )
        axis.set_axis_off()
        return figure


def _up(pixels: float) -> int:
    """The next multiple of 32."""
    return int(-(-pixels // 32) * 32)
