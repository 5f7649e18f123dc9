"""Files that are cut off, empty, bombs or no images."""

import contextlib
import struct
import zlib

import numpy as np
import pytest
from PIL import Image as Pillow

from img2img.imaging import decoding
from img2img.imaging.files import (
    SUFFIXES,
    UnreadableImage,
    read_image,
)
from tests.imaging.samples import RNG, noise, smooth


def unreadable(path):
    with pytest.raises(UnreadableImage) as caught:
        read_image(path)
    message = str(caught.value)
    assert message.startswith(f"cannot read {path}: ")
    assert "\n" not in message
    assert len(message) > len(f"cannot read {path}: ")
    return message


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".bmp", ".avif", ".ppm"])
@pytest.mark.parametrize("part", [0.02, 0.5, 0.9])
def test_truncated_files(tmp_path, suffix, part):
    path = tmp_path / f"a{suffix}"
    Pillow.fromarray(noise(64, 64, 3)).save(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    unreadable(path)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".bmp", ".avif", ".ppm"])
def test_damage_anywhere_raises_nothing_else(tmp_path, suffix, monkeypatch):
    monkeypatch.setattr(decoding, "MAX_PIXELS", 1_000_000)  # damaged sizes would only take time
    path = tmp_path / f"a{suffix}"
    Pillow.fromarray(smooth(16, 16)).save(path)
    intact = path.read_bytes()
    for _ in range(100):
        data = bytearray(intact)
        for place in RNG.integers(2, min(len(data), 200), 3):
            data[place] = RNG.integers(256)
        path.write_bytes(data)
        with contextlib.suppress(UnreadableImage):  # some damage cannot be seen
            assert read_image(path).pixels.dtype in (np.uint8, np.uint16, np.float32)


def test_damaged_png_data(tmp_path):
    path = tmp_path / "a.png"
    Pillow.fromarray(noise(64, 64, 3)).save(path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    unreadable(path)


@pytest.mark.parametrize("suffix", sorted(SUFFIXES))
def test_no_images(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"")
    assert "empty" in unreadable(path)
    path.write_text("Dear reader, this is no picture.")
    assert "not a JPEG" in unreadable(path)
    path.write_text('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>')
    assert "not a JPEG" in unreadable(path)
    for head in (
        b"BM",
        b"P6\n",
        b"....ftypavif",
        b"....ftypheic",
        b"\xff\xd8\xff",
        b"\x89PNG\r\n\x1a\n",
        b"RIFF\0\0\0\0WEBP",
        b"II*\0",
        b"MM\0*",
    ):
        path.write_bytes(head + bytes(40))
        unreadable(path)


def test_missing_file_and_folder(tmp_path):
    assert "No such file" in unreadable(tmp_path / "nothing.png")
    (tmp_path / "folder.png").mkdir()
    unreadable(tmp_path / "folder.png")


def test_bombs_are_refused_before_decoding(tmp_path):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    (tmp_path / "a.png").write_bytes(start + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b""))
    assert "limit" in unreadable(tmp_path / "a.png")
    Pillow.fromarray(smooth()).save(tmp_path / "a.bmp")
    data = bytearray((tmp_path / "a.bmp").read_bytes())
    data[18:26] = struct.pack("<ii", 60000, 60000)
    (tmp_path / "a.bmp").write_bytes(data)
    assert "limit" in unreadable(tmp_path / "a.bmp")


def test_limit_itself_is_allowed(tmp_path, monkeypatch):
    Pillow.fromarray(smooth(4, 5)).save(tmp_path / "a.png")
    monkeypatch.setattr(decoding, "MAX_PIXELS", 20)
    assert read_image(tmp_path / "a.png").pixels.shape == (4, 5, 3)
    monkeypatch.setattr(decoding, "MAX_PIXELS", 19)
    unreadable(tmp_path / "a.png")
