"""Pictures for the page of a report."""

from __future__ import annotations

import io
import os

import numpy as np
import pytest
import pyvips
from PIL import Image

from img2img.imaging.files import UnreadableImage
from img2img.inference.jobs import list_jobs
from img2img.inference.thumbnails import DETAIL, Thumbnails, most_changed, picture, thumbnail, thumbnail_file


@pytest.mark.parametrize(("top", "left"), [(0, 0), (600, 1040), (960, 1360)])
def test_the_detail_is_where_the_images_differ_most(top, left):
    before = np.full((800, 1000, 3), 90, np.uint8)
    after = before.copy()
    half = DETAIL // 2
    after[top // 2 : top // 2 + half, left // 2 : left // 2 + half] += 40
    after[700:, :60] += 5
    found = most_changed(picture(before), picture(after), (1600, 2000))
    assert abs(found[0] - top) <= 8
    assert abs(found[1] - left) <= 8


def test_large_images_get_a_detail_at_full_size_and_small_ones_none(tmp_path, photo):
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    large = np.tile(photo, (3, 3, 1))
    for name, pixels in (("large.png", large), ("small.png", photo)):
        Image.fromarray(pixels).save(tmp_path / "in" / name)
        Image.fromarray(pixels // 2).save(tmp_path / "out" / name)
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    make = Thumbnails(hidden, 2)
    for job in list_jobs([tmp_path / "in"], tmp_path / "out"):
        assert make(job) == {}
    sizes = {}
    for name in ("large.png", "small.png"):
        for which in ("before", "after", "before_detail", "after_detail"):
            file = thumbnail_file(hidden, name, which)
            sizes[name, which] = Image.open(file).size if file.exists() else None
    assert sizes["large.png", "before_detail"] == sizes["large.png", "after_detail"] == (DETAIL, DETAIL)
    assert sizes["large.png", "before"] == (640, 640)
    assert sizes["small.png", "before"] == (320, 320)
    assert sizes["small.png", "before_detail"] is None
    many = Thumbnails(hidden, 301)
    for job in list_jobs([tmp_path / "in"], tmp_path / "out"):
        many(job)
    assert not thumbnail_file(hidden, "large.png", "before_detail").exists(), "pages of many images hold none"


def seen(data):
    picture = Image.open(io.BytesIO(data))
    assert picture.format == "JPEG"
    assert not picture.info.get("icc_profile")
    return np.array(picture.convert("RGB")).astype(float)


def test_thumbnails_of_every_depth_and_format_look_alike(tmp_path, photo):
    deep = photo.astype(np.uint16) * 257
    real = (photo / 255).astype(np.float32)
    vips = pyvips.Image.new_from_array
    vips(photo, interpretation="srgb").tiffsave(str(tmp_path / "8.tif"))
    vips(deep, interpretation="rgb16").tiffsave(str(tmp_path / "16.tif"))
    vips(deep, interpretation="rgb16").pngsave(str(tmp_path / "16.png"))
    vips(real, interpretation="srgb").tiffsave(str(tmp_path / "float.tif"))
    for name in ("a.jpg", "a.webp", "a.bmp", "strange [page=7,n=2] ä\n.png", os.fsdecode(b"\xe4.jpg")):
        Image.fromarray(photo).save(tmp_path / name, quality=95)
    expected = np.array(Image.fromarray(photo).resize((160, 160), Image.Resampling.BOX)).astype(float)
    for path in sorted(tmp_path.iterdir()):
        small = seen(thumbnail(path, 160))
        assert small.shape == (160, 160, 3), path
        assert np.abs(small - expected).mean() < 6, path


def test_thumbnails_of_gray_floats_keep_their_brightness(tmp_path, photo):
    gray = photo[..., 0]
    pyvips.Image.new_from_array((gray / 255).astype(np.float32)).tiffsave(str(tmp_path / "gray.tif"))
    assert seen(thumbnail(tmp_path / "gray.tif", 80)).mean() == pytest.approx(gray.mean(), abs=2)


def test_thumbnails_are_upright_and_those_of_enlarged_images_match(tmp_path, photo):
    exif = Image.Exif()
    exif[0x112] = 6
    Image.fromarray(photo[:192]).save(tmp_path / "turned.jpg", exif=exif, quality=95)
    upright = np.rot90(photo[:192], -1)
    Image.fromarray(np.kron(upright, np.ones((4, 4, 1), np.uint8))).save(tmp_path / "large.png")
    small, large = seen(thumbnail(tmp_path / "turned.jpg", 100)), seen(thumbnail(tmp_path / "large.png", 100))
    assert small.shape == large.shape == (100, 60, 3)
    assert np.abs(small - large).mean() < 6


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_transparency_shows_a_checkerboard(tmp_path, photo, suffix):
    alpha = np.full((320, 320, 1), 255, np.uint8)
    alpha[:, 160:] = 0
    path = tmp_path / f"a{suffix}"
    Image.fromarray(np.concatenate([photo, alpha], 2)).save(path, lossless=True)
    small = seen(thumbnail(path, 320))
    assert np.abs(small[:, :150] - photo[:, :150]).mean() < 6
    board = small[:, 170:]
    assert set(np.round(board[4::8, 2::8] / 48)[..., 0].flatten()) == {4, 5}, "207 and 255, nothing between"


def test_thumbnails_of_odd_shapes_are_never_enlarged(tmp_path):
    for size in ((1, 1), (3000, 2), (2, 3000)):
        Image.new("RGB", size, (200, 60, 40)).save(tmp_path / "odd.png")
        small = seen(thumbnail(tmp_path / "odd.png", 640))
        assert max(small.shape) <= 640
        assert small.mean((0, 1)) == pytest.approx([200, 60, 40], abs=4)


def test_unreadable_files_are_reported_in_one_line(tmp_path, photo):
    file = io.BytesIO()
    Image.fromarray(photo).save(file, "JPEG", quality=95)
    whole = file.getvalue()
    cases = {"half.jpg": whole[:8000], "empty.png": b"", "x.svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>"}
    for name, data in cases.items():
        (tmp_path / name).write_bytes(data)
    for name in [*cases, "missing.png"]:
        with pytest.raises(UnreadableImage, match=f"cannot read .*{name}: [^\n]+$"):
            thumbnail(tmp_path / name)
