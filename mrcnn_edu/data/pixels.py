"""Image files as RGB pixels, or a sentence about why not: the one place that opens them.

Nothing is lost on the way without a word: values that 8 bits cannot show are refused, not made
black. A decoder meets whatever a stranger's file holds and raises whatever it likes; from here it
is always an `OSError` or a `ValueError` that says what to do. Chapter 12.
"""

import os
import stat
import struct
import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

# What Pillow raises for a damaged or hostile file besides OSError and ValueError: SyntaxError for a
# broken PNG, RuntimeError for AVIF and (as NotImplementedError) for BLP, the rest from parsing.
_DAMAGE = (
    SyntaxError,
    RuntimeError,
    EOFError,
    struct.error,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    OverflowError,
    AssertionError,
)
_UPPER_BITS = 16  # 8-bit levels below it are what 12 bits of 16 leave


def read_rgb(
    path: str | os.PathLike[str] | BinaryIO, upright: bool = False, refuse_dark: bool = False
) -> NDArray[np.uint8]:
    """An image file of any mode as RGB uint8 [H, W, 3].

    Grey is repeated, a palette looked up, CMYK converted, an alpha channel dropped, 16 bits cut to
    their upper 8.

    Args:
        path: the file.
        upright: apply the EXIF orientation of a camera, as viewers do.
        refuse_dark: a file of 16 bits that uses so few of them that it would be read as black is
            refused; else it is read, with a warning.

    Raises:
        OSError: the file cannot be decoded.
        ValueError: it holds floats, more than 16 bits, or more pixels than Pillow reads.
    """
    if isinstance(path, str | os.PathLike):
        check_regular(path)
    try:
        with Image.open(path) as image:
            deep = _has_16_bits(image)
            shown = ImageOps.exif_transpose(image) if upright else image
            pixels, brightest = _rgb(shown, deep, path)
    except Image.DecompressionBombError as error:
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise ValueError(
            f"{path} has more than {most:,} pixels, the most that Pillow reads ({error}); cut it "
            "into tiles, or save it smaller"
        ) from error
    except _DAMAGE as error:
        raise OSError(f"{path} cannot be decoded ({type(error).__name__}: {error})") from error
    if 0 < brightest < _UPPER_BITS << 8:
        _tell_dark(path, brightest, refuse_dark)
    return pixels


def _rgb(image: Image.Image, deep: bool, path: object) -> tuple[NDArray[np.uint8], int]:
    """Its pixels [H, W, 3], and of a file of 16 bits (`deep`, or grey) the brightest, else 0."""
    if image.mode == "F":
        raise ValueError(f"{path} holds floats, whose range nobody knows; save 8 or 16 bits")
    if image.mode.startswith("I"):  # more than 8 bits of grey; Pillow itself would clip at 255
        values = np.asarray(image).astype(np.int64)  # [H, W]
        if values.size and not 0 <= values.min() <= values.max() <= 65535:
            raise ValueError(
                f"{path} holds values from {values.min()} to {values.max()}, and it must be known "
                "which of them is white: save 8 bits, or 16"
            )
        grey = (values >> 8).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2), int(values.max(initial=0))
    pixels = np.array(image.convert("RGB"))  # [H, W, 3]
    # Of colours Pillow has cut 16 bits to their upper 8 already.
    return pixels, 256 * int(pixels.max(initial=0)) if deep else 0


def _has_16_bits(image: Image.Image) -> bool:
    """Whether a colour file stores 16 bits a channel, of which Pillow keeps the upper 8."""
    tiles = getattr(image, "tile", [])
    return any(";16" in str(tile[3]) for tile in tiles)


def _tell_dark(path: object, brightest: int, refuse: bool) -> None:
    message = (
        f"{path} has 16 bits, and its brightest value is {brightest} of 65535: it would be read as "
        "black. Does a camera of 12 bits or fewer write it? Multiply all your images by the same "
        "factor, or save 8 bits"
    )
    if refuse:
        raise ValueError(message)
    warnings.warn(message, stacklevel=3)


def check_regular(path: str | os.PathLike[str]) -> None:
    """Refuse what is no file: a folder, a pipe that would be waited for, a device.

    Raises:
        OSError: it is one of these, or it is not there.
    """
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(f"{path} is a folder")
    if not stat.S_ISREG(mode):
        raise OSError(f"{path} is not a regular file")


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """The content of a regular file. Raises OSError as `check_regular` does."""
    check_regular(path)
    return Path(path).read_bytes()
