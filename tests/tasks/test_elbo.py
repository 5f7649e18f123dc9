import math

import pytest
import torch
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from img2img.networks import DenseAutoencoder
from img2img.tasks import VariationalAutoencoder
from img2img.tasks.elbo import active_units, gaussian_kl


def linear(sharpness=0.05) -> VariationalAutoencoder:
    """One whose marginal likelihood is known: a linear decoder, image = W z + b + σ ε."""
    torch.manual_seed(0)
    task = VariationalAutoencoder(DenseAutoencoder([4, 4], latent_dim=2, hidden=(), per_latent=2))
    task.freeze_scale(sharpness)
    return task.double().eval()


def test_the_divergence_is_that_of_torch_and_of_many_draws():
    torch.manual_seed(0)
    mean, log_variance = torch.randn(5, 3).double(), torch.randn(5, 3).double()
    posterior, prior = Normal(mean, (0.5 * log_variance).exp()), Normal(torch.zeros(3).double(), 1.0)
    kl = gaussian_kl(mean, log_variance)
    torch.testing.assert_close(kl, kl_divergence(posterior, prior))
    drawn = posterior.sample((200_000,))
    # Standard errors of these means are below 0.01.
    torch.testing.assert_close(
        (posterior.log_prob(drawn) - prior.log_prob(drawn)).mean(0), kl, atol=0.05, rtol=0, check_dtype=False
    )


def test_the_bound_is_what_its_definition_says():
    task, image = linear(), torch.rand(3, 1, 4, 4).double()
    noise = torch.randn(3, 2).double()
    with torch.no_grad():
        mean, log_variance = task.posterior(image)
        latent = mean + (0.5 * log_variance).exp() * noise
        pixels = Normal(task.network.decode(latent) + 0.5, math.sqrt(0.05 + math.exp(-12)))
        bound = task.elbo(image, noise)
    torch.testing.assert_close(bound.log_likelihood, pixels.log_prob(image).sum((1, 2, 3)), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(bound.total, bound.log_likelihood - bound.kl.sum(1))


def test_the_importance_weighted_bound_tightens_up_to_the_likelihood():
    task, image = linear(), torch.rand(40, 1, 4, 4).double()
    noise = torch.randn(40, 2048, 2).double()
    with torch.no_grad():
        bounds = [task.importance_weighted(image, noise[:, :count]).mean() for count in (1, 16, 256, 2048)]
        elbo = torch.stack([task.elbo(image, noise[:, i]).total.mean() for i in range(64)]).mean()
        weight, bias = (each.detach() for each in task.network.decoder[0].parameters())
        spread = weight @ weight.T + (0.05 + math.exp(-12)) * torch.eye(16).double()
        exact = MultivariateNormal(bias + 0.5, spread).log_prob(image.flatten(1)).mean()
    assert elbo < bounds[1] < bounds[2] < bounds[3] < exact + 0.05
    assert bounds[0] < bounds[1]
    assert bounds[3] == pytest.approx(float(exact), abs=0.1)
    assert exact - elbo > 0.3, "else the test would tell nothing"


def test_active_units_are_counted_by_the_variance_of_the_means():
    torch.manual_seed(0)
    assert active_units(torch.randn(1000, 4) * torch.tensor([1.0, 0.2, 0.05, 0.0]) + 3) == 2
