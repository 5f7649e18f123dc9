"""Where the training images lie among the numbers that a model makes of them, and how far away others are."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import torch
from torch import Tensor

RIDGE = 0.01
"""Share of the mean variance that is added to every direction's, for one without any would make distances infinite."""


def moments(points: Tensor) -> dict[str, Tensor]:
    """Returns `mean` (k) and `covariance` (k×k) of points n×k."""
    centred = points.double() - points.double().mean(0)
    covariance = centred.T @ centred / max(1, len(points) - 1)
    return {"mean": points.double().mean(0).float(), "covariance": covariance.float()}


class Cloud:
    """The points of training images.

    Distances are Euclidean after whitening: with the eigenvalues w and eigenvectors V of the covariance, a point is
    multiplied by V / sqrt(w + 0.01 · mean(w)). Everything is computed in double precision on the CPU, distances from
    differences themselves, for one image may lie 10^4 times as far away as another.

    Args:
        known: `mean`, `covariance` and, to look for neighbours, `codes` (n×k).
        alike: Measures every number in units of its own standard deviation first, where numbers of different kinds
            stand beside each other.
    """

    def __init__(self, known: Mapping[str, Tensor], alike: bool = False) -> None:
        self.mean, covariance = known["mean"].double().cpu(), known["covariance"].double().cpu()
        spread = covariance.diagonal().sqrt()
        scale = 1 / torch.where(spread > 0, spread, torch.inf) if alike else torch.ones_like(spread)
        variances, vectors = torch.linalg.eigh(covariance * scale[:, None] * scale)
        ridge = RIDGE * variances.mean().clamp_min(1e-12)
        self.whitening = scale[:, None] * vectors / (variances.clamp_min(0) + ridge).sqrt()
        self._codes = known.get("codes")

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
