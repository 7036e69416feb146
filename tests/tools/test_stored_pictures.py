"""Pictures that notebooks store: small, readable, and the same while they look the same."""

import base64
import io

import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output
from PIL import Image

from tools.stored_pictures import (
    LIMIT,
    PNG,
    keep_what_looks_the_same,
    looks_like,
    picture,
    small,
)


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def chart() -> np.ndarray:
    """A white page with a grey frame and a blue line."""
    page = np.full((300, 400, 3), 255, np.uint8)
    page[[20, -20]] = page[:, [20, -20]] = 128
    rows = 150 + (80 * np.sin(np.arange(360) / 40)).astype(int)
    page[rows, np.arange(20, 380)] = (0, 114, 178)
    return page


def png(pixels: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return base64.b64encode(file.getvalue()).decode()


def stored(pixels: np.ndarray) -> bytes:
    return picture(small({PNG: png(pixels)}))


def opened(file: bytes) -> Image.Image:
    return Image.open(io.BytesIO(file))


def test_a_chart_keeps_its_size_and_its_colours():
    image = opened(stored(chart()))
    assert image.format == "PNG"
    assert image.mode == "P"
    assert np.array_equal(np.asarray(image.convert("RGB")), chart())


@pytest.mark.parametrize("shape", [(300, 300), (1200, 1500)])
def test_the_worst_picture_fits(shape):
    file = stored(noise(*shape))
    assert len(file) <= LIMIT
    assert opened(file).format == "JPEG"
    width, height = opened(file).size
    assert abs(width / height - shape[1] / shape[0]) < 0.02


def test_small_twice_is_small_once():
    for pixels in (chart(), noise(300, 300)):
        once = small({PNG: png(pixels), "text/plain": "F"})
        assert len(once) == 1
        assert small(once) == once
        assert small({kind: data + "\n" for kind, data in once.items()}) == once
    assert small({"text/plain": "7"}) == {}


def test_what_is_transparent_is_white():
    pixels = np.zeros((10, 10, 4), np.uint8)
    pixels[:5, :, 3] = 255
    shown = np.asarray(opened(stored(pixels)).convert("RGB"))
    assert (shown[:5] == 0).all()
    assert (shown[5:] == 255).all()


def test_the_eye_sees_a_moved_line_but_no_shade():
    first = stored(chart())
    shaded = chart()
    shaded[::2] -= np.minimum(shaded[::2], 4)
    assert looks_like(first, stored(shaded))
    moved = chart()
    moved[150:153, 30:60] = (213, 94, 0)
    assert not looks_like(first, stored(moved))
    assert not looks_like(first, stored(chart()[:-1]))
    assert not looks_like(first, stored(np.roll(chart(), 8, axis=1)))


def test_the_stored_picture_stays_where_nothing_is_seen():
    def notebook(pixels: np.ndarray, name: str = "a"):
        data = {**small({PNG: png(pixels)}), "text/plain": "F"}
        outputs = [new_output("display_data", data=data)]
        return new_notebook(cells=[new_code_cell("draw()", outputs=outputs, id=name)])

    def shown(found) -> bytes:
        return picture(found.cells[0].outputs[0].data)

    faint = chart() - np.minimum(chart(), 1)
    for after, wanted in (
        (notebook(faint), chart()),
        (notebook(255 - chart()), 255 - chart()),
        (notebook(faint, "another-cell"), faint),
    ):
        keep_what_looks_the_same(after, notebook(chart()))
        assert shown(after) == stored(wanted)
