"""JPEG files decoded in a batch: near Pillow's pixels, and only those that every decoder reads."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from mrcnn_edu.data import jpeg
from mrcnn_edu.data.coco import CocoDataset
from mrcnn_edu.data.subset import Subset
from mrcnn_edu.errors import UserError

# libjpeg-turbo decodes for Pillow and, on a CPU, for torchvision; their builds may round otherwise.
LEVELS = 2


def picture(seed: int = 0, height: int = 37, width: int = 50) -> Image.Image:
    """Smooth colours, as a photograph has."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def file_of(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def as_tensor(content: bytes) -> Tensor:
    return torch.frombuffer(bytearray(content), dtype=torch.uint8)


@pytest.mark.parametrize(
    "options", [{}, {"quality": 30}, {"progressive": True}, {"subsampling": 0}]
)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_pixels_are_near_pillows(options: dict, mode: str) -> None:
    files = [file_of(picture(seed).convert(mode), **options) for seed in (0, 1)]
    images = jpeg.decode([as_tensor(f) for f in files], "cpu")
    for content, image in zip(files, images, strict=True):
        assert jpeg.plain_size(content) == (37, 50) == tuple(image.shape[1:])
        theirs = np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)
        assert np.abs(image.permute(1, 2, 0).numpy() - theirs).max() <= LEVELS


def test_unusual_files_are_left_to_pillow() -> None:
    whole = file_of(picture())
    assert jpeg.plain_size(whole) is not None
    for content in (
        b"",
        file_of(picture(), "PNG"),
        file_of(picture().convert("CMYK")),
        file_of(picture(), keep_rgb=True),
        whole[: len(whole) // 2],
        whole + b"more",
        whole[:3] + whole[-2:],
    ):
        assert jpeg.plain_size(content) is None


def test_a_damaged_file_is_an_error() -> None:
    with pytest.raises(RuntimeError):
        jpeg.decode([as_tensor(file_of(picture())), as_tensor(b"\xff\xd8\xff\xd9")], "cpu")


def test_a_missing_decoder_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    jpeg.check_decoder("cpu")

    def missing(files: list[Tensor], device: str) -> list[Tensor]:
        raise RuntimeError("not compiled with nvJPEG\nframe #0 ...")

    monkeypatch.setattr(jpeg, "decode", missing)
    with pytest.raises(
        UserError, match=r"decode_on_gpu.*on cuda here \(not compiled with nvJPEG\)"
    ):
        jpeg.check_decoder("cuda")


def dataset(folder: Path, size: tuple[int, int]) -> CocoDataset:
    """A JPEG, a PNG and a JPEG that was cut off, all of one size as the JSON says."""
    (folder / "a.jpg").write_bytes(file_of(picture()))
    picture().save(folder / "b.png")
    (folder / "c.jpg").write_bytes(file_of(picture())[:-40])
    truth = {
        "images": [
            {"id": i, "file_name": name, "height": size[0], "width": size[1]}
            for i, name in enumerate(("a.jpg", "b.png", "c.jpg"), start=1)
        ],
        "annotations": [],
        "categories": [{"id": 1, "name": "thing"}],
    }
    (folder / "truth.json").write_text(json.dumps(truth))
    return CocoDataset(folder, folder / "truth.json")


def test_a_data_set_hands_out_whole_jpeg_files(tmp_path: Path) -> None:
    data = dataset(tmp_path, (37, 50))
    content = data.encoded(0)
    assert content is not None
    assert bytes(content.numpy()) == (tmp_path / "a.jpg").read_bytes()
    assert data.encoded(1) is None
    assert data.encoded(2) is None
    part = Subset(data, [1, 0])
    found = [part.encoded(i) is not None for i in range(2)]
    assert found == [image_id == 1 for image_id in part.image_ids]
    (tmp_path / "a.jpg").unlink()
    assert data.encoded(0) is None


def test_a_file_of_another_size_is_the_same_error_either_way(tmp_path: Path) -> None:
    data = dataset(tmp_path, (50, 37))
    messages = []
    for read in (data.load_image, data.encoded):
        with pytest.raises(ValueError, match=r"a\.jpg .* is 50×37, .* says 37×50") as caught:
            read(0)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
