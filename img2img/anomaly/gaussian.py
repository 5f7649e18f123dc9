"""Gaussian fit of the training latents, and distances to it."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from img2img.tasks.autoencoding import Distribution

RIDGE = 0.01
"""Added to the variance of every direction, as a fraction of their mean; avoids infinite distances."""


def moments(points: Tensor) -> Distribution:
    """Returns mean and covariance of points n×k."""
    centred = points.double() - points.double().mean(0)
    covariance = centred.T @ centred / max(1, len(points) - 1)
    return Distribution(points.double().mean(0).float(), covariance.float())


class GaussianFit:
    """A Gaussian fitted to points of the training images, and the points themselves.

    Distances are Euclidean after whitening: with the eigenvalues w and eigenvectors V of the covariance, a point is
    multiplied by V / sqrt(w + 0.01 · mean(w)). Everything is computed in double precision on the CPU, and distances
    from differences of coordinates, for one image may lie 10^4 times as far away as another.

    Args:
        training: How the points are distributed; with `codes` to search for neighbours.
        standardise: Whether to measure each number in units of its own standard deviation first, for numbers of
            different kinds.
    """

    def __init__(self, training: Distribution, standardise: bool = False) -> None:
        self.mean, covariance = training.mean.double().cpu(), training.covariance.double().cpu()
        spread = covariance.diagonal().sqrt()
        scale = 1 / torch.where(spread > 0, spread, torch.inf) if standardise else torch.ones_like(spread)
        variances, vectors = torch.linalg.eigh(covariance * scale[:, None] * scale)
        ridge = RIDGE * variances.mean().clamp_min(1e-12)
        self.whitening = scale[:, None] * vectors / (variances.clamp_min(0) + ridge).sqrt()
        self._codes = training.codes

    @cached_property
    def codes(self) -> Tensor:
        """The whitened points, n×k."""
        assert self._codes is not None
        return self.whiten(self._codes)

    def whiten(self, points: Tensor) -> Tensor:
        """Returns points n×k relative to the mean, whitened, in double precision."""
        whitened: Tensor = (points.cpu().double() - self.mean) @ self.whitening
        return whitened

    def from_mean(self, points: Tensor) -> Tensor:
        """Returns the Mahalanobis distance of each point n×k from the mean, n."""
        distances: Tensor = torch.linalg.vector_norm(self.whiten(points), dim=1)
        return distances

    def from_nearest(self, points: Tensor) -> Tensor:
        """Returns the distance of each point n×k from the nearest training image's, n."""
        whole = torch.cdist(self.whiten(points), self.codes, compute_mode="donot_use_mm_for_euclid_dist")
        return whole.amin(1)
