from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

import img2img
from img2img.anomaly.maps import MapFiles
from img2img.tasks import Autoencoder
from img2img.tasks.thresholds import Threshold

CPU = {"accelerator": "cpu", "devices": 1}


def coloured(overlay: str) -> np.ndarray:
    """Where an overlay of a gray image is red, H×W: what exceeds the threshold, and a line of one pixel around it."""
    pixels = np.array(Image.open(overlay)).astype(int)
    return np.ptp(pixels, axis=2) > 0


def with_border(where: np.ndarray, width: int) -> np.ndarray:
    """Pixels, H×W, and those around them."""
    return cv2.dilate(where.astype(np.uint8), np.ones((2 * width + 1,) * 2, np.uint8)) > 0


@pytest.fixture
def earlier(linear) -> Autoencoder:
    """The model as the earliest versions calibrated it: overlays go by the threshold of the map's pixels alone."""
    known = linear.statistics.thresholds
    pixels = {name: limit for name, limit in known.pixels.items() if name not in ("contrast", "marks")}
    linear.statistics = replace(linear.statistics, thresholds=replace(known, pixels=pixels))
    return linear


def test_maps_are_as_large_as_the_images_and_bright_on_the_square(earlier, parts):
    odd = parts / "good" / "00.tif"  # a name that two images share
    Image.open(parts / "good" / "00.png").save(odd)
    img2img.score(parts, None, earlier, maps="maps", **CPU)
    found = sorted(path.relative_to("maps").as_posix() for path in Path("maps").rglob("*.map.png"))
    assert found[:3] == ["good/00.png.map.png", "good/00.tif.map.png", "good/01.map.png"]
    assert len(found) == 13
    values = np.array(Image.open("maps/spot/01.map.png")).astype(float) / 65535
    assert values.shape == (32, 42)
    assert values[9:15, 22:28].mean() > 3 * np.median(values)
    overlay = np.array(Image.open("maps/spot/01.overlay.png")).astype(int)
    photo = np.array(Image.open(parts / "spot" / "01.jpg")).astype(int)
    assert overlay.shape == (32, 42, 3)
    assert (overlay[12, 25, 0] - overlay[12, 25, 2]) > 50  # red
    threshold = earlier.statistics.thresholds.pixels["map"].value
    beyond, within = values**2 > threshold * 1.01, ~with_border(values**2 > threshold * 0.99, 2)
    assert beyond[12, 25]
    assert coloured("maps/spot/01.overlay.png")[beyond].all()
    assert within.mean() > 0.5
    assert (overlay[within] == photo[within][:, None]).all()
    text = Path("maps/README.txt").read_text()
    assert "65535 is 1" in text
    assert f"- {threshold:.3g}.\n99% of the pixels of held-out normal images do not exceed" in text
    assert "times its mean" not in text


def test_overlays_also_show_what_stands_out_of_its_own_image(linear, parts):
    img2img.score(parts, None, linear, maps="maps", **CPU)
    limits = linear.statistics.thresholds.pixels
    threshold, contrast = (limits["marks"].value * limits[name].value for name in ("map", "contrast"))
    assert "50% of the held-out normal images have no red at all" in Path("maps/README.txt").read_text()
    assert f"{contrast:.3g} times its mean over the same image" in Path("maps/README.txt").read_text()
    for i in range(6):
        values = np.array(Image.open(f"maps/spot/{i:02}.map.png")).astype(float) / 65535
        relative = values**2 / np.mean(values**2)  # the mean of the enlarged map is about that of the map
        shown = coloured(f"maps/spot/{i:02}.overlay.png")
        assert shown[(values**2 > threshold * 1.01) | (relative > contrast * 1.2)].all()
        assert not shown[~with_border((values**2 > threshold * 0.99) | (relative > contrast * 0.8), 1)].any()


def test_a_faint_defect_in_a_well_reconstructed_image_is_marked_by_its_contrast(tmp_path):
    path = tmp_path / "in" / "a.png"
    path.parent.mkdir()
    Image.fromarray(np.full((20, 30), 128, np.uint8)).save(path)
    values = np.full((20, 30), 0.001, np.float32)
    values[5:8, 6:9] = 0.006
    limits = {"map": Threshold(0.01, 0.99), "contrast": Threshold(4.0, 0.99)}
    for folder, known in (("both", limits), ("map", {"map": limits["map"]})):
        files = MapFiles(tmp_path / folder, path.parent, [path], known)
        files.write(str(path), values, values / values.mean())
        assert not files.problems
        shown = coloured(str(tmp_path / folder / "a.overlay.png"))
        assert shown[5:8, 6:9].all() == (folder == "both")
        assert shown.sum() == (25 if folder == "both" else 0), "3×3 pixels, and a line around them"
    files = MapFiles(tmp_path / "own", path.parent, [path], limits)
    files.write(str(path), values)  # a model whose maps compare between images
    assert not coloured(str(tmp_path / "own" / "a.overlay.png")).any()
