import albumentations
import numpy as np
import pytest

from img2img.corruptions import Fading
from img2img.data.pairs import apply, compose
from img2img.data.stream import draws_of_sample


def faded(transform, image, n=0):
    return apply(compose([transform]), image, draws_of_sample(0, n))


@pytest.fixture
def image(photo):
    return photo.astype(np.float32) / 255


def test_density_is_lost_in_proportion():
    ramp = np.linspace(0.01, 1, 256, dtype=np.float32).reshape(1, -1, 1).repeat(3, 2)
    result = faded(Fading(strength=0.4, cast=0, stain=0), ramp)
    np.testing.assert_allclose(np.log10(result), 0.6 * np.log10(ramp), atol=1e-5)


def test_blacks_are_lifted_and_whites_stay_until_the_paper_yellows(image):
    black, white = np.zeros((2, 2, 3), np.float32), np.ones((2, 2, 3), np.float32)
    assert faded(Fading(0.5, 0, 0), black).min() > 0.05
    np.testing.assert_array_equal(faded(Fading(0.5, 0.5, 0), white), white)
    red, green, blue = faded(Fading(0.5, 0, 0.2), white)[0, 0]
    assert red > green > blue == pytest.approx(0.8)
    assert faded(Fading(0.5, 0, 0), image).std() < image.std(), "contrast is lost"


def test_dyes_fade_at_their_own_rates():
    gray = np.full((1, 1, 3), 0.3, np.float32)
    casts = np.array([np.log(faded(Fading(0.4, 0.5, 0), gray, n)[0, 0]) / np.log(0.3) for n in range(200)])
    assert casts.min() >= 1 - 0.4 * 1.5 - 1e-5
    assert casts.max() <= 1 - 0.4 * 0.5 + 1e-5
    np.testing.assert_allclose(casts.mean(0), 0.6, atol=0.03)
    assert abs(np.corrcoef(casts[:, 0], casts[:, 1])[0, 1]) < 0.2
    assert np.ptp(faded(Fading(0.4, 0, 0), gray)) == 0


def test_nothing_happens_at_zero(image):
    np.testing.assert_allclose(faded(Fading(0, 1, 0), image), image, atol=1 / 255 + 1e-6)


@pytest.mark.parametrize("shape", [(1, 1, 3), (3, 200, 1), (8, 8)])
def test_any_size_and_gray(shape):
    image = np.random.default_rng(0).random(shape, np.float32)
    result = Fading()(image=image)["image"]
    assert result.dtype == np.float32
    assert result.shape == shape
    assert (result > 0).all()


def test_it_is_a_function_of_its_draws_and_stays_in_range(image):
    one, again, other = (faded(Fading(), image * 1.4 - 0.2, n) for n in (3, 3, 4))
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)
    assert one.min() >= 0
    assert one.max() <= 1
    with pytest.raises(TypeError, match="Fading needs a float32 image"):
        faded(Fading(), (image * 255).astype(np.int32))


def test_it_works_in_random_order_with_the_rest_of_an_old_photograph(image):
    aged = albumentations.RandomOrder(
        [Fading(), albumentations.GaussianBlur(p=1), albumentations.ImageCompression(quality_range=(30, 60), p=1)], n=3
    )
    one, other = (faded(aged, image, n) for n in (0, 1))
    assert one.dtype == np.float32
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("argument", ["strength", "cast", "stain"])
@pytest.mark.parametrize("value", [-0.1, 1.5, (0.5, 0.2)])
def test_impossible_arguments_are_refused(argument, value):
    with pytest.raises(ValueError, match=rf"{argument} must be a number in \[0, 1\]"):
        Fading(**{argument: value})
