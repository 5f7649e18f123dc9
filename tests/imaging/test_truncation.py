"""Truncated files, recognised without decoding: exactly those that a decoder would refuse too."""

from __future__ import annotations

import io

import pytest
import pyvips
from PIL import Image

from img2img.imaging.files import UnreadableImage, read_image
from img2img.imaging.reading import read_header
from img2img.imaging.truncation import is_truncated

SAVED = {
    "a.jpg": {"quality": 95},
    "progressive.jpg": {"progressive": True},
    "a.png": {},
    "a.webp": {},
    "a.avif": {},
    "a.bmp": {},
    "a.ppm": {},
    "first.tif": {},  # the directory comes before the pixels
    "last.tif": {"compression": "tiff_lzw"},
}


def seems_truncated(path) -> bool:
    """Whether a dry run would say so."""
    try:
        return is_truncated(path, read_header(path).format)
    except UnreadableImage:
        return True


@pytest.mark.parametrize("name", SAVED)
def test_cut_anywhere(tmp_path, photo, name):
    path = tmp_path / name
    Image.fromarray(photo[:90, :101]).save(path, **SAVED[name])
    whole = path.read_bytes()
    assert not seems_truncated(path)
    path.write_bytes(whole + b"\0notes of a phone")
    assert not seems_truncated(path)
    for length in (len(whole) // 3, len(whole) * 9 // 10, len(whole) - 60):
        path.write_bytes(whole[:length])
        assert seems_truncated(path)
        with pytest.raises(UnreadableImage):
            read_image(path)


def test_the_end_of_a_thumbnail_is_not_the_end_of_a_photograph(tmp_path, photo):
    small = io.BytesIO()
    Image.fromarray(photo[::8, ::8]).save(small, "JPEG")
    path = tmp_path / "a.jpg"
    Image.fromarray(photo).save(path, comment=small.getvalue())
    whole = path.read_bytes()
    assert whole.count(b"\xff\xd9") == 2
    assert not seems_truncated(path)
    path.write_bytes(whole[:-100])
    assert seems_truncated(path)


@pytest.mark.parametrize("tile", [False, True])
def test_tiles_of_a_tiff(tmp_path, photo, tile):
    path = tmp_path / "a.tif"
    pyvips.Image.new_from_array(photo).tiffsave(str(path), tile=tile, bigtiff=True)
    assert not is_truncated(path, "tiff")
