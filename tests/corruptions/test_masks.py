import albumentations
import numpy as np
import pytest

from img2img.corruptions import BlindSpots, Clip, GaussianNoise, RandomPixels, Scratches, Strokes, TextMask
from img2img.data.pairs import compose
from img2img.data.stream import draws_of_sample

EVERY = [RandomPixels, Strokes, Scratches, TextMask, BlindSpots]


def masked(transforms, image, n=0, mask=None):
    """Returns the damaged image and its mask."""
    pipeline = compose(transforms if isinstance(transforms, list) else [transforms])
    pipeline.set_random_state(*draws_of_sample(0, n))
    mask = np.zeros(image.shape[:2], np.uint8) if mask is None else mask
    result = pipeline(image=image, mask=mask)
    return result["image"], result["mask"]


def shares(transform, shape, draws=20):
    return [masked(transform, np.ones(shape, np.float32), n)[1].mean() for n in range(draws)]


@pytest.fixture
def image(photo):
    """Real, float, and in places outside [0, 1], as after unclipped noise."""
    return photo[100:196, 80:200].astype(np.float32) / 255 * 1.4 - 0.2


@pytest.mark.parametrize("transform", EVERY)
def test_outside_the_hole_the_image_is_equal_to_the_bit(transform, image):
    original = image.copy()
    damaged, mask = masked(transform(), image)
    assert np.array_equal(image, original), "the image passed in is left alone"
    assert damaged.dtype == np.float32
    assert damaged.shape == image.shape
    assert mask.dtype == np.uint8
    assert set(np.unique(mask)) == {0, 1}
    np.testing.assert_array_equal(damaged[mask == 0], image[mask == 0])
    assert image[mask == 0].max() > 1, "and nothing was clipped"


@pytest.mark.parametrize("transform", [RandomPixels, Strokes, TextMask])
def test_the_hole_holds_the_fill_and_nothing_else_does(transform, image):
    damaged, mask = masked(transform(fill=-7.5), image)
    np.testing.assert_array_equal((damaged == -7.5).all(2), mask == 1)
    np.testing.assert_array_equal((damaged == -7.5).any(2), mask == 1)


@pytest.mark.parametrize("transform", EVERY)
def test_it_is_a_function_of_its_draws_and_works_without_a_mask(transform, image):
    (one, mask), (again, _), (other, other_mask) = (masked(transform(), image, n) for n in (3, 3, 4))
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(mask, other_mask)
    assert not np.array_equal(one, other)
    pipeline = compose([transform()])
    pipeline.set_random_state(*draws_of_sample(0, 3))
    np.testing.assert_array_equal(pipeline(image=image)["image"], one)


@pytest.mark.parametrize("transform", EVERY)
@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 1, 1), (3, 200, 3), (200, 3, 1), (40, 50, 1), (40, 50)])
def test_any_size_gray_or_colour(transform, shape):
    image = np.random.default_rng(0).random(shape, np.float32)
    for n in range(5):
        damaged, mask = masked(transform(), image, n)
        assert damaged.shape == shape
        np.testing.assert_array_equal(damaged[mask == 0], image[mask == 0])


@pytest.mark.parametrize("transform", EVERY)
def test_images_of_8_bits_stay_so_and_others_are_refused(transform, photo):
    damaged, mask = masked(transform(), photo)
    assert damaged.dtype == np.uint8
    assert mask.any()
    np.testing.assert_array_equal(damaged[mask == 0], photo[mask == 0])
    with pytest.raises(TypeError, match=f"{transform.__name__} needs a float32 image"):
        masked(transform(), photo.astype(np.int32))


def test_holes_add_up_with_those_of_albumentations(image):
    boxes = albumentations.CoarseDropout(fill=0, fill_mask=1, num_holes_range=(2, 2), p=1)
    damaged, mask = masked([boxes, Strokes(coverage=0.1), RandomPixels(0.1)], image)
    np.testing.assert_array_equal((damaged == 0).all(2), mask == 1)
    np.testing.assert_array_equal(damaged[mask == 0], image[mask == 0])
    before = np.eye(96, 120, dtype=np.uint8)
    assert masked([RandomPixels(0.1)], image, mask=before)[1][before == 1].all(), "holes that exist already stay"
    assert masked([boxes, Strokes()], image)[1].mean() > masked([boxes], image)[1].mean()


def test_it_works_within_albumentations_compositions_and_under_noise(image):
    either = albumentations.OneOf([RandomPixels(0.9), Strokes(coverage=0.1)], p=1.0)
    drawn = {round(masked([either], image, n)[1].mean(), 1) for n in range(12)}
    assert drawn == {0.1, 0.9}
    noisy, mask = masked([RandomPixels(0.5), GaussianNoise(25), Clip()], image)
    assert 0.4 < mask.mean() < 0.6
    assert len(np.unique(noisy[mask == 1])) > 30, "what stands later in the pipeline changes the hole as well"
    assert {masked([RandomPixels(p=0.5)], image, n)[1].any() for n in range(12)} == {True, False}


def test_random_pixels_have_the_share_asked_for_independently_of_each_other():
    _, mask = masked(RandomPixels(0.8), np.ones((400, 400, 3), np.float32))
    assert mask.mean() == pytest.approx(0.8, abs=0.005)
    assert abs(np.corrcoef(mask[:, 1:].ravel(), mask[:, :-1].ravel())[0, 1]) < 0.01
    drawn = shares(RandomPixels((0.2, 0.6)), (64, 64, 1), 200)
    assert np.mean(drawn) == pytest.approx(0.4, abs=0.03)
    assert min(drawn) < 0.25
    assert max(drawn) > 0.55


@pytest.mark.parametrize("shape", [(96, 96, 1), (320, 320, 1), (512, 768, 1)])
@pytest.mark.parametrize("width", [(2, 6), (5, 25), (25, 50)])
def test_strokes_cover_what_was_asked_for_on_any_size(shape, width):
    for coverage in (0.05, 0.3):
        drawn = shares(Strokes(width=width, coverage=coverage), shape, 8)
        assert min(drawn) > 0.85 * coverage
        assert max(drawn) < 1.1 * coverage + 0.01


def test_thick_strokes_are_thick_and_thin_ones_thin():
    def thickness(width):
        _, mask = masked(Strokes(width=width, coverage=0.2), np.ones((512, 512, 1), np.float32))
        return int(mask.sum()) / int((mask[1:] != mask[:-1]).sum())  # area by edge

    thin, medium, thick = (thickness(width) for width in ((2, 6), (5, 25), (25, 50)))
    assert 2 * thin < medium < thick / 1.5


def test_defects_are_as_many_on_crops_as_on_the_whole():
    for transform in (Scratches(count=0), Scratches(dust=0)):
        crop, whole = (np.mean(shares(transform, (side, side, 1), draws)) for side, draws in ((96, 150), (480, 6)))
        assert 0.75 < crop / whole < 1.33
    assert max(shares(Scratches(count=0, dust=0), (96, 96, 1))) == 0


def test_each_defect_has_one_brightness_from_the_range_in_all_channels(image):
    damaged, mask = masked(Scratches(count=1, dust=60, fill=(0.8, 1.0)), np.zeros((320, 320, 3), np.float32))
    inside = damaged[mask == 1]
    assert inside.min() >= 0.8
    assert inside.max() <= 1
    np.testing.assert_array_equal(inside.min(1), inside.max(1))
    assert 20 < len(np.unique(inside)) < 120, "by defects, not by pixels"
    dark, mask = masked(Scratches(fill=0), image)
    assert (dark[mask == 1] == 0).all()


def test_scratches_are_long_and_thin():
    for n in range(20):
        _, mask = masked(Scratches(count=0.3, dust=0, length=250, width=3), np.ones((256, 256, 1), np.float32), n)
        if mask.any():
            rows, columns = np.nonzero(mask)
            assert mask.sum() < 4 * max(np.ptp(rows) + 1, np.ptp(columns) + 1)


def test_text_covers_what_was_asked_for_up_to_a_full_page():
    for coverage in (0.05, 0.12):
        drawn = shares(TextMask(size=(10, 24), coverage=coverage), (320, 320, 1), 12)
        assert np.mean(drawn) == pytest.approx(coverage, rel=0.1)
        assert max(drawn) < 1.4 * coverage
    assert 0.1 < np.mean(shares(TextMask(size=16, coverage=1), (320, 320, 1), 5)) < 0.4
    assert min(shares(TextMask(), (96, 96, 1), 60)) > 0, "never a mask without letters"
    assert max(shares(TextMask(coverage=0), (96, 96, 1), 5)) == 0


def test_larger_text_has_larger_letters():
    def runs(size):
        _, mask = masked(TextMask(size=size, coverage=0.1), np.ones((320, 320, 1), np.float32))
        return int(mask.sum()) / int((mask[:, 1:] != mask[:, :-1]).sum())

    assert runs(40) > 2 * runs(12)


def test_blind_spots_are_one_a_box():
    for n in range(5):
        _, mask = masked(BlindSpots(share=1 / 64), np.ones((64, 96, 3), np.float32), n)
        boxes = mask.reshape(8, 8, 12, 8).sum((1, 3))
        np.testing.assert_array_equal(boxes, 1)
    assert np.mean(shares(BlindSpots(), (100, 101, 1))) == pytest.approx(0.02, rel=0.03)


@pytest.mark.parametrize("shape", [(40, 60), (1, 30), (2, 2), (3, 7)])
@pytest.mark.parametrize("radius", [1, 2, 5])
def test_blind_spots_take_another_pixel_of_the_neighbourhood(shape, radius):
    height, width = shape
    numbered = np.arange(height * width, dtype=np.float32).reshape(height, width, 1)
    numbered = numbered + np.float32([0, 0.25, 0.5])
    for n in range(30):
        damaged, mask = masked(BlindSpots(0.25, radius), numbered, n)
        rows, columns = np.nonzero(mask)
        assert (damaged[mask == 1] != numbered[mask == 1]).all(), "never its own"
        source = damaged[mask == 1]
        np.testing.assert_array_equal(source - source[:, :1], np.tile([0, 0.25, 0.5], (len(rows), 1)))
        down, right = np.divmod(source[:, 0].astype(int), width)  # so values are those of before, not other spots'
        assert max(np.abs(down - rows).max(initial=0), np.abs(right - columns).max(initial=0)) <= radius


def test_blind_spots_choose_every_neighbour_and_every_pixel_alike():
    numbered = np.arange(49, dtype=np.float32).reshape(7, 7, 1)
    chosen, offsets = np.zeros((7, 7)), np.zeros((3, 3))
    transform = BlindSpots(0.25, 1)
    for n in range(1200):
        transform.set_random_state(*draws_of_sample(0, n))
        result = transform(image=numbered, mask=np.zeros((7, 7), np.uint8))
        chosen += result["mask"]
        inner = result["mask"].astype(bool)
        inner[[0, -1]] = inner[:, [0, -1]] = False
        rows, columns = np.nonzero(inner)
        down, right = np.divmod(result["image"][inner][:, 0].astype(int), 7)
        np.add.at(offsets, (down - rows + 1, right - columns + 1), 1)
    assert offsets[1, 1] == 0
    assert offsets.max() / np.delete(offsets.ravel(), 4).min() < 1.2
    assert chosen.max() / chosen.min() < 1.4
    assert chosen.mean() / 1200 == pytest.approx(0.25, rel=0.02)


@pytest.mark.parametrize(
    ("transform", "arguments", "message"),
    [
        (RandomPixels, {"share": 1.5}, r"share must be a number in \[0, 1\]"),
        (RandomPixels, {"share": (0.9, 0.1)}, "share must be a number"),
        (RandomPixels, {"share": (0.1, 0.2, 0.3)}, "share must be a number"),
        (Strokes, {"width": 0}, "width must be a number >= 1"),
        (Strokes, {"length": (50, 10)}, "length must be a number >= 1"),
        (Strokes, {"turns": -1}, "turns must be a number >= 0"),
        (Strokes, {"coverage": 0.95}, r"coverage must be a number in \[0, 0.9\]"),
        (Scratches, {"count": -1}, "count must be a number >= 0"),
        (Scratches, {"width": 0.5}, "width must be a number >= 1"),
        (Scratches, {"dust": (3, 2)}, "dust must be a number >= 0"),
        (Scratches, {"fill": -1}, "fill must be a number >= 0"),
        (TextMask, {"size": 2}, "size must be a number >= 4"),
        (TextMask, {"coverage": -0.1}, "coverage must be a number"),
        (BlindSpots, {"share": 0}, r"share must be in \(0, 0.25\]"),
        (BlindSpots, {"radius": 0}, "radius must be at least 1"),
    ],
)
def test_impossible_arguments_are_refused(transform, arguments, message):
    with pytest.raises(ValueError, match=message):
        transform(**arguments)
