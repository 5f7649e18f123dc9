"""Gaussian fit of the training latents, and distances to it."""

from __future__ import annotations

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
    multiplied by V / sqrt(w + 0.01 · mean(w)). They are computed in double precision on the CPU, and from differences
    of coordinates, because one image may be 10^4 times as far away as another.

    Args:
        training: How the points are distributed; with `codes`, the points, to search for neighbours.
        standardise: Whether to divide each number by its own standard deviation first, for numbers of different kinds.
    """

    def __init__(self, training: Distribution, standardise: bool = False) -> None:
        self.mean, covariance = training.mean.double().cpu(), training.covariance.double().cpu()
        spread = covariance.diagonal().sqrt()
        scale = 1 / torch.where(spread > 0, spread, torch.inf) if standardise else torch.ones_like(spread)
        variances, vectors = torch.linalg.eigh(covariance * scale[:, None] * scale)
        ridge = RIDGE * variances.mean().clamp_min(1e-12)
        self.whitening = scale[:, None] * vectors / (variances.clamp_min(0) + ridge).sqrt()
        self.points = None if training.codes is None else self.whiten(training.codes)

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
        assert self.points is not None
        return torch.cdist(self.whiten(points), self.points, compute_mode="donot_use_mm_for_euclid_dist").amin(1)
