"""JPEG files that are decoded where they are used: all of a batch in one call, on a GPU by nvJPEG.

In: the bytes of files. Out: RGB uint8 [3, H, W] on a device. Only files that all decoders read
alike go this way; whatever is unusual or cut off is left to Pillow, as without it. Pixels still
differ from Pillow's by a level or two, since the standard leaves the rounding of the cosine
transform and the enlarging of colours to the decoder: a run decodes in one way from its first step
to its last. Chapter 13.
"""

import io
import warnings
from collections.abc import Sequence

import torch
import torchvision
from PIL import Image
from torch import Tensor

from mrcnn_edu.errors import UserError

_START, _END = b"\xff\xd8\xff", b"\xff\xd9"


def plain_size(content: bytes) -> tuple[int, int] | None:
    """(H, W) of a JPEG file that is whole, and grey or YCbCr; None for every other file.

    Others are CMYK, RGB without a change of colours (Adobe's marker says so), several pictures in
    one file, and files that do not end with the end-of-image marker.
    """
    if not (content.startswith(_START) and content.endswith(_END)):
        return None
    try:
        with Image.open(io.BytesIO(content)) as image:  # reads the header only
            plain = image.format == "JPEG" and image.mode in ("L", "RGB")
            if not plain or image.info.get("adobe_transform", 1) == 0:
                return None
            return image.height, image.width
    except (OSError, SyntaxError):
        return None


def decode(files: Sequence[Tensor], device: str) -> list[Tensor]:
    """Files' bytes, uint8 [bytes] on the CPU, to RGB uint8 [3, H, W] on `device`, in one call.

    The EXIF orientation is not applied. Raises RuntimeError when one of them cannot be decoded.
    """
    from torchvision.io import ImageReadMode, decode_jpeg  # newer versions may come without it

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torchvision 0.29 points to TorchCodec
        images: list[Tensor] = decode_jpeg(list(files), mode=ImageReadMode.RGB, device=device)
    return images


def check_decoder(device: str) -> None:
    """Decode a small picture, so that a missing decoder is known before the first step.

    Raises:
        UserError: this torchvision cannot decode on this device.
    """
    file = io.BytesIO()
    Image.new("RGB", (16, 16), (200, 100, 50)).save(file, "JPEG")
    try:
        decode([torch.frombuffer(bytearray(file.getvalue()), dtype=torch.uint8)], device)
    except (ImportError, RuntimeError) as error:
        raise UserError(
            f"decode_on_gpu: torchvision {torchvision.__version__} cannot decode JPEG files on "
            f"{device} here ({str(error).splitlines()[0]}). Leave --decode-on-gpu out: the "
            "processes that load images decode them."
        ) from error
