"""Evaluation: how well latents tell the labels of images apart, beside as many principal components."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from img2img.errors import UserError, printable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from img2img.latents.table import Floats, LatentTable

FOLDS = 5
NEIGHBOURS = 5


class LatentQuality(TypedDict):
    """How well one kind of numbers tells the labels apart.

    Attributes:
        numbers: How many there are for an image.
        kmeans_accuracy: k-means with as many clusters as labels, the best of 10 starts, clusters matched to labels by
            the Hungarian method.
        nmi: Normalised mutual information of these clusters with the labels.
        ari: Adjusted Rand index of the same.
        knn_accuracy: 5 neighbours, 5-fold stratified cross-validation.
        pearson: Correlation of each image's distance to the mean of its own label with its reconstruction error; None
            where one of them does not vary.
        spearman: The same as a rank correlation.
    """

    numbers: int
    kmeans_accuracy: float
    nmi: float
    ari: float
    knn_accuracy: float
    pearson: float | None
    spearman: float | None


class Evaluation(TypedDict):
    """What `evaluate_latents` measures.

    Attributes:
        images: How many images there are.
        labels: How many labels.
        largest_label: Fraction of the images that have the commonest label: what guessing reaches.
        latents: Quality of the latents.
        pca: Quality of PCA's coordinates; None if the model knew no components.
    """

    images: int
    labels: int
    largest_label: float
    latents: LatentQuality
    pca: LatentQuality | None


def evaluate_latents(input: str | Path) -> Evaluation:
    """Measures how well latents, and as many principal components, tell the labels of images apart.

    Distances are Euclidean, on the numbers as they are. They are not standardised: the latents that a variational
    autoencoder leaves unused, noise around 0, would weigh as much as the others then.

    Args:
        input: A table that `img2img encode` wrote: .npz, .csv or .parquet.

    Returns:
        The figures, as plain data.

    Raises:
        FileNotFoundError: If there is no such file.
        UserError: If it holds no table of latents, or has fewer than two labels, or fewer than five images of one.
    """
    from img2img.latents.table import LatentTable

    table = LatentTable.load(Path(input))
    counts = Counter(table.label)
    _check(table, counts, Path(input))
    pca = None
    if table.pca is not None and table.pca_error is not None:
        pca = _measure(table.pca, table.pca_error, table.label)
    return {
        "images": len(table),
        "labels": len(counts),
        "largest_label": max(counts.values()) / len(table),
        "latents": _measure(table.mu, table.error, table.label),
        "pca": pca,
    }


def _check(table: LatentTable, counts: Counter[str], path: Path) -> None:
    import numpy as np

    if len(counts) < 2:
        raise UserError(
            f"{path} has {len(counts)} label(s): at least 2 are needed; encode a folder with a subfolder for each kind"
        )
    rarest, count = counts.most_common()[-1]
    if count < FOLDS:
        raise UserError(
            f"{path} has {count} image(s) of {printable(rarest) or 'the top folder'}: at least {FOLDS} of each label "
            "are needed"
        )
    parts = (table.mu, table.error, table.pca, table.pca_error)
    if not all(np.isfinite(part).all() for part in parts if part is not None):
        raise UserError(f"{path} holds numbers that are not finite: the model has diverged, or the file is damaged")


def _measure(latents: Floats, error: Floats, names: Sequence[str]) -> LatentQuality:
    import numpy as np
    from scipy.optimize import linear_sum_assignment
    from sklearn.cluster import KMeans
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
    from sklearn.metrics.cluster import contingency_matrix
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from sklearn.neighbors import KNeighborsClassifier

    kinds, label = np.unique(np.asarray(names), return_inverse=True)
    values = latents.astype(np.float64)
    cluster = KMeans(len(kinds), n_init=10, random_state=0).fit_predict(values)
    table = contingency_matrix(label, cluster)
    matched = linear_sum_assignment(table, maximize=True)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    votes = cross_val_score(KNeighborsClassifier(NEIGHBOURS), values, label, cv=folds)
    centres = np.stack([values[label == kind].mean(0) for kind in range(len(kinds))])
    distance = np.linalg.norm(values - centres[label], axis=1)
    pearson, spearman = _correlations(distance, error)
    return {
        "numbers": values.shape[1],
        "kmeans_accuracy": float(table[matched].sum() / len(label)),
        "nmi": float(normalized_mutual_info_score(label, cluster)),
        "ari": float(adjusted_rand_score(label, cluster)),
        "knn_accuracy": float(votes.mean()),
        "pearson": pearson,
        "spearman": spearman,
    }


def _correlations(distance: NDArray[np.float64], error: Floats) -> tuple[float | None, float | None]:
    """Returns Pearson's and Spearman's correlation; None where one side does not vary."""
    import numpy as np
    from scipy.stats import pearsonr, spearmanr

    if np.ptp(distance) == 0 or np.ptp(error) == 0:
        return None, None
    straight: Any = pearsonr(distance, error.astype(np.float64))
    ranks: Any = spearmanr(distance, error)
    return float(straight.statistic), float(ranks.statistic)
