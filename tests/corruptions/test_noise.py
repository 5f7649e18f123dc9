import albumentations
import numpy as np
import pytest

from img2img.corruptions import Clip, CorrelatedNoise, GaussianNoise, PoissonGaussianNoise, SpeckleNoise
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


def test_images_of_8_bits_stay_so_and_others_are_refused():
    noisy = changed(GaussianNoise(25), np.full((64, 64, 3), 128, np.uint8))
    assert noisy.dtype == np.uint8
    assert 24 < noisy.std() < 26
    with pytest.raises(TypeError, match="float32"):
        noise(25, np.zeros((8, 8, 3), np.int32))


def changed(transform, image, n=0):
    return apply(compose([transform]), image, draws_of_sample(0, n))


@pytest.mark.parametrize("level", [0.0, 0.1, 0.5, 0.95])
def test_camera_noise_has_the_variance_of_photons_and_read_out(level):
    gain, read = 4, 6
    image = np.full((500, 500, 3), level, np.float32)
    drawn = changed(PoissonGaussianNoise(gain, read), image) - image
    expected = np.sqrt(gain * level * 255 + read**2) / 255
    assert drawn.std() == pytest.approx(expected, rel=0.01)
    assert abs(drawn.mean()) < 4 * expected / np.sqrt(drawn.size)


def test_photons_are_counted_in_whole_numbers():
    counted = changed(PoissonGaussianNoise(gain=5, read=0), np.full((50, 50, 3), 0.3, np.float32)) * 255 / 5
    np.testing.assert_allclose(counted, np.round(counted), atol=1e-4)
    assert len(np.unique(np.round(counted))) > 10


def test_without_gain_camera_noise_is_gaussian():
    image = np.full((300, 300, 3), 0.5, np.float32)
    assert (changed(PoissonGaussianNoise(0, 10), image) - image).std() * 255 == pytest.approx(10, rel=0.01)


@pytest.mark.parametrize("level", [0.2, 0.9])
def test_speckle_grows_with_brightness(level):
    image = np.full((300, 300, 3), level, np.float32)
    drawn = changed(SpeckleNoise(0.3), image) - image
    assert drawn.std() == pytest.approx(0.3 * level, rel=0.01)
    assert changed(SpeckleNoise(0.3), np.zeros_like(image)).max() == 0


@pytest.mark.parametrize("radius", [0.0, 0.7, 2.0])
def test_correlated_noise_keeps_its_sigma_everywhere_and_is_shared_by_neighbours(radius):
    stacked = np.stack([changed(CorrelatedNoise(20, radius), np.zeros((40, 60, 3), np.float32), n) for n in range(200)])
    assert stacked.std() * 255 == pytest.approx(20, rel=0.02)
    assert stacked[:, 0].std() * 255 == pytest.approx(20, rel=0.05), "the border is as noisy as the middle"
    neighbours = np.corrcoef(stacked[:, :, 1:].ravel(), stacked[:, :, :-1].ravel())[0, 1]
    # the autocorrelation of white noise under a Gaussian of this radius, sampled, at a distance of one pixel
    expected = {0.0: 0.0, 0.7: np.exp(-1 / (4 * 0.7**2)), 2.0: np.exp(-1 / (4 * 2.0**2))}[radius]
    assert neighbours == pytest.approx(expected, abs=0.03)
    assert abs(np.corrcoef(stacked[..., 0].ravel(), stacked[..., 1].ravel())[0, 1]) < 0.02


def test_clip_leaves_what_a_file_holds(photo):
    image = photo.astype(np.float32) / 255
    pipeline = compose([GaussianNoise(50), Clip()])
    saved = apply(pipeline, image, draws_of_sample(0, 0))
    levels = saved * 255
    assert saved.min() == 0
    assert saved.max() == 1
    np.testing.assert_allclose(levels, np.round(levels), atol=1e-4)
    np.testing.assert_array_equal(changed(Clip(), image), image)
    with pytest.raises(ValueError, match="at least 2"):
        Clip(1)


@pytest.mark.parametrize("transform", [PoissonGaussianNoise, SpeckleNoise, CorrelatedNoise])
def test_every_noise_is_a_function_of_its_draws_and_not_clipped(transform, photo):
    image = photo.astype(np.float32) / 255
    one, again, other = (changed(transform(), image, n) for n in (3, 3, 4))
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)
    assert one.shape == image.shape
    assert one.dtype == np.float32
    assert one.max() > 1
    with pytest.raises(ValueError, match="must be a number >= 0"):
        transform((3, 1))


def test_one_sigma_draws_the_same_numbers_as_ever():
    image = np.full((5, 4, 3), 0.5, np.float32)
    generator, _ = draws_of_sample(0, 7)
    sigma = generator.uniform(10, 50)
    expected = image + generator.standard_normal(image.shape, dtype=np.float32) * np.float32(sigma / 255)
    np.testing.assert_array_equal(changed(GaussianNoise((10, 50)), image, 7), expected)


@pytest.mark.parametrize("shape", [(96, 128, 3), (96, 128, 1)])
def test_a_sigma_map_varies_smoothly_within_its_range(shape):
    def levels(n):
        """Sigma by boxes of 32×32 pixels."""
        drawn = changed(
            GaussianNoise((10, 60), map_size=3), np.zeros((shape[0] * 4, shape[1] * 4, shape[2]), np.float32), n
        )
        return drawn.reshape(12, 32, 16, 32, -1).std((1, 3, 4)) * 255

    drawn = np.stack([levels(n) for n in range(8)])
    assert drawn.min() > 8
    assert drawn.max() < 64
    assert np.mean(drawn.max((1, 2)) / drawn.min((1, 2))) > 2, "it varies over the image"
    assert np.abs(np.diff(drawn, axis=2)).max() < 20, "smoothly"
    assert np.std(drawn[:, 0, 0]) > 3, "and from draw to draw"


def test_a_sigma_map_of_one_is_one_sigma_and_any_size_of_image_works():
    drawn = changed(GaussianNoise(25, map_size=4), np.zeros((300, 300, 3), np.float32))
    assert drawn.std() * 255 == pytest.approx(25, rel=0.01)
    for shape in ((1, 1, 3), (3, 200, 1), (5, 5)):
        assert GaussianNoise(map_size=8)(image=np.zeros(shape, np.float32))["image"].shape == shape
    with pytest.raises(ValueError, match="map_size must be at least 1"):
        GaussianNoise(map_size=0)
