import albumentations
import numpy as np
import pytest

from img2img.corruptions import GaussianNoise
from img2img.data.pairs import apply, compose
from img2img.data.stream import draws_of_sample


def noise(sigma, image, n=0):
    return apply(compose([GaussianNoise(sigma)]), image, draws_of_sample(0, n)) - image


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_mean_and_sigma_are_right_even_at_black_and_white(level):
    image = np.full((400, 400, 3), level, np.float32)
    drawn = noise(25, image)
    assert abs(drawn.mean()) < 4 * 25 / 255 / np.sqrt(drawn.size)
    assert drawn.std() == pytest.approx(25 / 255, rel=0.01)


def test_noise_is_not_clipped_and_normal(photo):
    image = photo.astype(np.float32) / 255
    noisy = image + noise(50, image)
    assert noisy.min() < -0.1
    assert noisy.max() > 1.1
    drawn = (noisy - image) / (50 / 255)
    assert np.mean(drawn**4) == pytest.approx(3, rel=0.05)  # the fourth moment of a normal distribution


def test_sigma_is_drawn_uniformly_from_its_range():
    image = np.zeros((64, 64, 3), np.float32)
    sigmas = [noise((0, 55), image, n).std() * 255 for n in range(300)]
    assert np.mean(sigmas) == pytest.approx(27.5, abs=3)
    assert np.std(sigmas) == pytest.approx(55 / np.sqrt(12), abs=2)
    assert min(sigmas) < 4
    assert max(sigmas) > 51


def test_channels_and_pixels_are_independent():
    drawn = noise(25, np.zeros((200, 200, 3), np.float32))
    assert abs(np.corrcoef(drawn[..., 0].ravel(), drawn[..., 1].ravel())[0, 1]) < 0.02
    assert abs(np.corrcoef(drawn[:, 1:].ravel(), drawn[:, :-1].ravel())[0, 1]) < 0.02


def test_two_noises_in_one_pipeline_are_different_numbers():
    image = np.zeros((100, 100, 3), np.float32)
    once = noise(25, image)
    twice = apply(compose([GaussianNoise(25), GaussianNoise(25)]), image, draws_of_sample(0, 0))
    assert twice.std() == pytest.approx(once.std() * np.sqrt(2), rel=0.03)  # the same numbers would double it


def test_it_works_within_albumentations_compositions():
    pipeline = compose([albumentations.OneOf([GaussianNoise(10), GaussianNoise(50)], p=1.0)])
    image = np.zeros((64, 64, 3), np.float32)
    sigmas = {round(apply(pipeline, image, draws_of_sample(0, n)).std() * 255, -1) for n in range(20)}
    assert sigmas == {10, 50}


@pytest.mark.parametrize("sigma", [-1, (30, 10), (-5, 5)])
def test_impossible_sigmas_are_refused(sigma):
    with pytest.raises(ValueError, match="sigma must be"):
        GaussianNoise(sigma)


def test_integer_images_are_refused():
    with pytest.raises(TypeError, match="float32"):
        noise(25, np.zeros((8, 8, 3), np.uint8))
