"""Principal components of images in closed form: the linear reference of every autoencoder."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from img2img.networks import LinearAutoencoder


@dataclass(frozen=True, eq=False)
class PrincipalComponents:
    """An affine subspace of images, and the variance of the data along its axes and away from them.

    Attributes:
        mean: The mean image, D = C·H·W values.
        axes: k×D, orthonormal, sorted by variance, the largest first.
        variances: Variance of the data along each axis, k values.
        residual: Mean variance along the other D - k directions: the noise of probabilistic PCA (Tipping & Bishop
            1999, equation 8).
    """

    mean: Tensor
    axes: Tensor
    variances: Tensor
    residual: float

    def encode(self, image: Tensor) -> Tensor:
        """Returns the coordinates of N×C×H×W, N×k."""
        return (image.flatten(1).to(self.mean.dtype) - self.mean) @ self.axes.T

    def decode(self, latent: Tensor, shape: torch.Size | tuple[int, ...]) -> Tensor:
        """Returns the images of coordinates N×k, in the given shape N×C×H×W, not clamped."""
        return (latent @ self.axes + self.mean).view(shape)

    def reconstruct(self, image: Tensor) -> Tensor:
        """Returns the nearest images of the subspace."""
        return self.decode(self.encode(image), image.shape)

    def nats(self, image: Tensor) -> Tensor:
        """Returns -log p of each image under probabilistic PCA, in nats."""
        latent = self.encode(image)
        away = ((self.reconstruct(image) - image) ** 2).flatten(1).sum(1)
        left = image[0].numel() - len(self.axes)
        spread = self.variances.clamp_min(self.residual)
        along = (latent**2 / spread).sum(1) + spread.log().sum()
        return 0.5 * (
            along + away / self.residual + left * math.log(self.residual) + image[0].numel() * math.log(2 * math.pi)
        )

    def to(self, device: torch.device) -> PrincipalComponents:
        """Returns it on a device."""
        moved = {name: getattr(self, name).to(device) for name in ("mean", "axes", "variances")}
        return replace(self, **moved)

    def plain(self) -> dict[str, Any]:
        """Returns it as tensors and numbers, for a checkpoint."""
        return dict(vars(self))


def fit_principal(batches: Iterable[NDArray[np.float32]], count: int) -> PrincipalComponents:
    """Fits principal components to images that need not fit in memory, by incremental SVD (scikit-learn).

    Ross et al., "Incremental learning for robust visual tracking", IJCV 2008. Each step loses what it cuts off, so more
    components are computed than returned.

    Args:
        batches: The images, N×C×H×W each.
        count: Number of components; fewer are returned if there are fewer images or values.

    Returns:
        The components, float32 on the CPU.
    """
    from sklearn.decomposition import IncrementalPCA  # 1 s to import

    carried = max(2 * count, count + 64)
    chunks = _at_least(batches, carried)
    first = next(chunks)
    carried = min(carried, *first.shape)
    fit = IncrementalPCA(carried).partial_fit(first)
    for chunk in chunks:
        fit.partial_fit(chunk)
    kept = min(count, carried)
    seen = int(fit.n_samples_seen_)  # a checkpoint with a NumPy scalar cannot be loaded safely
    total = float(fit.var_.sum()) * seen / max(1, seen - 1)
    variances = np.nan_to_num(fit.explained_variance_[:kept])  # a single image has none
    left = total - float(variances.sum())
    residual = float(max(left / max(1, first.shape[1] - kept), 1e-8))  # data may have no noise, and `nats` divides

    def tensor(values: NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))

    return PrincipalComponents(tensor(fit.mean_), tensor(fit.components_[:kept]), tensor(variances), residual)


def _at_least(batches: Iterable[NDArray[np.float32]], rows: int) -> Iterator[NDArray[np.float64]]:
    """Yields N×D float64 chunks of at least `rows` rows; a shorter rest is part of the last chunk."""
    waiting: list[NDArray[np.float64]] = []
    ready: NDArray[np.float64] | None = None
    for batch in batches:
        waiting.append(batch.reshape(len(batch), -1).astype(np.float64))
        if sum(map(len, waiting)) >= rows:
            if ready is not None:
                yield ready
            ready, waiting = np.concatenate(waiting), []
    rest = [*([ready] if ready is not None else []), *waiting]
    if rest:
        yield np.concatenate(rest)


def principal_axes(
    network: nn.Module, reference: PrincipalComponents | None, images: Iterable[NDArray[np.float32]]
) -> PrincipalComponents | None:
    """Returns the principal axes that a linear autoencoder has found in its training images; None for other networks.

    Trained weights span the principal subspace, but are any basis of it (Baldi & Hornik 1989). With Q an orthonormal
    basis and C the covariance of the images, the eigenvectors V of QᵀCQ give the axes QV.

    Args:
        network: The autoencoder's.
        reference: Principal components of the training images, for their mean; without them None is returned.
        images: The training images, N×C×H×W each; not read for other networks.
    """
    if not isinstance(network, LinearAutoencoder) or reference is None:
        return None
    basis, mean = network.principal_basis().cpu().double(), reference.mean.cpu()
    scatter = torch.zeros(basis.shape[1], basis.shape[1], dtype=torch.float64)
    total, number = 0.0, 0
    for batch in images:
        centred = torch.from_numpy(batch).flatten(1).double() - mean.double()
        inside = centred @ basis
        scatter, number, total = scatter + inside.T @ inside, number + len(batch), total + float((centred**2).sum())
    variances, vectors = torch.linalg.eigh(scatter / max(1, number - 1))
    variances, axes = variances.flip(0), (basis @ vectors.flip(1)).T
    left = total / max(1, number - 1) - float(variances.sum())
    residual = max(left / max(1, len(mean) - len(axes)), 1e-8)
    return PrincipalComponents(mean, axes.float().contiguous(), variances.float(), residual)
