"""Alpha, palettes, one bit, CMYK: what becomes of the channels a file may hold."""

import cv2
import numpy as np
import pytest
import pyvips
from PIL import Image as Pillow

from img2img.imaging.files import (
    Image,
    UnreadableImage,
    read_image,
    write_image,
)
from tests.imaging.samples import error, noise, pillow_pixels, smooth


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
