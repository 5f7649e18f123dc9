"""What is measured of each file."""

import numpy as np
import pytest

from img2img.inference.measures import Measures


def measured(before, after, scale=1, **more):
    measures = Measures(scale)
    rows = len(before) // 2
    for part in (slice(0, rows), slice(rows, None)):
        out = slice(part.start * scale, None if part.stop is None else part.stop * scale)
        measures.add(before[part], after[out], more.get("sigma"), more.get("white", 1.0), more.get("hole"))
    return measures.result()


@pytest.mark.parametrize("sigma", [10, 25])
def test_noise_that_a_perfect_model_removes_explains_the_change(photo, sigma):
    clean = photo.astype(np.float32) / 255 * 0.4 + 0.3  # away from both ends, where noise is cut off
    noisy = clean + np.random.default_rng(0).normal(0, sigma / 255, clean.shape).astype(np.float32)
    found = measured(noisy, clean)
    assert found["noise"] == pytest.approx(sigma / 255, rel=0.15), "the photograph's own detail adds a little"
    assert found["change"] == pytest.approx(sigma / 255, rel=0.02)
    assert found["clipped"] == 0
    assert found["spread"] == pytest.approx(clean.var(axis=(0, 1)).mean() ** 0.5, abs=1e-3)


def test_the_depth_and_the_size_of_the_output_do_not_matter(photo):
    darker = (photo // 2).astype(np.uint8)
    found = measured(photo, darker)
    deep = measured(photo.astype(np.uint16) * 257, darker.astype(np.uint16) * 257)
    large = measured(photo, darker.repeat(2, axis=0).repeat(2, axis=1), scale=2)
    for name, value in found.items():
        assert deep[name] == pytest.approx(value, abs=1e-4)
        assert large[name] == pytest.approx(value, abs=1e-4)


def test_values_are_clipped_only_if_they_were_clearly_neither_black_nor_white(photo):
    middle = np.full((40, 40, 3), 128, np.uint8)
    half = middle.copy()
    half[:20] = 255
    assert measured(middle, half)["clipped"] == 0.5
    near = np.full((40, 40, 3), 253, np.uint8)
    assert measured(near, np.full_like(near, 255))["clipped"] == 0


def test_the_luma_counts_where_gray_became_coloured(photo):
    gray = np.rint(photo.astype(float) @ [0.299, 0.587, 0.114])[..., None].astype(np.uint8)
    assert measured(gray, photo)["change"] < 0.6 / 255
    assert measured(gray.repeat(3, axis=2), photo)["change"] < 0.6 / 255, "gray that is stored in three channels"


def test_sigma_holes_and_images_of_one_pixel(photo):
    found = measured(photo, photo, sigma=np.full((160, 320, 1), 6554, np.uint16), white=0.25, hole=0.25)
    assert found["sigma"] == pytest.approx(0.025, rel=1e-3)
    assert found["hole"] == 0.25
    single = Measures(1)
    single.add(photo[:1, :1], photo[:1, :1], None, 1.0, None)
    assert single.result() == {"change": 0, "clipped": 0, "spread": 0, "spread_before": 0}


def test_a_large_tile_is_measured_like_its_small_tiles(photo):
    large = np.tile(photo, (3, 3, 1))
    noisy = np.clip(large + np.random.default_rng(0).normal(0, 20, large.shape), 0, 255).astype(np.uint8)
    whole = Measures(1)
    whole.add(noisy, large, None, 1.0, None)
    parts = measured(noisy, large)
    for name, value in whole.result().items():
        assert value == pytest.approx(parts[name], rel=0.05, abs=2e-3), name
