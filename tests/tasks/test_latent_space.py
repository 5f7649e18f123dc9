import numpy as np
import pytest
import torch

from img2img.errors import UserError
from img2img.tasks import Autoencoder, VariationalAutoencoder
from img2img.tasks.latent_space import (
    drawn_images,
    effects,
    one_moved,
    quantile_values,
    sampled_latents,
    straight_line,
    training_latents,
)
from tests.latents.autoencoders import COVARIANCE, MEAN, QUANTILES, by_hand


def draws(seed: int, n: int, k: int) -> np.ndarray:
    """The standard normal numbers of sample n, by the rule that the sample stream has always had."""
    return np.random.default_rng(np.random.SeedSequence([seed, n, 1])).standard_normal(k)


@pytest.fixture
def variational() -> VariationalAutoencoder:
    from img2img.networks import DenseAutoencoder

    torch.manual_seed(0)
    return VariationalAutoencoder(DenseAutoencoder((4, 4), latent_dim=3, hidden=(), per_latent=2)).eval()


def test_latents_of_the_prior_are_those_of_the_stream(variational):
    latents, origin = sampled_latents(variational, 4, seed=7, temperature=0.5)
    assert origin == "the prior N(0, I)"
    expected = 0.5 * np.stack([draws(7, n, 3) for n in range(4)])
    np.testing.assert_array_equal(latents, expected.astype(np.float32))


def test_latents_of_a_plain_autoencoder_have_the_training_latents_mean_and_covariance():
    task = by_hand()
    latents, origin = sampled_latents(task, 4000)
    assert origin == "a Gaussian fitted to the latents of its training images"
    assert torch.allclose(latents.mean(0), MEAN, atol=0.006)
    assert torch.allclose(torch.cov(latents.T), COVARIANCE, atol=0.0008)
    few, _ = sampled_latents(task, 2)
    torch.testing.assert_close(few, latents[:2])


def test_a_model_that_was_never_measured_says_so():
    for ask in (training_latents, lambda task: sampled_latents(task, 1)):
        with pytest.raises(UserError, match="does not hold the latents of its training images"):
            ask(by_hand(measured=False))


@torch.no_grad()
def test_a_drawn_image_depends_on_its_number_alone(variational):
    latents, _ = sampled_latents(variational, 5)
    together = drawn_images(variational, latents, seed=3)
    torch.testing.assert_close(drawn_images(variational, latents[2:], seed=3, first=2), together[2:])
    assert not torch.equal(drawn_images(variational, latents, seed=4), together)
    with pytest.raises(UserError, match="Autoencoder defines no distribution over pixels"):
        drawn_images(by_hand(), torch.zeros(1, 3), seed=0)


def test_a_straight_line_has_both_ends():
    latents, fractions = straight_line(torch.tensor([0.0, 1.0]), torch.tensor([4.0, -1.0]), 5)
    assert fractions == [0.0, 0.25, 0.5, 0.75, 1.0]
    np.testing.assert_allclose(latents, [[0, 1], [1, 0.5], [2, 0], [3, -0.5], [4, -1]])


def test_quantiles_are_those_that_are_known_and_lie_between_them():
    levels, values = quantile_values(QUANTILES, 7)
    assert levels == [0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99]
    torch.testing.assert_close(values, QUANTILES)
    levels, values = quantile_values(QUANTILES, 4)
    assert levels == pytest.approx([0.01, 0.25, 0.75, 0.99])
    torch.testing.assert_close(values, QUANTILES[[0, 2, 4, 6]])
    assert quantile_values(QUANTILES, 13)[0][1] == pytest.approx(0.03)


def test_one_number_moves_at_a_time():
    values = torch.tensor([[-1.0, -2.0, -3.0], [1.0, 2.0, 3.0]])
    moved = one_moved(torch.tensor([0.1, 0.2, 0.3]), [2, 0], values)
    expected = [[[0.1, 0.2, -3.0], [0.1, 0.2, 3.0]], [[-1.0, 0.2, 0.3], [1.0, 0.2, 0.3]]]
    torch.testing.assert_close(moved, torch.tensor(expected))


@pytest.mark.parametrize("at_once", [1, 2, 32])
def test_the_effect_of_a_latent_is_the_mean_squared_change_of_the_image(at_once):
    task: Autoencoder = by_hand()
    ends = torch.tensor([[-0.1, -0.2, 0.0], [0.1, 0.0, 0.1]])
    with torch.no_grad():
        found = effects(task.decode, torch.zeros(3), [2, 0, 1], ends, at_once)
    torch.testing.assert_close(found, torch.tensor([0.01, 0.04, 0.04]))
