import albumentations
import cv2
import numpy as np
import pytest

from img2img.corruptions import (
    Chips,
    Cracks,
    ForeignTexture,
    PastedPatch,
    Pits,
    Smears,
    Stain,
    Warps,
)
from img2img.corruptions.regions import membrane
from img2img.data.pairs import compose
from img2img.data.stream import draws_of_sample

EVERY = [Chips, Cracks, ForeignTexture, PastedPatch, Pits, Smears, Stain, Warps]
FROM_OTHERS = [ForeignTexture, PastedPatch]


def masked(transform, image, n=0, mask=None, **others):
    """Returns the damaged image and its mask."""
    pipeline = compose(transform if isinstance(transform, list) else [transform])
    pipeline.set_random_state(*draws_of_sample(0, n))
    mask = np.zeros(image.shape[:2], np.uint8) if mask is None else mask
    result = pipeline(image=image, mask=mask, **others)
    return result["image"], result["mask"]


@pytest.fixture
def crop(photo):
    """96×120 RGB uint8."""
    return photo[100:196, 80:200]


@pytest.mark.parametrize("transform", EVERY)
def test_the_mask_marks_what_changed_visibly_and_nothing_else_changed(transform, crop):
    image = crop.astype(np.float32) / 255 * 1.4 - 0.2  # in places outside [0, 1], as after unclipped noise
    original, marked, changed = image.copy(), 0, 0
    for n in range(20):
        damaged, mask = masked(transform(), image, n)
        assert np.array_equal(image, original), "the image passed in is left alone"
        assert (damaged.dtype, damaged.shape, mask.dtype) == (np.float32, image.shape, np.uint8)
        assert set(np.unique(mask)) <= {0, 1}
        np.testing.assert_array_equal(damaged[mask == 0], image[mask == 0])
        visible = (np.abs(damaged - image).max(2) > 2 / 255).astype(np.uint8)
        np.testing.assert_array_less(mask, cv2.dilate(visible, np.ones((3, 3), np.uint8)) + 1)
        marked, changed = marked + mask.sum(), changed + visible.sum()
    assert 0.7 * marked < changed <= marked, "gaps in what changed are marked, but they are few"
    assert changed > 20 * 20


@pytest.mark.parametrize("transform", EVERY)
def test_an_image_of_8_bits_stays_one_and_gets_the_same_defect(transform, crop):
    drawn = [masked(transform(), crop, n) for n in range(10)]
    real = [masked(transform(), crop.astype(np.float32) / 255, n) for n in range(10)]
    for (damaged, mask), (values, same) in zip(drawn, real, strict=True):
        assert damaged.dtype == np.uint8
        np.testing.assert_array_equal(mask, same)
        np.testing.assert_array_equal(damaged[mask == 0], crop[mask == 0])
        assert np.abs(damaged / 255 - values).max() < 0.51 / 255


@pytest.mark.parametrize("transform", EVERY)
def test_it_is_a_function_of_its_draws_and_works_without_a_mask(transform, crop):
    (one, mask), (again, _), (other, _) = (masked(transform(), crop, n) for n in (3, 3, 4))
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)
    assert mask.any()
    pipeline = compose([transform()])
    pipeline.set_random_state(*draws_of_sample(0, 3))
    np.testing.assert_array_equal(pipeline(image=crop)["image"], one)


@pytest.mark.parametrize("transform", EVERY)
@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 1, 1), (2, 5, 3), (3, 200, 3), (200, 3, 1), (40, 50, 1), (40, 50)])
def test_any_size_gray_or_colour(transform, shape):
    image = np.random.default_rng(0).random(shape, np.float32)
    for n in range(5):
        damaged, mask = masked(transform(), image, n)
        assert damaged.shape == shape
        np.testing.assert_array_equal(damaged[mask == 0], image[mask == 0])
        assert np.isfinite(damaged).all()


@pytest.mark.parametrize("transform", EVERY)
def test_earlier_marks_stay_and_p_is_the_share_of_damaged_images(transform, crop):
    before = np.zeros(crop.shape[:2], np.uint8)
    before[:5] = 1
    _, mask = masked(transform(), crop, 1, before)
    assert mask[:5].all()
    assert all(np.array_equal(masked(transform(p=0.0), crop, n)[0], crop) for n in range(5))


@pytest.mark.parametrize("transform", FROM_OTHERS)
def test_the_foreign_part_comes_from_the_other_image_if_there_is_one(transform, crop):
    gray = np.full_like(crop, 128)
    own = transform().needs_other, masked(transform(), gray, 2)[0], masked(transform(), gray, 2, other=crop)[0]
    assert own[0]
    assert own[2].std() > own[1].std() + 1


def test_a_pasted_box_without_blending_is_a_part_of_the_other_image():
    other = np.arange(64 * 64, dtype=np.float32).reshape(64, 64, 1) / 64**2 + 2
    damaged, mask = masked(PastedPatch(size=20, scale=1, seamless=0), np.zeros((64, 64, 1), np.float32), 0, other=other)
    # Outside [0, 1], the patch is limited to the image's own range and 1.
    assert mask.sum() == 400
    assert (damaged[mask == 1] == 1).all()
    other -= 2
    damaged, mask = masked(PastedPatch(size=20, scale=1, seamless=0), np.zeros((64, 64, 1), np.float32), 0, other=other)
    assert np.isin(damaged[mask == 1], other).all()


def test_a_seamless_patch_meets_its_surroundings_and_keeps_its_texture(crop):
    image = np.full((96, 120, 3), 50, np.float32)
    image[0, 0], image[-1, -1] = 0, 100  # of a wide range, in which 2/255 is nothing
    other = 30 + crop.astype(np.float32) / 10
    hard, soft = (masked(PastedPatch(40, 1, p), image, 5, other=other)[0] for p in (0, 1))
    rows, columns = np.nonzero((hard != image).any(2))
    box = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    assert np.abs(soft[box][0] - 50).max() < 0.01
    assert np.abs(hard[box][0] - 50).max() > 5
    laplacians = [cv2.Laplacian(one[box], cv2.CV_32F)[2:-2, 2:-2] for one in (hard, soft)]
    np.testing.assert_allclose(*laplacians, atol=8 * 2 / 255)


def test_a_membrane_is_harmonic_and_keeps_its_border():
    frame = np.random.default_rng(0).random((12, 17, 2), np.float32)
    surface = membrane(frame)
    np.testing.assert_array_equal(surface[[0, -1]], frame[[0, -1]])
    np.testing.assert_array_equal(surface[:, [0, -1]], frame[:, [0, -1]])
    inner = surface[1:-1, 1:-1]
    around = surface[:-2, 1:-1] + surface[2:, 1:-1] + surface[1:-1, :-2] + surface[1:-1, 2:]
    np.testing.assert_allclose(inner, around / 4, atol=1e-5)
    plane = np.add.outer(np.arange(9.0), np.arange(8.0)).astype(np.float32)[..., None] / 10
    np.testing.assert_allclose(membrane(plane), plane, atol=1e-5)


def test_sizes_are_in_pixels_and_chips_lie_at_borders_or_edges():
    image = np.full((200, 200, 1), 0.5, np.float32)
    image += np.random.default_rng(0).normal(0, 0.02, image.shape).astype(np.float32)
    small, large = (
        np.mean([masked(Stain(size, strength=0.5), image, n)[1].sum() for n in range(20)]) for size in (10, 60)
    )
    assert 30 < small < 400
    assert 1500 < large < 12_000
    image[:, 100:] += 0.4
    for n in range(20):
        rows, columns = np.nonzero(masked(Chips(20), image, n)[1])
        if rows.size:
            near = [rows.min(), columns.min(), 199 - rows.max(), 199 - columns.max(), np.abs(columns - 100).min()]
            assert min(near) < 12


def test_cracks_are_thin():
    image = np.full((160, 160, 1), 0.6, np.float32)
    for n in range(10):
        _, mask = masked(Cracks(1, (100, 200), (1, 3)), image, n)
        assert cv2.distanceTransform(mask, cv2.DIST_L2, 5).max() < 6


def test_smears_change_sharpness_and_hardly_brightness(crop):
    image = crop.astype(np.float32) / 255
    for n in range(10):
        damaged, mask = masked(Smears(60), image, n)
        assert abs(damaged[mask == 1].mean() - image[mask == 1].mean()) < 0.05 or mask.sum() < 50


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Stain(size=(20, 10)), "size must be"),
        (lambda: Stain(strength=0), "strength must be"),
        (lambda: PastedPatch(size=2), "size must be"),
        (lambda: PastedPatch(seamless=1.5), "seamless must be"),
        (lambda: ForeignTexture(opacity=2), "opacity must be"),
        (lambda: Pits(count=0), "count must be"),
        (lambda: Cracks(width=0), "width must be"),
        (lambda: Chips(opacity=-1), "opacity must be"),
        (lambda: Smears(grain=(0.2, 0.1)), "grain must be"),
        (lambda: Warps(shift=0), "shift must be"),
    ],
)
def test_wrong_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_integers_other_than_bytes_are_refused(crop):
    with pytest.raises(TypeError, match="uint16"):
        masked(Stain(), crop.astype(np.uint16))


def test_they_compose(crop):
    one_of = albumentations.OneOf([albumentations.SomeOf([kind() for kind in EVERY], n=n) for n in (1, 3)], p=1.0)
    results = [masked([one_of], crop, n, other=crop[::-1].copy()) for n in range(10)]
    assert len({int(mask.sum()) for _, mask in results}) > 5
    for damaged, mask in results:
        np.testing.assert_array_equal(damaged[mask == 0], crop[mask == 0])
