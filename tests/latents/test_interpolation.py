from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from img2img.errors import UserError
from img2img.imaging.drawing import GAP, SMALLEST
from img2img.latents.interpolation import interpolate
from tests.latents.autoencoders import SIDE, by_hand, image_of, names, picture, read, tiles

CPU = {"accelerator": "cpu"}
FIRST, SECOND = [-0.3, 0.1, 0.0], [0.1, 0.0, 0.2]


@pytest.fixture
def ends() -> tuple[Path, Path]:
    """Two images that the model draws exactly, but for a pixel in the first."""
    first, second = picture(Path("in/first.png"), FIRST), picture(Path("in/second.png"), SECOND)
    pixels = read(first)
    pixels[0, 0] += 1
    Image.fromarray(pixels).save(first)
    return first, second


def test_originals_reconstructions_and_what_lies_between(ends):
    interpolate(*ends, "way.png", by_hand(), steps=5, **CPU)
    shown = tiles(read("way.png"), 7, captions=True)
    np.testing.assert_array_equal(shown[0], read(ends[0]))
    np.testing.assert_array_equal(shown[6], read(ends[1]))
    for i, share in enumerate(np.linspace(0, 1, 5)):
        wanted = image_of((1 - share) * np.array(FIRST) + share * np.array(SECOND))
        assert np.abs(shown[1 + i].astype(int) - wanted).max() <= 1  # images of 8 bits: codes are right to 1/255
    assert not np.array_equal(shown[0], shown[1])  # the pixel is the original's alone


def test_the_film_runs_there_and_back(ends):
    interpolate(*ends, "way.gif", by_hand(), steps=5, **CPU)
    interpolate(*ends, "way.png", by_hand(), steps=5, **CPU)
    still = tiles(read("way.png"), 7, captions=True)[1:6]
    film = Image.open("way.gif")
    assert film.n_frames == 8
    assert film.info["loop"] == 0
    for number, step in enumerate([0, 1, 2, 3, 4, 3, 2, 1]):
        film.seek(number)
        frame = np.array(film.convert("L"))[GAP : GAP + SMALLEST, GAP : GAP + SMALLEST]
        np.testing.assert_array_equal(frame[:: SMALLEST // SIDE, :: SMALLEST // SIDE], still[step])


def test_colour_is_kept(tmp_path):
    for name, colour in (("red", (200, 60, 60)), ("blue", (60, 60, 200))):
        Image.new("RGB", (30, 20), colour).save(tmp_path / f"{name}.png")
    interpolate(tmp_path / "red.png", tmp_path / "blue.png", "way.png", by_hand(channels=3), **CPU)
    sheet = read("way.png")
    assert tuple(sheet[20, 20]) == (200, 60, 60)
    assert tuple(sheet[20, -20]) == (60, 60, 200)
    assert np.ptp(sheet[20, 120].astype(int)) == 0  # the model knows no colours


def test_what_cannot_be_read_or_written_is_one_line(ends):
    first, second = ends
    bad = Path("bad.png")
    bad.write_text("no image")
    for arguments, said in [
        ((first, bad, "w.png"), "cannot read bad.png"),
        ((first.parent, second, "w.png"), "in is a folder; give an image"),
        ((first, second, "w.mp4"), "w.mp4: the formats of pictures are .avif, .bmp, .gif"),
        ((first, second, second), "is there already"),
    ]:
        with pytest.raises(UserError, match=said):
            interpolate(*arguments, by_hand(), **CPU)
    with pytest.raises(FileNotFoundError, match=r"gone\.png does not exist"):
        interpolate("gone.png", second, "w.png", by_hand(), **CPU)
    with pytest.raises(UserError, match="at least 2"):
        interpolate(first, second, "w.png", by_hand(), steps=1, **CPU)
    before = second.read_bytes()
    with pytest.raises(UserError, match="is an input"):
        interpolate(first, second, second, by_hand(), overwrite=True, **CPU)
    assert second.read_bytes() == before
    assert sorted(path.name for path in Path().iterdir()) == ["bad.png", "in"]


def test_without_an_output_the_images_are_returned_with_their_captions(ends):
    way = interpolate(*ends, None, by_hand(), steps=5, batch_size=2, **CPU)
    assert names(".") == ["in/first.png", "in/second.png"]
    assert way.captions == ("0%", "25%", "50%", "75%", "100%")
    interpolate(*ends, "way.png", by_hand(), steps=5, batch_size=2, **CPU)
    shown = tiles(read("way.png"), 7, captions=True)
    for image, tile in zip((way.originals[0], *way.images, way.originals[1]), shown, strict=True):
        np.testing.assert_array_equal((image[0] * 255).round().byte(), tile)
