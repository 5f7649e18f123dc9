"""Files are made and checked with Pillow and OpenCV where these can.

So our reader and our writer cannot agree on a mistake.
"""

import contextlib
import io
import os
import re
import struct
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
import pyvips
from PIL import Image as Pillow
from PIL import ImageCms, ImageOps

from img2img.imaging import files
from img2img.imaging.files import (
    SUFFIXES,
    Image,
    UnreadableImage,
    find_images,
    from_float,
    read_image,
    to_channels,
    to_float,
    write_image,
)

cv2 = pytest.importorskip("cv2")

RNG = np.random.default_rng(0)
SIZES = [(1, 1), (7, 5), (33, 1000), (1000, 33)]
LOSSLESS = [".png", ".tif", ".tiff", ".bmp"]
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()  # holds the time, so made once
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6" tiff:Make="Ours"/>'
    b"</rdf:RDF></x:xmpmeta>"
)


def noise(height, width, channels, dtype=np.uint8):
    if np.dtype(dtype) == np.float32:
        return RNG.random((height, width, channels), np.float32)
    return RNG.integers(0, np.iinfo(dtype).max, (height, width, channels), dtype, endpoint=True)


def smooth(height=48, width=64, channels=3):
    """A picture that lossy formats keep well, different in each corner."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [60 + 120 * x / width, 40 + 150 * y / height, 200 - 80 * (x + y) / (width + height)]
    return np.stack(planes[:channels], -1).round().astype(np.uint8)


def error(actual, expected):
    assert actual.shape == expected.shape
    return np.abs(actual.astype(int) - expected.astype(int)).mean()


def pillow_pixels(path):
    with Pillow.open(path) as file:
        return np.array(file)


# --- round trips ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("suffix", LOSSLESS)
def test_8_bits_survive_lossless_formats(tmp_path, suffix, channels, size):
    pixels = noise(*size, channels)
    path = tmp_path / f"a{suffix}"
    write_image(path, Image(pixels, None, {}))
    np.testing.assert_array_equal(pillow_pixels(path).reshape(pixels.shape), pixels)
    back = read_image(path)
    assert back.pixels.dtype == np.uint8
    assert back.alpha is None
    np.testing.assert_array_equal(back.pixels, pixels)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bits_survive_png_and_tiff(tmp_path, suffix, channels, size):
    pixels = noise(*size, channels, np.uint16)
    path = tmp_path / f"a{suffix}"
    write_image(path, Image(pixels, None, {}))
    seen = cv2.imread(str(path), cv2.IMREAD_UNCHANGED).reshape(pixels.shape)
    np.testing.assert_array_equal(seen[..., ::-1], pixels)
    np.testing.assert_array_equal(read_image(path).pixels, pixels)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 3])
def test_16_bit_files_of_others_are_read_by_their_header(tmp_path, suffix, channels):
    pixels = noise(9, 11, channels, np.uint16) % 200  # dark enough to look like 8 bits
    path = tmp_path / f"a{suffix}"
    assert cv2.imwrite(str(path), pixels[..., ::-1])
    back = read_image(path).pixels
    assert back.dtype == np.uint16
    np.testing.assert_array_equal(back, pixels)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("alpha", [False, True])
def test_float_tiff_is_kept_beyond_0_and_1(tmp_path, channels, alpha):
    pixels = noise(7, 5, channels, np.float32) * 4 - 1
    opacity = noise(7, 5, 1, np.float32) if alpha else None
    write_image(tmp_path / "a.tif", Image(pixels, opacity, {}))
    back = read_image(tmp_path / "a.tif")
    np.testing.assert_array_equal(back.pixels, pixels)
    assert (back.alpha is None) == (opacity is None)
    if opacity is not None:
        np.testing.assert_array_equal(back.alpha, opacity)


def test_float_tiff_of_others(tmp_path):
    pixels = noise(7, 5, 3, np.float32)
    assert cv2.imwrite(str(tmp_path / "a.tif"), pixels[..., ::-1])
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").pixels, pixels)


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG", ".webp"])
@pytest.mark.parametrize("channels", [1, 3])
def test_lossy_formats_stay_close(tmp_path, suffix, channels):
    pixels = smooth(channels=channels)
    path = tmp_path / f"a{suffix}"
    write_image(path, Image(pixels, None, {}))
    expected = pixels if suffix != ".webp" else to_channels(pixels, 3)  # WebP knows no gray
    assert error(pillow_pixels(path).reshape(expected.shape), expected) < 1.5
    assert error(read_image(path).pixels, expected) < 1.5


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
@pytest.mark.parametrize("size", SIZES)
def test_lossy_formats_take_odd_sizes(tmp_path, suffix, size):
    write_image(tmp_path / f"a{suffix}", Image(noise(*size, 3), None, {}))
    assert read_image(tmp_path / f"a{suffix}").pixels.shape == (*size, 3)


def test_jpeg_keeps_full_chroma_and_obeys_quality(tmp_path):
    image = Image(noise(64, 64, 3), None, {})
    write_image(tmp_path / "high.jpg", image)
    write_image(tmp_path / "low.jpg", image, quality=40)
    for name in ("high.jpg", "low.jpg"):
        with Pillow.open(tmp_path / name) as file:
            assert [layer[1:3] for layer in file.layer] == [(1, 1)] * 3
    assert (tmp_path / "low.jpg").stat().st_size < (tmp_path / "high.jpg").stat().st_size / 2


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".bmp"])
def test_16_bits_are_rounded_to_8_where_the_format_has_8(tmp_path, suffix):
    eight = smooth()
    sixteen = eight.astype(np.uint16) * 257 - (eight > 0) * np.uint16(100)  # truncation would lose one level
    path = tmp_path / f"a{suffix}"
    write_image(path, Image(sixteen, None, {}))
    back = read_image(path).pixels
    assert back.dtype == np.uint8
    assert abs(back.astype(float).mean() - eight.mean()) < 0.4
    if suffix == ".bmp":
        np.testing.assert_array_equal(back, eight)


@pytest.mark.parametrize("suffix", sorted(SUFFIXES - {".tif", ".tiff"}))
def test_float_is_refused_where_the_format_has_none(tmp_path, suffix):
    with pytest.raises(ValueError, match=r"a\.\w+: only TIFF holds float32"):
        write_image(tmp_path / f"a{suffix}", Image(noise(2, 2, 3, np.float32), None, {}))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("dtype", "predictor"), [(np.uint8, 2), (np.uint16, 2), (np.float32, 3)])
def test_tiff_is_compressed_with_a_predictor(tmp_path, dtype, predictor):
    write_image(tmp_path / "a.tif", Image(noise(7, 5, 1, dtype), None, {}))
    with Pillow.open(tmp_path / "a.tif") as file:
        assert (file.tag_v2[259], file.tag_v2[317]) == (8, predictor)  # 8 is deflate


def test_views_are_written_as_they_look(tmp_path):
    pixels = noise(8, 9, 3)[::-1, ::2, ::-1]
    write_image(tmp_path / "a.png", Image(pixels, None, {}))
    np.testing.assert_array_equal(pillow_pixels(tmp_path / "a.png"), pixels)


# --- channels -------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_alpha_is_split_off_and_written_back(tmp_path, suffix, mode):
    stored = noise(7, 5, len(mode))
    Pillow.fromarray(stored, mode).save(tmp_path / f"in{suffix}")
    image = read_image(tmp_path / f"in{suffix}")
    np.testing.assert_array_equal(image.pixels, stored[..., :-1])
    np.testing.assert_array_equal(image.alpha, stored[..., -1:])
    write_image(tmp_path / f"out{suffix}", image)
    with Pillow.open(tmp_path / f"out{suffix}") as file:
        assert file.mode == mode
        np.testing.assert_array_equal(np.array(file), stored)


def test_16_bit_alpha(tmp_path):
    stored = noise(7, 5, 4, np.uint16)
    cv2.imwrite(str(tmp_path / "in.png"), stored[..., [2, 1, 0, 3]])
    image = read_image(tmp_path / "in.png")
    write_image(tmp_path / "out.png", image)
    seen = cv2.imread(str(tmp_path / "out.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(seen[..., [2, 1, 0, 3]], stored)


def test_webp_carries_alpha_and_jpeg_and_bmp_drop_it(tmp_path):
    alpha = np.ascontiguousarray(smooth()[..., :1])
    image = Image(smooth(), alpha, {})
    for suffix in (".webp", ".jpg", ".bmp"):
        write_image(tmp_path / f"a{suffix}", image)
    np.testing.assert_array_equal(pillow_pixels(tmp_path / "a.webp")[..., 3:], alpha)
    np.testing.assert_array_equal(read_image(tmp_path / "a.webp").alpha, alpha)
    for suffix in (".jpg", ".bmp"):  # dropped, not blended with a background
        back = read_image(tmp_path / f"a{suffix}")
        assert back.alpha is None
        assert error(back.pixels, smooth()) < 1.5


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_palette_becomes_rgb(tmp_path, suffix):
    picture = Pillow.fromarray(smooth()).quantize(16)
    picture.save(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(read_image(tmp_path / f"a{suffix}").pixels, np.array(picture.convert("RGB")))


def test_transparent_palette_colour_becomes_alpha(tmp_path):
    picture = Pillow.fromarray(smooth()).quantize(16)
    picture.save(tmp_path / "a.png", transparency=3)
    image = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(image.alpha[..., 0] == 0, np.array(picture) == 3)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_1_bit_becomes_8_bit_gray(tmp_path, suffix):
    picture = Pillow.fromarray(smooth()).convert("1")
    picture.save(tmp_path / f"a{suffix}")
    back = read_image(tmp_path / f"a{suffix}").pixels
    assert back.dtype == np.uint8
    np.testing.assert_array_equal(back, np.array(picture.convert("L"))[..., None])


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_cmyk_becomes_srgb(tmp_path, suffix):
    inks = np.zeros((16, 64, 4), np.uint8)  # paper, cyan, yellow, black
    inks[:, 16:32, 0] = inks[:, 32:48, 2] = inks[:, 48:, 3] = 255
    Pillow.fromarray(inks, "CMYK").save(tmp_path / f"a{suffix}", quality=95)
    image = read_image(tmp_path / f"a{suffix}")
    paper, cyan, yellow, black = (image.pixels[8, x].astype(int) for x in (8, 24, 40, 56))
    assert paper.min() > 250
    assert cyan[0] < 100 < cyan[2]
    assert yellow[2] < 100 < yellow[0]
    assert black.max() < 80
    # A kept CMYK profile would make the RGB file that is written back invalid.
    assert bytes(image.metadata["icc-profile-data"])[16:20] == b"RGB "


def test_bmp_with_alpha(tmp_path):
    stored = noise(7, 5, 4)
    cv2.imwrite(str(tmp_path / "a.bmp"), stored[..., [2, 1, 0, 3]])
    image = read_image(tmp_path / "a.bmp")
    np.testing.assert_array_equal(image.pixels, stored[..., :3])
    np.testing.assert_array_equal(image.alpha, stored[..., 3:])


def test_unsupported_samples_are_named(tmp_path):
    pyvips.Image.black(3, 3).cast("uint").tiffsave(str(tmp_path / "a.tif"))
    with pytest.raises(UnreadableImage, match="1 channels of type uint"):
        read_image(tmp_path / "a.tif")


# --- orientation and metadata ---------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_orientation_is_applied_once(tmp_path, suffix, orientation):
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if suffix == ".webp" else {}
    Pillow.fromarray(smooth()).save(tmp_path / f"in{suffix}", exif=exif, **options)
    with Pillow.open(tmp_path / f"in{suffix}") as file:
        expected = np.array(ImageOps.exif_transpose(file))
    image = read_image(tmp_path / f"in{suffix}")
    assert error(image.pixels, expected) < (0.5 if suffix == ".jpg" else 1e-9)
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


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
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
        if suffix != ".webp":  # has no resolution of its own
            assert info["dpi"] == pytest.approx((300, 300), abs=0.1)
        if suffix != ".tif":  # libvips writes none
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


# --- damaged files --------------------------------------------------------------------------------


def unreadable(path):
    with pytest.raises(UnreadableImage) as caught:
        read_image(path)
    message = str(caught.value)
    assert message.startswith(f"cannot read {path}: ")
    assert "\n" not in message
    assert len(message) > len(f"cannot read {path}: ")
    return message


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".bmp"])
@pytest.mark.parametrize("part", [0.02, 0.5, 0.9])
def test_truncated_files(tmp_path, suffix, part):
    path = tmp_path / f"a{suffix}"
    Pillow.fromarray(noise(64, 64, 3)).save(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    unreadable(path)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".bmp"])
def test_damage_anywhere_raises_nothing_else(tmp_path, suffix, monkeypatch):
    monkeypatch.setattr(files, "MAX_PIXELS", 1_000_000)  # damaged sizes would only take time
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
    for head in (b"BM", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\0\0\0\0WEBP", b"II*\0", b"MM\0*"):
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
    monkeypatch.setattr(files, "MAX_PIXELS", 20)
    assert read_image(tmp_path / "a.png").pixels.shape == (4, 5, 3)
    monkeypatch.setattr(files, "MAX_PIXELS", 19)
    unreadable(tmp_path / "a.png")


# --- the file system ------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".png", ".bmp"])
def test_changed_file_is_read_anew(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    for _ in range(3):
        pixels = noise(7, 5, 3)
        Pillow.fromarray(pixels).save(path)
        os.utime(path, (1, 1))  # not even the date tells
        np.testing.assert_array_equal(read_image(path).pixels, pixels)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".bmp"])
@pytest.mark.parametrize("name", ["with space", "Übergröße", "写真", "brackets[page=1]", "100%", "-dash"])
def test_unusual_names(tmp_path, name, suffix):
    path = tmp_path / name / f"{name}{suffix}"
    write_image(path, Image(smooth(), None, {}))
    assert error(read_image(path).pixels, smooth()) < 1.5
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_suffix_of_another_format_does_not_matter_for_reading(tmp_path):
    pixels = noise(7, 5, 3)
    Pillow.fromarray(pixels).save(tmp_path / "a.jpg", "PNG")
    np.testing.assert_array_equal(read_image(tmp_path / "a.jpg").pixels, pixels)


@pytest.mark.parametrize("function", ["replace", "fsync"])
@pytest.mark.parametrize("failure", [OSError("disk full"), KeyboardInterrupt()])
def test_failed_write_leaves_nothing(tmp_path, monkeypatch, function, failure):
    def fail(*_):
        raise failure

    monkeypatch.setattr(os, function, fail)
    with pytest.raises(type(failure)):
        write_image(tmp_path / "a.png", Image(smooth(), None, {}))
    assert list(tmp_path.iterdir()) == []


def test_failed_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "a.webp"
    write_image(path, Image(smooth(), None, {}))
    before = path.read_bytes()
    with pytest.raises(ValueError, match=re.escape(f"cannot write {path}: webpsave: image too large")):
        write_image(path, Image(np.zeros((1, 16384, 3), np.uint8), None, {}))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_temporary_file_is_hidden_and_beside_the_target(tmp_path, monkeypatch):
    seen = []

    def remember(source, target):
        seen.append((Path(source), Path(target), find_images(tmp_path)))

    monkeypatch.setattr(os, "replace", remember)
    write_image(tmp_path / "a.png", Image(smooth(), None, {}))
    (temporary, target, found) = seen[0]
    assert temporary.parent == tmp_path
    assert temporary.name.startswith(".")
    assert target == tmp_path / "a.png"
    assert found == []


def test_unknown_suffix(tmp_path):
    with pytest.raises(ValueError, match=r"a\.gif: unknown suffix '\.gif'"):
        write_image(tmp_path / "a.gif", Image(smooth(), None, {}))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_permissions_follow_the_umask(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    write_image(tmp_path / "a.png", Image(smooth(), None, {}))
    assert (tmp_path / "a.png").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("suffix", sorted(SUFFIXES))
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_reading_works_in_a_forked_worker(tmp_path, suffix):
    """With libvips' thread pool a child of a process that has used the pool waits forever."""
    path = tmp_path / f"a{suffix}"
    write_image(path, Image(noise(300, 300, 3), None, {}))
    pyvips.Image.black(600, 600).gaussblur(2).numpy()  # starts the pool
    expected = read_image(path).pixels
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(read_image(path).pixels, expected) else 1)
    status = []
    waiter = threading.Thread(target=lambda: status.append(os.waitpid(child, 0)[1]))
    waiter.start()
    waiter.join(10)
    if not status:
        os.kill(child, 9)
        waiter.join()
    assert status == [0]


def test_find_images_sorts_and_skips(tmp_path):
    names = ["b.JPG", "a/z.png", "a.png", "a-b/x.Tiff", "B/q.webp", "c.bmp", "ä.jpeg", "deep/er/k.tif"]
    others = ["notes.txt", ".hidden.png", ".git/x.png", "a/.trash/y.jpg", "png", "folder.png/inner.jpg"]
    for name in names + others:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    found = [path.relative_to(tmp_path).as_posix() for path in find_images(tmp_path)]
    assert found == sorted([*names, "folder.png/inner.jpg"])


def test_find_images_accepts_a_hidden_root(tmp_path):
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "a.png").touch()
    assert find_images(tmp_path / ".cache") == [tmp_path / ".cache" / "a.png"]


def test_find_images_survives_links(tmp_path):
    for name in ("root/a", "root/b", "outside"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "x.png").touch()
    try:
        (tmp_path / "root/a/self").symlink_to(tmp_path / "root/a")
        (tmp_path / "root/a/up").symlink_to(tmp_path)
        (tmp_path / "root/a/b").symlink_to(tmp_path / "root/b")
        (tmp_path / "root/b/a").symlink_to(tmp_path / "root/a")
        (tmp_path / "root/more").symlink_to(tmp_path / "outside")
        (tmp_path / "root/gone.png").symlink_to(tmp_path / "nowhere.png")
    except OSError:
        pytest.skip("no links here")
    found = [path.relative_to(tmp_path / "root").as_posix() for path in find_images(tmp_path / "root")]
    assert found == ["a/b/x.png", "a/x.png", "b/a/x.png", "b/x.png", "more/x.png"]


def test_find_images_names_what_is_wrong(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no such folder: .*nothing"):
        find_images(tmp_path / "nothing")
    (tmp_path / "file.png").touch()
    with pytest.raises(NotADirectoryError, match=r"not a folder: .*file\.png"):
        find_images(tmp_path / "file.png")


# --- values ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_float_and_back_is_exact_for_every_value(dtype):
    values = np.arange(np.iinfo(dtype).max + 1).astype(dtype)
    floats = to_float(values)
    assert floats.dtype == np.float32
    assert (floats[0], floats[-1]) == (0, 1)
    assert np.all(np.diff(floats) > 0)
    back = from_float(floats, np.dtype(dtype))
    assert back.dtype == dtype
    np.testing.assert_array_equal(back, values)


def test_from_float_rounds_and_clamps():
    values = np.array([-1, 0, 0.49, 0.51, 1.49, 1.51, 254.51, 255, 256, np.inf], np.float32) / 255
    assert from_float(values, np.dtype(np.uint8)).tolist() == [0, 0, 0, 1, 1, 2, 255, 255, 255, 255]
    assert from_float(np.float32([-1, 0.25, 2]), np.dtype(np.float32)).tolist() == [0, 0.25, 1]


def test_conversions_refuse_nan_and_other_types():
    with pytest.raises(ValueError, match="NaN"):
        from_float(np.float32([0, np.nan]), np.dtype(np.uint8))
    with pytest.raises(ValueError, match="int32"):
        from_float(np.float32([0]), np.dtype(np.int32))
    with pytest.raises(ValueError, match="int64"):
        to_float(np.array([1, 2]))
    floats = np.float32([-3, 7])
    np.testing.assert_array_equal(to_float(floats), floats)


def test_to_channels():
    rgb = noise(40, 50, 3)
    gray = to_channels(rgb, 1)
    assert gray.shape == (40, 50, 1)
    assert gray.dtype == np.uint8
    exact = rgb.astype(np.float64) @ [0.299, 0.587, 0.114]
    assert np.abs(gray[..., 0] - exact).max() < 0.5001
    np.testing.assert_array_equal(to_channels(gray, 3), np.repeat(gray, 3, 2))
    assert to_channels(rgb, 3) is rgb
    with pytest.raises(ValueError, match="3 channels to 2"):
        to_channels(rgb, 2)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_gray_through_rgb_is_exact(dtype):
    gray = np.arange(np.iinfo(dtype).max + 1).astype(dtype).reshape(1, -1, 1)
    np.testing.assert_array_equal(to_channels(to_channels(gray, 3), 1), gray)


@pytest.mark.parametrize(
    ("pixels", "alpha"),
    [
        (np.zeros((4, 4), np.uint8), None),
        (np.zeros((4, 4, 2), np.uint8), None),
        (np.zeros((0, 4, 3), np.uint8), None),
        (np.zeros((4, 4, 3), np.int64), None),
        (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5, 1), np.uint8)),
        (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4, 1), np.uint16)),
    ],
)
def test_image_refuses_what_no_file_holds(pixels, alpha):
    with pytest.raises(ValueError, match="pixels"):
        Image(pixels, alpha, {})
