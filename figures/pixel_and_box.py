"""Chapter 01: pixels are squares on a ruler, and a box covers whole ones if its corners are whole.

The photograph is scikit-image's `chelsea`; nothing is invented but the box.
"""

import skimage.data
from matplotlib.figure import Figure
from matplotlib.patches import ConnectionPatch, Rectangle

from mrcnn_edu.pictures.show import ORANGE, RED, SKY, show_boxes, show_image

TOP, LEFT, ROWS, COLUMNS = 101, 163, 6, 8


def draw() -> Figure:
    """The photograph, and eight by six of its pixels on a ruler."""
    import matplotlib.pyplot as plt

    photo = skimage.data.chelsea()  # [H, W, 3]
    figure, (whole, near) = plt.subplots(1, 2, figsize=(7, 3.1), width_ratios=(1, 1.25))
    height, width = photo.shape[:2]
    # A third of the pixels is enough for the small picture.
    title = f"{width} columns, {height} rows"
    show_image(whole, photo[::3, ::3], title, extent=(0, width, height, 0))
    frame = (LEFT, TOP, LEFT + COLUMNS, TOP + ROWS)
    show_boxes(whole, [frame], SKY, linewidth=1.5)

    show_image(near, photo[TOP : TOP + ROWS, LEFT : LEFT + COLUMNS])
    near.set(xticks=range(COLUMNS + 1), yticks=range(ROWS + 1))
    near.grid(True, color="white", linewidth=0.6)
    near.set_axisbelow(False)
    near.set(xlabel="x: a place", ylabel="y: a place")
    near.set_title("8 columns, 6 rows: pixels on a ruler")
    show_boxes(near, [[2, 1, 6, 4]], RED, linewidth=2.5)
    label = {"facecolor": "white", "edgecolor": "none", "pad": 1.5, "alpha": 0.9}
    near.text(2.1, 0.55, "box (2, 1, 6, 4)", color=RED, bbox=label, fontsize=8, va="center")
    near.add_patch(Rectangle((3, 2), 1, 1, fill=False, edgecolor=ORANGE, linewidth=2.5))
    near.plot(3.5, 2.5, "o", color=ORANGE, markersize=5, markeredgecolor="white")
    text = "pixel (row 2, column 3)\ncovers x 3…4, y 2…3\ncentre (3.5, 2.5)"
    near.annotate(
        text,
        (3.5, 2.5),
        (4.25, 5.0),
        fontsize=8,
        bbox=label,
        va="center",
        arrowprops={"arrowstyle": "-", "color": ORANGE, "linewidth": 1.5},
    )
    for corner, target in (((frame[2], frame[1]), (0, 0)), ((frame[2], frame[3]), (0, ROWS))):
        figure.add_artist(
            ConnectionPatch(
                corner, target, "data", "data", axesA=whole, axesB=near, color=SKY, linewidth=0.8
            )
        )
    return figure
