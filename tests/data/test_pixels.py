"""Pixels come as a viewer shows them, or a sentence says why they do not."""

import json
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mrcnn_edu.data import pixels
from mrcnn_edu.data.coco import CocoDataset
from mrcnn_edu.data.pixels import read_rgb
from tests.data.test_coco_types import truth, write


def ramp(most: int) -> np.ndarray:
    """Grey [8, 10] from 0 to `most`."""
    return np.linspace(0, most, 80).round().reshape(8, 10)


@pytest.mark.parametrize("most", [65535, 40000, 4096, 0])
def test_16_bits_keep_their_upper_8(tmp_path: Path, most: int) -> None:
    Image.fromarray(ramp(most).astype(np.uint16)).save(tmp_path / "a.png")
    assert (read_rgb(tmp_path / "a.png")[..., 0] == ramp(most).astype(np.int64) >> 8).all()


@pytest.mark.parametrize("most", [1, 255, 1023, 4095])
def test_10_and_12_bits_in_a_file_of_16_are_not_read_as_black(tmp_path: Path, most: int) -> None:
    for name in ("a.png", "a.tif"):
        Image.fromarray(ramp(most).astype(np.uint16)).save(tmp_path / name)
        with pytest.raises(ValueError, match=rf"brightest value is {most} of 65535.*black"):
            read_rgb(tmp_path / name, refuse_dark=True)
        with pytest.warns(UserWarning, match="black"):
            assert read_rgb(tmp_path / name).max() == most >> 8


def colours_of_16_bits(path: Path, value: int) -> None:
    """A PNG of 2 × 2 pixels with 16 bits a channel, which Pillow does not write."""

    def chunk(name: bytes, content: bytes) -> bytes:
        checked = name + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    rows = (b"\0" + struct.pack(">H", value) * 6) * 2
    header = struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)


def test_12_bits_in_colour_are_not_read_as_black(tmp_path: Path) -> None:
    colours_of_16_bits(tmp_path / "a.png", 40000)
    assert (read_rgb(tmp_path / "a.png") == 40000 >> 8).all()
    colours_of_16_bits(tmp_path / "a.png", 4000)
    with pytest.raises(ValueError, match="read as black"):
        read_rgb(tmp_path / "a.png", refuse_dark=True)


@pytest.mark.parametrize("values", [ramp(10**6), ramp(100) - 50])
def test_32_bits_are_refused_where_nobody_knows_what_is_white(
    tmp_path: Path, values: np.ndarray
) -> None:
    Image.fromarray(values.astype(np.int32)).save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match=r"values from .* which of them is white"):
        read_rgb(tmp_path / "a.tif")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_of_a_camera_is_applied_where_it_is_asked_for(
    tmp_path: Path, orientation: int
) -> None:
    scene = np.zeros((48, 64, 3), np.uint8)
    scene[:24, :32] = 200  # bright at the upper left, as stored
    exif = Image.Exif()
    exif[0x112] = orientation
    Image.fromarray(scene).save(tmp_path / "a.png", exif=exif)
    assert (read_rgb(tmp_path / "a.png") == scene).all()
    expected = {  # EXIF 2.3, tag 274
        1: scene, 2: scene[:, ::-1], 3: scene[::-1, ::-1], 4: scene[::-1],
        5: scene.swapaxes(0, 1), 6: np.rot90(scene, -1),
        7: scene[::-1, ::-1].swapaxes(0, 1), 8: np.rot90(scene),
    }  # fmt: skip
    assert (read_rgb(tmp_path / "a.png", upright=True) == expected[orientation]).all()


def test_a_data_set_says_which_picture_is_black(tmp_path: Path) -> None:
    content = truth(1)
    write(tmp_path, content)
    Image.fromarray(np.full((64, 64), 3200, np.uint16)).save(tmp_path / "im1.png")
    dataset = CocoDataset(tmp_path, tmp_path / "g.json")
    with pytest.raises(ValueError, match=r"im1\.png has 16 bits, and its brightest value is 3200"):
        dataset[0]


def test_too_many_pixels_are_told(tmp_path: Path) -> None:
    Image.new("1", (14000, 13000)).save(tmp_path / "b.png")
    with pytest.raises(ValueError, match=r"b\.png has more than 178,956,970 pixels.*tiles"):
        read_rgb(tmp_path / "b.png")


@pytest.mark.parametrize("error", [RuntimeError, NotImplementedError, SyntaxError, KeyError])
def test_whatever_a_decoder_raises_is_an_error_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def broken(*_: object) -> None:
        raise error("Failed to decode frame 0")

    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    monkeypatch.setattr(pixels.Image, "open", broken)
    with pytest.raises(OSError, match=r"a\.png cannot be decoded .*frame 0"):
        read_rgb(tmp_path / "a.png")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "im1.png")
    with pytest.raises(OSError, match="not a regular file"):
        read_rgb(tmp_path / "im1.png")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        read_rgb(tmp_path)
    content = truth(1)
    (tmp_path / "im1.png").unlink()
    write(tmp_path, content)
    (tmp_path / "im1.png").unlink()
    os.mkfifo(tmp_path / "im1.png")
    dataset = CocoDataset(tmp_path, tmp_path / "g.json")
    with pytest.raises(ValueError, match=r"im1\.png.*not a regular file"):
        dataset[0]
    assert dataset.encoded(0) is None


def test_names_with_folders_that_are_not_there_are_explained(tmp_path: Path) -> None:
    content = truth(1)
    write(tmp_path, content)
    for prefix in ("images\\", "images/", "C:\\data\\"):
        changed = truth(1)
        changed["images"][0]["file_name"] = f"{prefix}im1.png"
        (tmp_path / "g.json").write_text(json.dumps(changed))
        with pytest.raises(FileNotFoundError, match=r"im1\.png itself is there"):
            CocoDataset(tmp_path, tmp_path / "g.json")
