"""Pictures in committed notebooks: small, and written again only when they look different.

A reader of the repository's page sees a chapter without running it, so the pictures of figures and
widgets are stored in it, at most `LIMIT` bytes each: charts as PNG with a palette, what holds a
photograph as JPEG. A run of today rarely gives the same bytes as one of last month; where the eye
sees no difference, the stored picture stays.
"""

import base64
import io

import numpy as np
from nbformat import NotebookNode
from PIL import Image

LIMIT = 60_000  # bytes of a picture
BLOCK = 8  # pixels: the side of a block whose mean the eye compares
VISIBLE = 10  # of 255: by how much the mean of a block may differ unseen
PNG, JPEG = "image/png", "image/jpeg"


def small(data: dict[str, str]) -> dict[str, str]:
    """The picture of an output, {its type: base64}, at most `LIMIT` bytes; {} if it has none.

    What was made small before comes back as it is.

    Args:
        data: an output's data.
    """
    if JPEG in data and len(base64.b64decode(data[JPEG])) <= LIMIT:
        return {JPEG: data[JPEG].strip()}
    kind = PNG if PNG in data else JPEG
    if kind not in data:
        return {}
    image = Image.open(io.BytesIO(base64.b64decode(data[kind])))
    if image.mode == "P" and len(base64.b64decode(data[kind])) <= LIMIT:
        return {PNG: data[kind].strip()}
    whole = Image.new("RGB", image.size, "white")
    whole.paste(image, mask=image.convert("RGBA").getchannel("A"))
    palette = whole.quantize(256, dither=Image.Dither.NONE)
    png = _bytes(palette, "PNG", optimize=True)
    if len(png) <= LIMIT and _difference(whole, palette) <= VISIBLE:
        return {PNG: base64.b64encode(png).decode()}
    for scale in (1.0, 0.85, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1):
        size = round(whole.width * scale), round(whole.height * scale)
        scaled = whole if scale == 1 else whole.resize(size, Image.Resampling.LANCZOS)
        for quality in (88, 80, 72):
            jpeg = _bytes(scaled, "JPEG", quality=quality, subsampling=0)
            if len(jpeg) <= LIMIT:
                return {JPEG: base64.b64encode(jpeg).decode()}
    raise ValueError(f"a picture of {whole.size} does not fit into {LIMIT} bytes")


def picture(data: dict[str, str]) -> bytes | None:
    """The stored picture of an output's data, if it has one."""
    kind = JPEG if JPEG in data else PNG
    return base64.b64decode(data[kind]) if kind in data else None


def looks_like(one: bytes, other: bytes) -> bool:
    """Whether two pictures differ nowhere so that the eye sees it."""
    if one == other:
        return True
    a, b = (Image.open(io.BytesIO(file)) for file in (one, other))
    return a.size == b.size and _difference(a, b) <= VISIBLE


def keep_what_looks_the_same(notebook: NotebookNode, before: NotebookNode) -> None:
    """Put pictures of `before` back where the cell is the same and the picture looks like it."""
    stored = {cell.id: _with_picture(cell) for cell in before.cells}
    for cell in notebook.cells:
        for new, old in zip(_with_picture(cell), stored.get(cell.id, []), strict=False):
            a, b = picture(new), picture(old)
            if a and b and looks_like(a, b):
                for kind in (PNG, JPEG):
                    new.pop(kind, None)
                    if kind in old:
                        new[kind] = old[kind]


def _with_picture(cell: NotebookNode) -> list[NotebookNode]:
    data = [output.get("data", {}) for output in cell.get("outputs", [])]
    return [d for d in data if PNG in d or JPEG in d]


def _bytes(image: Image.Image, kind: str, **options: int) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _difference(a: Image.Image, b: Image.Image) -> float:
    """The largest difference of the means of blocks, of 255."""
    one, other = (_blocks(np.asarray(image.convert("RGB"), np.float32)) for image in (a, b))
    return float(np.abs(one - other).max())


def _blocks(pixels: np.ndarray) -> np.ndarray:
    """Means of blocks, the last ones filled up: [⌈H/8⌉, ⌈W/8⌉, 3]."""
    height, width, _ = pixels.shape
    edge = (-height % BLOCK, -width % BLOCK)
    padded = np.pad(pixels, ((0, edge[0]), (0, edge[1]), (0, 0)), mode="edge")
    rows, columns = (s // BLOCK for s in padded.shape[:2])
    return padded.reshape(rows, BLOCK, columns, BLOCK, 3).mean(axis=(1, 3))
