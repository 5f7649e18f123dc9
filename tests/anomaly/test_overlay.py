import cv2
import numpy as np
import pytest

from img2img.anomaly.overlay import draw_overlay, times_threshold
from img2img.tasks.thresholds import Threshold


def reddened(overlay: np.ndarray, image: np.ndarray) -> np.ndarray:
    """By how much red grows against green, H×W."""
    before, after = (
        pixels[..., 0].astype(int) - pixels[..., 1] for pixels in (np.broadcast_to(image, overlay.shape), overlay)
    )
    return after - before


@pytest.mark.parametrize("level", [0, 100, 255])
def test_what_exceeds_the_threshold_is_red_and_the_rest_stays_as_it_is(level):
    image, times = np.full((60, 80, 1), level, np.uint8), np.zeros((60, 80), np.float32)
    times[20:40, 30:50], times[25:35, 35:45], times[:, 70:] = 2, 100, 1
    overlay = draw_overlay(image, times)
    red = reddened(overlay, image)
    assert (red[20:40, 30:50] > 10).all()
    assert red[30, 40] > red[22, 32] > 10, "more is redder"
    assert red[19, 40] > 1.5 * red[30, 40], "the line around it is the strongest"
    changed = (overlay != image).any(2)
    assert not changed[:18].any()
    assert not changed[:, 52:].any(), "the threshold itself is not exceeded"


def test_the_defect_stays_visible_under_the_red_and_is_not_covered_by_the_line():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (40, 40, 3), np.uint8)
    times = np.zeros((40, 40), np.float32)
    times[10:30, 10:30] = 50
    inside = draw_overlay(image, times)[10:30, 10:30]
    assert np.corrcoef(inside[..., 1].ravel(), image[10:30, 10:30, 1].ravel())[0, 1] > 0.99
    assert inside[..., 1].std() > 0.4 * image[..., 1].std()


def test_a_single_pixel_shows_on_a_large_red_image():
    image = np.full((1600, 1600, 3), (200, 40, 40), np.uint8)
    times = np.zeros((1600, 1600), np.float32)
    times[800, 800] = 2
    overlay = draw_overlay(image, times).astype(int)
    ring = np.abs(overlay - image).max(2) > 60
    assert ring.sum() >= 100, "a light line around the red one"
    assert ring[800 - 20 : 800 + 21, 800 - 20 : 800 + 21].sum() == ring.sum()


def test_images_of_16_bits_and_floats_look_like_those_of_8():
    image, times = np.arange(0, 250, 10, np.uint8).reshape(5, 5, 1), np.eye(5, dtype=np.float32) * 3
    expected = draw_overlay(image, times)
    assert (draw_overlay(image.astype(np.uint16) * 257, times) == expected).all()
    assert (draw_overlay(image.astype(np.float32) / 255, times) == expected).all()


def test_the_larger_of_map_and_contrast_counts():
    limits = {"map": Threshold(0.5, 0.99), "contrast": Threshold(4.0, 0.99)}
    values, contrast = np.array([[0.25, 1.0]], np.float32), np.array([[8.0, 2.0]], np.float32)
    assert times_threshold(values, contrast, limits, (1, 2)).tolist() == [[2, 2]]
    assert times_threshold(values, None, limits, (1, 2)).tolist() == [[0.5, 2]]
    assert times_threshold(values, contrast, {"map": limits["map"]}, (1, 2)).tolist() == [[0.5, 2]]
    twice = limits | {"marks": Threshold(2.0, 0.5)}
    assert times_threshold(values, contrast, twice, (1, 2)).tolist() == [[1, 1]], "of both limits"
    large = times_threshold(values, None, limits, (10, 20))
    assert large.shape == (10, 20)
    assert large[5, 0] == 0.5
    assert large[5, -1] == cv2.resize(values, (20, 10))[5, -1] / 0.5
