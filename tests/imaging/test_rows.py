"""Reading and writing row by row: the same pixels as whole, whatever lies between; nothing left behind."""

import errno
import resource
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import pyvips
from PIL import Image as Pillow

from img2img.imaging import turning
from img2img.imaging.files import Image, UnreadableImage, read_image, write_image
from img2img.imaging.formats import WRITABLE, Header
from img2img.imaging.parts import find_leftovers, new_part, remove_leftovers
from img2img.imaging.reading import open_rows, read_header
from img2img.imaging.writing import create_rows
from tests.imaging.samples import noise, smooth


def copy(source, target, rows, **changes):
    options = {key: changes.pop(key) for key in ("quality", "scratch") if key in changes}
    with open_rows(source) as reader, create_rows(target, replace(reader.header, **changes), **options) as writer:
        for _ in range(0, reader.header.height * reader.header.pages, rows):
            writer.write(*reader.read(rows))


def header_of(pixels, alpha=False, pages=1):
    height, width, channels = pixels.shape
    return Header(width, height // pages, channels, alpha, pixels.dtype, pages, "", {})


@pytest.mark.parametrize("scratch", [0, 2**20])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp", ".ppm"])
def test_lossless_copies_by_rows_equal_the_photograph(tmp_path, photo, suffix, scratch):
    write_image(tmp_path / f"in{suffix}", Image(photo, None, {}))
    copy(tmp_path / f"in{suffix}", tmp_path / f"out{suffix}", 37, scratch=scratch)
    np.testing.assert_array_equal(read_image(tmp_path / f"out{suffix}").pixels, photo)
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["in", "out"]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("alpha", [False, True])
def test_rows_that_wait_on_disk_are_the_same(tmp_path, dtype, channels, alpha):
    pixels, opacity = noise(50, 7, channels, dtype), noise(50, 7, 1, dtype) if alpha else None
    with create_rows(tmp_path / "a.tif", header_of(pixels, alpha), scratch=0) as writer:
        for rows in (slice(0, 1), slice(1, 40), slice(40, 50)):
            writer.write(pixels[rows], None if opacity is None else opacity[rows])
    back = read_image(tmp_path / "a.tif")
    np.testing.assert_array_equal(back.pixels, pixels)
    assert (back.alpha is None) == (opacity is None)
    if opacity is not None:
        np.testing.assert_array_equal(back.alpha, opacity)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("on_disk", [False, True])
def test_turned_pages_are_gathered_from_strips(tmp_path, photo, orientation, on_disk, monkeypatch):
    if on_disk:
        monkeypatch.setattr(turning, "IN_MEMORY", 1000)
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    Pillow.fromarray(photo[:200, :150]).save(tmp_path / "a.png", exif=exif)
    expected = turning.turn(photo[:200, :150], orientation)
    with open_rows(tmp_path / "a.png") as reader:
        assert (reader.header.height, reader.header.width) == expected.shape[:2]
        bands = [reader.read(61)[0] for _ in range(4)]
        assert len(reader.read(61)[0]) == 0
    np.testing.assert_array_equal(np.concatenate(bands), expected)


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_pages_of_a_tiff_are_kept(tmp_path, photo, orientation):
    pages = [photo[:100, :70], photo[100:200, :70], photo[200:300, :70]]
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    first, *others = map(Pillow.fromarray, pages)
    first.save(tmp_path / "in.tif", save_all=True, append_images=others, exif=exif)
    assert read_header(tmp_path / "in.tif").pages == 3
    np.testing.assert_array_equal(read_image(tmp_path / "in.tif").pixels, turning.turn(pages[0], orientation))
    copy(tmp_path / "in.tif", tmp_path / "out.tif", 64)
    with Pillow.open(tmp_path / "out.tif") as file:
        assert file.n_frames == 3
        for number, page in enumerate(pages):
            file.seek(number)
            np.testing.assert_array_equal(np.array(file), turning.turn(page, orientation))


def test_pages_of_different_sizes_are_named(tmp_path):
    first, second = Pillow.fromarray(smooth(20, 30)), Pillow.fromarray(smooth(20, 31))
    first.save(tmp_path / "a.tif", save_all=True, append_images=[first, second])
    with pytest.raises(UnreadableImage, match="different sizes: page 1 has 30x20 pixels, page 3 has 31x20"):
        read_header(tmp_path / "a.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").pixels, smooth(20, 30))


def test_tiles_are_read_by_rows(tmp_path, photo):
    image = pyvips.Image.new_from_array(photo, interpretation="srgb")
    image.tiffsave(str(tmp_path / "in.tif"), tile=True, tile_width=64, tile_height=48, compression="deflate")
    with open_rows(tmp_path / "in.tif") as reader:
        bands = [reader.read(50)[0] for _ in range(7)]
    np.testing.assert_array_equal(np.concatenate(bands), photo)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp", ".bmp", ".ppm", ".avif"])
def test_header_is_what_the_pixels_are(tmp_path, suffix):
    write_image(tmp_path / f"a{suffix}", Image(smooth(20, 30), None, {}))
    header = read_header(tmp_path / f"a{suffix}")
    image = read_image(tmp_path / f"a{suffix}")
    assert (header.height, header.width, header.channels) == image.pixels.shape
    assert (header.dtype, header.alpha, header.pages) == (image.pixels.dtype, False, 1)
    assert f".{header.format[:3]}" in suffix.replace("jpg", "jpe")


@pytest.mark.parametrize("suffix", [".png", ".webp", ".avif"])
def test_animations_are_refused(tmp_path, suffix):
    frames = [Pillow.fromarray(smooth()), Pillow.fromarray(255 - smooth())]
    frames[0].save(tmp_path / f"a{suffix}", save_all=True, append_images=frames[1:])
    with pytest.raises(UnreadableImage, match=r"animated.*not supported"):
        read_header(tmp_path / f"a{suffix}")


def test_output_may_have_another_size_and_other_channels(tmp_path, photo):
    Pillow.fromarray(photo).convert("L").save(tmp_path / "in.tif")
    with open_rows(tmp_path / "in.tif") as reader:
        target = replace(reader.header, width=640, height=640, channels=3)
        with create_rows(tmp_path / "out.png", target) as writer:
            gray, _ = reader.read(320)
            writer.write(np.repeat(np.repeat(np.repeat(gray, 2, 0), 2, 1), 3, 2), None)
    assert read_image(tmp_path / "out.png").pixels.shape == (640, 640, 3)


# --- what goes wrong -------------------------------------------------------------------------------


@pytest.mark.parametrize("scratch", [0, 2**20])
def test_too_few_rows_leave_nothing(tmp_path, scratch):
    writer = create_rows(tmp_path / "a.png", header_of(smooth()), scratch=scratch)
    writer.write(smooth()[:40], None)
    with pytest.raises(ValueError, match="8 of 48 rows are missing"):
        writer.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("scratch", [0, 2**20])
def test_an_exception_between_rows_leaves_nothing(tmp_path, scratch):
    def fail():
        with create_rows(tmp_path / "a.png", header_of(smooth()), scratch=scratch) as writer:
            writer.write(smooth()[:40], None)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_rows_that_do_not_fit_are_refused(tmp_path):
    with create_rows(tmp_path / "a.png", header_of(smooth())) as writer:
        with pytest.raises(ValueError, match=r"must be \[\(48, 64, 3\)\] of uint8, not \(48, 63, 3\) of uint8"):
            writer.write(smooth()[:, 1:], None)
        with pytest.raises(ValueError, match=r"not .* of uint16"):
            writer.write(smooth().astype(np.uint16), None)
        with pytest.raises(ValueError, match="and"):
            writer.write(smooth(), smooth()[..., :1])
        writer.write(smooth(), None)
        with pytest.raises(ValueError, match="49 rows are too many"):
            writer.write(smooth()[:1], None)


def test_several_pages_need_tiff(tmp_path):
    with pytest.raises(ValueError, match=r"a\.png: 2 pages: only TIFF"):
        create_rows(tmp_path / "a.png", header_of(smooth(), pages=2))


@pytest.mark.parametrize(
    ("suffix", "shape", "message"),
    [(".jpg", (1, 65501), "jpeg holds 65500"), (".avif", (16385, 1), "avif holds 16384")],
)
def test_sizes_that_no_encoder_takes_are_refused_at_once(tmp_path, suffix, shape, message):
    with pytest.raises(ValueError, match=message):
        create_rows(tmp_path / f"a{suffix}", header_of(np.zeros((*shape, 3), np.uint8)))


_FULL_DISK = """
import resource, sys
from pathlib import Path
import numpy as np
from img2img.imaging.formats import Header
from img2img.imaging.writing import create_rows
path, scratch = Path(sys.argv[1]), int(sys.argv[2])
pixels = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    with create_rows(path, Header(300, 300, 3, False, pixels.dtype, 1, "", {}), scratch=scratch) as writer:
        writer.write(pixels, None)
except OSError as error:
    print(error.errno, error.filename or "")
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="no limits on files")
@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg", ".bmp", ".ppm"])
@pytest.mark.parametrize("scratch", [0, 2**30])
def test_a_disk_that_refuses_is_an_oserror_and_leaves_nothing(tmp_path, suffix, scratch):
    command = [sys.executable, "-c", _FULL_DISK, str(tmp_path / f"a{suffix}"), str(scratch)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout.startswith(str(errno.EFBIG)), done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", sorted(WRITABLE))
def test_truncation_is_seen_while_rows_are_read(tmp_path, photo, suffix):
    path = tmp_path / f"a{suffix}"
    write_image(path, Image(photo, None, {}))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UnreadableImage, match="cannot read"), open_rows(path) as reader:  # noqa: PT012
        while len(reader.read(50)[0]):
            pass


def test_leftovers_of_a_killed_run_are_found_and_removed(tmp_path):
    (tmp_path / "deep").mkdir()
    left = [new_part(tmp_path), new_part(tmp_path / "deep")]
    others = [tmp_path / ".part", tmp_path / ".notes.part", tmp_path / "film.part", tmp_path / "a.png"]
    for path in left + others:
        path.touch()
    assert find_leftovers(tmp_path) == sorted(left)
    assert remove_leftovers(tmp_path) == 2
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(others)
