"""Copies are found in whatever form they come back; other photographs of the same kind of thing are not."""

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from img2img.data.near_duplicates import SIDE, KnownImages, fingerprint, fingerprints
from tests.conftest import STARTER

TILE = 120
BORDER = 6


def tiles(name: str = "gravel-1.png") -> list[np.ndarray]:
    """Pieces of one photograph that do not overlap: different things of one kind, H×W×1."""
    photo = np.array(Image.open(next(STARTER.rglob(name))).convert("L"))[..., None]
    height, width = photo.shape[:2]
    corners = [(y, x) for y in range(0, height - TILE + 1, TILE) for x in range(0, width - TILE + 1, TILE)]
    return [photo[y : y + TILE, x : x + TILE] for y, x in corners]


def encoded(pixels: np.ndarray, quality: int) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_GRAYSCALE)


def lit(pixels: np.ndarray, contrast: float, brightness: float) -> np.ndarray:
    return np.clip(pixels * contrast + brightness, 0, 255).astype(np.uint8)


def shaded(pixels: np.ndarray) -> np.ndarray:
    """The same thing with light from the left."""
    return lit(pixels, 1, 0) * np.linspace(1, 0.6, pixels.shape[1])[None, :, None]


CHANGES = {
    "copy": lambda pixels: pixels,
    "encoded": lambda pixels: encoded(pixels, 50),
    "brighter": lambda pixels: lit(pixels, 0.9, 15),
    "darker": lambda pixels: lit(pixels, 0.7, 0),
    "smaller": lambda pixels: cv2.resize(pixels, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
    "larger": lambda pixels: cv2.resize(pixels, None, fx=1.7, fy=1.7, interpolation=cv2.INTER_CUBIC),
    "float": lambda pixels: (pixels / 255).astype(np.float32),
    "deep": lambda pixels: pixels.astype(np.uint16) * 257,
    "colour": lambda pixels: np.repeat(pixels, 3, 2),
    "shifted": lambda pixels: pixels[4:, :-3],
    "cropped": lambda pixels: pixels[3:-4, 2:-4],
    "cropped and encoded": lambda pixels: encoded(lit(pixels[3:, :-4], 0.9, 10), 70),
    "in other light": shaded,
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_photograph_is_found_again(change):
    originals = tiles()
    known = KnownImages(np.stack([fingerprint(pixels) for pixels in originals]))
    for number, pixels in enumerate(originals):
        match = known.match(fingerprint(CHANGES[change](pixels)))
        assert match is not None
        assert match.number == number
        if change in ("copy", "float", "deep", "colour"):
            assert match.copy
        elif "cropped" in change or change == "shifted":
            assert not match.copy


def test_other_things_of_the_same_kind_are_none():
    for name in ("gravel-1.png", "wine-1.png"):
        pieces = [fingerprint(pixels) for pixels in tiles(name)]
        known = KnownImages(np.stack(pieces[::2]))
        assert [known.match(other) for other in pieces[1::2]] == [None] * len(pieces[1::2])


def test_flat_and_tiny_images_match_nothing():
    flat = [np.full((20, 30, 3), value, np.uint8) for value in (0, 7, 255)] + [np.ones((1, 1), np.float32)]
    known = KnownImages(np.stack([fingerprint(pixels) for pixels in (*flat, tiles()[0])]))
    for pixels in flat:
        assert known.match(fingerprint(pixels)) is None
    assert known.match(fingerprint(tiles()[0][:2, :2])) is None


def test_a_batch_is_compared_as_its_images_are():
    first, second = tiles()[:2]
    known = KnownImages(torch.from_numpy(fingerprint(first)[None]))
    batch = torch.stack([torch.from_numpy(pixels / 255).permute(2, 0, 1) for pixels in (first, second)])
    assert fingerprints(batch).shape == (2, SIDE, SIDE)
    found = known.match_all(batch)
    assert found[0] is not None
    assert found[0].copy
    assert found[1] is None
    assert KnownImages(None).match_all(batch) == [None, None]
    assert KnownImages(None).match(fingerprint(first)) is None
