import numpy as np
import pytest

from img2img.errors import UserError
from img2img.latents.directions import classifier_direction, mean_direction, told_apart


@pytest.fixture
def classes() -> tuple[np.ndarray, np.ndarray]:
    """Codes whose classes differ in the first number; the second goes along with it, the third is wide and idle."""
    draws = np.random.default_rng(0)
    start, end = (draws.normal(size=(400, 3)) * [0.5, 0.5, 20] + [mean, 0, 0] for mean in (-1, 1))
    start[:, 1] += start[:, 0]
    end[:, 1] += end[:, 0]
    return start, end


def test_the_mean_direction_leads_from_one_mean_to_the_other(classes):
    start, end = classes
    np.testing.assert_allclose((start + mean_direction(start, end)).mean(0), end.mean(0))


def test_the_classifier_leaves_alone_what_goes_along(classes):
    start, end = classes
    mean, normal = mean_direction(start, end), classifier_direction(start, end)
    assert mean[1] / mean[0] == pytest.approx(1, abs=0.1)
    assert abs(normal[1] / normal[0]) < 0.4  # not 0: its weights are shrunk, which shares them out


def test_the_classifiers_direction_is_as_long_as_the_means_are_apart_along_it(classes):
    start, end = classes
    direction = classifier_direction(start, end)
    scaled = direction / np.concatenate(classes).std(0)  # where the normal was taken
    left = (end.mean(0) - start.mean(0) - direction) / np.concatenate(classes).std(0)
    assert left @ scaled == pytest.approx(0, abs=1e-9)


def test_directions_turn_round(classes):
    start, end = classes
    np.testing.assert_allclose(classifier_direction(end, start), -classifier_direction(start, end), rtol=1e-3)


def test_a_latent_that_never_changes_does_no_harm(classes):
    start, end = (np.column_stack([codes, np.full(len(codes), 3.0)]) for codes in classes)
    direction = classifier_direction(start, end)
    assert np.isfinite(direction).all()
    assert direction[3] == pytest.approx(0, abs=1e-9)


def test_nothing_to_tell_apart_is_said():
    same = np.ones((5, 2))
    with pytest.raises(UserError, match="finds no difference between the latents"):
        classifier_direction(same, same)


def test_how_far_classes_are_apart(classes):
    start, end = classes
    assert told_apart(start, end) > 0.95
    assert told_apart(start[:200], start[200:]) == pytest.approx(0.5, abs=0.1)
    assert told_apart(start[:10], end) > 0.9  # both classes count alike, however few there are
    assert told_apart(start[:1], end) is None
