"""Files are made and checked with Pillow and OpenCV where these can.

So our reader and our writer cannot agree on a mistake.
"""

import os
import re
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
import pyvips
from PIL import Image as Pillow

from img2img.imaging.files import (
    Image,
    find_images,
    read_image,
    to_channels,
    write_image,
)
from img2img.imaging.formats import WRITABLE
from tests.imaging.samples import LOSSLESS, SIZES, error, noise, pillow_pixels, smooth


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


@pytest.mark.parametrize("suffix", sorted(WRITABLE - {".tif", ".tiff"}))
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
    with pytest.raises(
        ValueError,
        match=re.escape(f"cannot write {path}: image too large: webp holds 16383 pixels per side, not 16384x1"),
    ):
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


@pytest.mark.parametrize("suffix", sorted(WRITABLE))
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
