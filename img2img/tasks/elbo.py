"""The evidence lower bound, and how many latents are active."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

DECODED_AT_ONCE = 64  # latents: their images are in memory together
LOG_VARIANCE = (-14.0, 6.0)  # soft bounds: a standard deviation from 0.001 to 20; the prior's is 1
ACTIVE = 0.01
"""A latent is active if the variance of its posterior's mean over the images is larger (Burda et al., section 5.2)."""


class Elbo(NamedTuple):
    """The evidence lower bound of N images, as its two parts in nats.

    Attributes:
        log_likelihood: log p(image | latent), summed over the values, at one latent drawn from the posterior; N.
        kl: Kullback-Leibler divergence of the posterior from the prior for each latent, N×k, in closed form.
    """

    log_likelihood: Tensor
    kl: Tensor

    @property
    def total(self) -> Tensor:
        """The bound itself, N."""
        return self.log_likelihood - self.kl.sum(1)


def bounded_log_variance(log_variance: Tensor) -> Tensor:
    """Returns log-variances softly bounded to `LOG_VARIANCE`."""
    low, high = LOG_VARIANCE
    return high - F.softplus(high - (low + F.softplus(log_variance - low)))


def gaussian_kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Returns KL(N(mean, variance) || N(0, 1)) of each number, in nats (Kingma & Welling 2014, appendix B)."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)


def active_units(means: Tensor) -> int:
    """Returns the number of active latents, given posterior means images×latents (Burda et al. 2016)."""
    return int((means.var(0) > ACTIVE).sum())


def collapse_warning(active: int, latents: int, beta: float, free_bits: float, kl_warmup: float) -> str:
    """Returns a warning of posterior collapse, with settings that may help."""
    return (
        f"{active} of {latents} latents are active; most carry no information (posterior collapse): try a smaller beta "
        f"than {beta:g}, more free_bits than {free_bits:g} (such as 0.1), or a longer kl_warmup than {kl_warmup:g}"
    )


def importance_bound(
    mean: Tensor, log_variance: Tensor, noise: Tensor, log_likelihood: Callable[[Tensor], Tensor]
) -> Tensor:
    """Returns the importance-weighted bound on log p(image), N in nats (Burda et al. 2016, equation 8).

    Args:
        mean: Mean of the posteriors, N×k.
        log_variance: Log-variance of the posteriors, N×k.
        noise: Standard normal, N×samples×k.
        log_likelihood: Returns log p(image | latent), N×s, for s latents of each image, N×s×k.
    """
    mean, log_variance, weights = mean[:, None], log_variance[:, None], []
    for some in torch.split(noise, max(1, DECODED_AT_ONCE // len(noise)), 1):
        latents = mean + (0.5 * log_variance).exp() * some
        # log p(latent) - log q(latent | image); the constants of the two Gaussians cancel.
        prior = 0.5 * (some.square() + log_variance - latents.square()).sum(2)
        weights.append(log_likelihood(latents) + prior)
    return torch.cat(weights, 1).logsumexp(1) - math.log(noise.shape[1])
