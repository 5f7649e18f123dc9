"""What a file says beside its pixels: orientation, EXIF, ICC, XMP, IPTC, resolution."""

import io
import struct

import numpy as np
import pytest
import pyvips
from PIL import Image as Pillow
from PIL import ImageOps

from img2img.imaging.files import (
    Image,
    read_image,
    to_channels,
    write_image,
)
from tests.imaging.samples import SRGB, XMP, error, smooth


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".avif"])
def test_orientation_is_applied_once(tmp_path, suffix, orientation):
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    options = {".webp": {"lossless": True}, ".avif": {"quality": 100}}.get(suffix, {})
    Pillow.fromarray(smooth()).save(tmp_path / f"in{suffix}", exif=exif, **options)
    with Pillow.open(tmp_path / f"in{suffix}") as file:
        expected = np.array(ImageOps.exif_transpose(file))
    image = read_image(tmp_path / f"in{suffix}")
    assert error(image.pixels, expected) < {".jpg": 0.5, ".avif": 1}.get(suffix, 1e-9)
    write_image(tmp_path / f"out{suffix}", image)
    with Pillow.open(tmp_path / f"out{suffix}") as file:
        assert file.getexif().get(0x0112, 1) == 1
        assert error(np.array(ImageOps.exif_transpose(file)), expected) < 1.5


def test_resolution_turns_with_the_pixels(tmp_path):
    exif = Pillow.Exif()
    exif[0x0112] = 6
    Pillow.fromarray(smooth()).save(tmp_path / "in.png", exif=exif, dpi=(300, 150))
    write_image(tmp_path / "out.png", read_image(tmp_path / "in.png"))
    with Pillow.open(tmp_path / "out.png") as file:
        assert file.info["dpi"] == pytest.approx((150, 300), abs=0.1)


@pytest.fixture
def decorated(tmp_path):
    """A JPEG with everything a camera and an editor write."""
    exif = Pillow.Exif()
    exif[0x010F] = "Maker"
    exif[0x0112] = 6
    exif.get_ifd(0x8769)[0x829A] = (1, 250)
    exif.get_ifd(0x8825)[1] = "N"
    path = tmp_path / "decorated.jpg"
    picture = Pillow.fromarray(smooth())
    picture.save(path, exif=exif, icc_profile=SRGB, xmp=XMP, dpi=(300, 300))
    return path


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".avif"])
def test_metadata_survives(tmp_path, decorated, suffix):
    write_image(tmp_path / f"once{suffix}", read_image(decorated))
    write_image(tmp_path / f"twice{suffix}", read_image(tmp_path / f"once{suffix}"))
    with Pillow.open(tmp_path / f"twice{suffix}") as file:
        exif, info = file.getexif(), file.info
        assert info["icc_profile"] == SRGB
        xmp = bytes(info.get("xmp") or str(info.get("XML:com.adobe.xmp")).encode())
        assert b'tiff:Make="Ours"' in xmp
        assert b'tiff:Orientation="1"' in xmp
        assert exif.get(0x0112, 1) == 1
        if suffix not in (".webp", ".avif"):  # have no resolution of their own
            assert info["dpi"] == pytest.approx((300, 300), abs=0.1)
        assert exif[0x010F] == "Maker"
        assert exif.get_ifd(0x8769)[0x829A] == (1, 250)
        assert exif.get_ifd(0x8825)[1] == "N"


def test_iptc_survives(tmp_path):
    record = b"\x1c\x02\x78" + struct.pack(">H", 10) + b"A caption."
    block = b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0" + struct.pack(">I", len(record)) + record + b"\0"
    Pillow.fromarray(smooth()).save(tmp_path / "in.jpg")
    data = (tmp_path / "in.jpg").read_bytes()
    segment = b"\xff\xed" + struct.pack(">H", len(block) + 2) + block
    (tmp_path / "in.jpg").write_bytes(data[:2] + segment + data[2:])
    write_image(tmp_path / "out.jpg", read_image(tmp_path / "in.jpg"))
    assert record in (tmp_path / "out.jpg").read_bytes()


def test_bmp_keeps_resolution(tmp_path):
    Pillow.fromarray(smooth()).save(tmp_path / "in.bmp", dpi=(300, 150))
    write_image(tmp_path / "out.bmp", read_image(tmp_path / "in.bmp"))
    with Pillow.open(tmp_path / "out.bmp") as file:
        assert file.info["dpi"] == pytest.approx((300, 150), abs=0.1)


def test_unknown_resolution_is_written_as_72_dpi(tmp_path):
    pyvips.Image.new_from_array(smooth(), interpretation="srgb").tiffsave(str(tmp_path / "a.tif"), xres=1, yres=1)
    for suffix in (".jpg", ".png"):
        write_image(tmp_path / f"a{suffix}", read_image(tmp_path / "a.tif"))
        with Pillow.open(tmp_path / f"a{suffix}") as file:
            assert file.info["dpi"] == pytest.approx((72, 72), abs=0.1)


def test_old_thumbnail_is_not_carried_over(tmp_path):
    thumbnail = io.BytesIO()
    Pillow.fromarray(smooth(16, 16)).save(thumbnail, "JPEG")
    small = thumbnail.getvalue()
    ifd0 = struct.pack("<HHHIII", 1, 0x0112, 3, 1, 1, 8 + 18)
    ifd1 = struct.pack("<H", 2) + struct.pack("<HHII", 0x0201, 4, 1, 8 + 18 + 30)
    ifd1 += struct.pack("<HHII", 0x0202, 4, 1, len(small)) + struct.pack("<I", 0)
    exif = b"Exif\0\0II*\0" + struct.pack("<I", 8) + ifd0 + ifd1 + small
    Pillow.fromarray(smooth()).save(tmp_path / "in.jpg", exif=exif)
    assert (tmp_path / "in.jpg").read_bytes().count(b"\xff\xd8\xff") == 2
    write_image(tmp_path / "out.jpg", read_image(tmp_path / "in.jpg"))
    assert (tmp_path / "out.jpg").read_bytes().count(b"\xff\xd8\xff") == 1


def test_gray_file_gets_no_rgb_profile(tmp_path):
    Pillow.fromarray(smooth()).save(tmp_path / "in.png", icc_profile=SRGB)
    image = read_image(tmp_path / "in.png")
    for suffix in (".png", ".jpg", ".tif"):
        write_image(tmp_path / f"a{suffix}", Image(to_channels(image.pixels, 1), None, image.metadata))
        with Pillow.open(tmp_path / f"a{suffix}") as file:
            assert file.mode == "L"
            assert "icc_profile" not in file.info
