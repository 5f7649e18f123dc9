"""Principal components of images in closed form: the linear reference that stands beside every autoencoder."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from img2img.networks import LinearAutoencoder


@dataclass(frozen=True, eq=False)
class PrincipalComponents:
    """An affine subspace of images, with how far the data spread along its axes and away from them.

    Attributes:
        mean: The mean image, D = C·H·W values.
        axes: k×D, orthonormal, that of the largest variance first.
        variances: Of the data along each axis, k values.
        residual: Mean variance along each of the D - k directions that are left: the noise of probabilistic PCA
            (Tipping & Bishop 1999, equation 8).
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
        return PrincipalComponents(self.mean.to(device), self.axes.to(device), self.variances.to(device), self.residual)

    def plain(self) -> dict[str, Any]:
        """Returns it as tensors and numbers, for a checkpoint."""
        return {name: getattr(self, name) for name in ("mean", "axes", "variances", "residual")}


def fit_principal(batches: Iterable[NDArray[np.float32]], count: int) -> PrincipalComponents:
    """Fits principal components to images that need not fit in memory, by incremental SVD (scikit-learn).

    Ross et al., "Incremental learning for robust visual tracking", IJCV 2008. More components are carried along than
    asked for, since what is cut off at each step is lost.

    Args:
        batches: The images, N×C×H×W each.
        count: How many components; fewer come back if there are fewer images or values.

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
    seen = int(fit.n_samples_seen_)  # numpy's: a checkpoint with a scalar of numpy's is not loaded
    total = float(fit.var_.sum()) * seen / max(1, seen - 1)
    variances = np.nan_to_num(fit.explained_variance_[:kept])  # a single image has none
    left = total - float(variances.sum())
    residual = float(max(left / max(1, first.shape[1] - kept), 1e-8))  # of data without noise; 0 would divide

    def tensor(values: NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))

    return PrincipalComponents(tensor(fit.mean_), tensor(fit.components_[:kept]), tensor(variances), residual)


def _at_least(batches: Iterable[NDArray[np.float32]], rows: int) -> Iterator[NDArray[np.float64]]:
    """Yields N×D float64 chunks of at least so many rows, the last ones joined to the chunk before them."""
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


def principal_of(basis: Tensor, mean: Tensor, images: Iterable[NDArray[np.float32]]) -> PrincipalComponents:
    """Returns the principal axes of images within a subspace that a linear autoencoder has found.

    With Q the basis and C the covariance of the images, the eigenvectors V of QᵀCQ give the axes QV (Baldi & Hornik
    1989: the trained weights span the principal subspace, but are any basis of it).

    Args:
        basis: D×k, orthonormal columns.
        mean: The images' mean, D values.
        images: N×C×H×W each.
    """
    basis64, total, number = basis.double(), 0.0, 0
    scatter = torch.zeros(basis.shape[1], basis.shape[1], dtype=torch.float64)
    for batch in images:
        centred = torch.from_numpy(batch).flatten(1).double() - mean.double()
        inside = centred @ basis64
        scatter, number, total = scatter + inside.T @ inside, number + len(batch), total + float((centred**2).sum())
    variances, vectors = torch.linalg.eigh(scatter / max(1, number - 1))
    variances, axes = variances.flip(0), (basis64 @ vectors.flip(1)).T
    left = total / max(1, number - 1) - float(variances.sum())
    residual = max(left / max(1, len(mean) - len(axes)), 1e-8)
    return PrincipalComponents(mean, axes.float().contiguous(), variances.float(), residual)


def principal_axes(
    network: nn.Module, reference: PrincipalComponents | None, images: Iterable[NDArray[np.float32]]
) -> PrincipalComponents | None:
    """Returns the principal axes that a linear autoencoder has found in its training images; None for other networks.

    Args:
        network: The autoencoder's.
        reference: Principal components of the training images, for their mean; without them None is returned.
        images: The training images, N×C×H×W each; not looked at for other networks.
    """
    if not isinstance(network, LinearAutoencoder) or reference is None:
        return None
    return principal_of(network.principal_basis().cpu(), reference.mean.cpu(), images)
