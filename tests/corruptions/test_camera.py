"""A sensor's noise after the camera has developed it, and JPEG."""

import io

import numpy as np
import pytest
from PIL import Image

from img2img.corruptions import JPEG, CameraNoise, ChromaNoise, GaussianNoise
from img2img.data.pairs import apply, compose
from img2img.data.stream import draws_of_sample


def noise_of(transform, image: np.ndarray, n: int = 0) -> np.ndarray:
    return apply(compose([transform]), image, draws_of_sample(0, n)) - image


@pytest.fixture
def middle_gray() -> np.ndarray:
    return np.full((128, 128, 3), 0.45, np.float32)


def test_red_and_blue_are_noisier_than_green_and_neighbours_share_noise(middle_gray):
    noise = noise_of(CameraNoise(shot=0.004, reduction=0, luma_radius=0, chroma_radius=0), middle_gray)
    red, green, blue = noise.std(axis=(0, 1))
    assert red > 1.1 * green
    assert blue > 1.1 * green
    neighbours = np.corrcoef(noise[:, :-1, 1].ravel(), noise[:, 1:, 1].ravel())[0, 1]
    assert 0.1 < neighbours < 0.6
    assert np.abs(noise.mean(axis=(0, 1))).max() < 0.004


def test_more_light_per_photon_is_more_noise_and_none_is_none(middle_gray, photo):
    weak, strong = (noise_of(CameraNoise(shot=shot), middle_gray).std() for shot in (1e-4, 1e-2))
    assert strong > 5 * weak
    assert 0 < weak < 0.02
    image = photo.astype(np.float32) / 255
    assert np.abs(noise_of(CameraNoise(shot=0), image)).max() < 1e-4


def test_the_cameras_noise_reduction_leaves_weaker_and_coarser_noise(middle_gray):
    def luma_and_chroma(**radii: float) -> tuple[np.ndarray, np.ndarray]:
        noise = noise_of(CameraNoise(shot=0.004, reduction=0, **radii), middle_gray)
        luma = noise @ np.array([0.299, 0.587, 0.114])
        return luma, noise - luma[..., None]

    luma, chroma = luma_and_chroma(luma_radius=0, chroma_radius=0)
    coarse_luma, same_chroma = luma_and_chroma(luma_radius=1, chroma_radius=0)
    same_luma, coarse_chroma = luma_and_chroma(luma_radius=0, chroma_radius=2)
    assert np.allclose(same_luma, luma, atol=1e-6)
    assert np.allclose(same_chroma, chroma, atol=1e-6)
    assert coarse_luma.std() < 0.6 * luma.std()
    assert coarse_chroma.std() < 0.4 * chroma.std()
    assert np.corrcoef(coarse_luma[:, :-2].ravel(), coarse_luma[:, 2:].ravel())[0, 1] > 0.4


def test_the_cameras_noise_reduction_spares_the_edges(middle_gray):
    stripes = middle_gray.copy()
    stripes[:, [x for x in range(64, 128) if x // 4 % 2]] *= 0.7  # edges on the right alone

    def left_and_right(reduction: float) -> np.ndarray:
        noise = noise_of(CameraNoise(shot=0.002, reduction=reduction, luma_radius=0), stripes)
        luma = noise @ np.array([0.299, 0.587, 0.114])
        return np.array([luma[:, 5:54].std(), luma[:, 74:123].std()])

    untreated, reduced = left_and_right(0), left_and_right(2)
    flat, edges = reduced / untreated
    assert flat < 0.5
    assert edges > 0.8


def test_a_sensor_sees_in_colour():
    with pytest.raises(ValueError, match=r"needs RGB images .*not 1 channel"):
        noise_of(CameraNoise(), np.zeros((8, 8, 1), np.float32))


def test_chroma_noise_leaves_the_luma(middle_gray):
    noise = noise_of(ChromaNoise(sigma=20), middle_gray)
    assert np.abs(noise @ np.array([0.299, 0.587, 0.114])).max() < 1e-5
    assert noise.std() * 255 > 5
    assert (noise_of(ChromaNoise(sigma=20), middle_gray[..., :1]) == 0).all()


def test_a_gray_photograph_gets_gray_noise_and_a_coloured_one_does_not(photo):
    colour = photo.astype(np.float32) / 255
    gray = np.repeat(colour[..., :1], 3, axis=2)
    noise = noise_of(GaussianNoise(25, match_gray=True), gray)
    assert (noise.max(axis=2) - noise.min(axis=2)).max() < 1e-6
    assert noise.std() * 255 == pytest.approx(25, rel=0.02)
    assert (noise_of(GaussianNoise(25, match_gray=True), colour) == noise_of(GaussianNoise(25), colour)).all()


@pytest.mark.parametrize("quality", [30, 75, 95])
def test_jpeg_is_what_other_programs_write(photo, quality):
    file = io.BytesIO()
    Image.fromarray(photo).save(file, "JPEG", quality=quality)
    written = np.asarray(Image.open(file)).astype(np.float32) / 255
    compressed = photo.astype(np.float32) / 255 + noise_of(JPEG(quality), photo.astype(np.float32) / 255)
    assert np.abs(compressed - written).mean() < 0.1 / 255


def test_jpeg_takes_gray_images_and_names_a_wrong_quality(photo):
    gray = photo[..., :1].astype(np.float32) / 255
    few, many = (np.abs(noise_of(JPEG(quality), gray)).mean() for quality in (10, 90))
    assert few > 3 * many > 0
    with pytest.raises(ValueError, match=r"quality must be a number in \[1, 100\]"):
        JPEG((50, 101))
