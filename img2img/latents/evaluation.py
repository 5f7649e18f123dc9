"""Evaluation: how well latents tell the labels of images apart, beside as many principal components."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from img2img.errors import UserError, printable

if TYPE_CHECKING:
    from img2img.latents.table import Floats

FOLDS = 5
NEIGHBOURS = 5


class LatentQuality(TypedDict):
    """How well one kind of numbers (latents, or PCA's coordinates) tells the labels apart.

    Attributes:
        numbers: How many there are for an image.
        kmeans_accuracy: k-means with as many clusters as labels, the best of 10 starts, clusters matched to labels by
            the Hungarian method.
        nmi: Normalised mutual information of these clusters with the labels.
        ari: Adjusted Rand index of the same.
        knn_accuracy: `NEIGHBOURS` neighbours, stratified cross-validation with `FOLDS` folds.
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
        largest_label: Fraction of the images that have the most frequent label: the accuracy of guessing.
        latents: Quality of the latents.
        pca: Quality of PCA's coordinates; None if the table has none.
    """

    images: int
    labels: int
    largest_label: float
    latents: LatentQuality
    pca: LatentQuality | None


def evaluate_latents(input: str | Path) -> Evaluation:
    """Measures how well latents, and as many principal components, tell the labels of images apart.

    Distances are Euclidean, on the numbers as they are. If they were standardised, latents that a variational
    autoencoder leaves unused, noise around 0, would count as much as the others.

    Args:
        input: A table that `img2img encode` wrote: .npz, .csv or .parquet.

    Raises:
        FileNotFoundError: If the file does not exist.
        UserError: If it is not a table of latents, has fewer than two labels, fewer than `FOLDS` images of one, or
            numbers that are not finite.
    """
    import numpy as np

    from img2img.latents.table import LatentTable

    table = LatentTable.load(Path(input))
    counts = Counter(table.label)
    if len(counts) < 2:
        raise UserError(f"{input} has {len(counts)} label(s): give at least 2, a folder with a subfolder for each kind")
    rarest, count = counts.most_common()[-1]
    if count < FOLDS:
        label = printable(rarest) or "the top folder"
        raise UserError(f"{input} has {count} image(s) of {label}: at least {FOLDS} of each label are needed")
    parts = (table.mu, table.error, table.pca, table.pca_error)
    if not all(np.isfinite(part).all() for part in parts if part is not None):
        raise UserError(f"{input} holds numbers that are not finite: the model has diverged, or the file is damaged")
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


def _measure(latents: Floats, error: Floats, names: Sequence[str]) -> LatentQuality:
    import numpy as np
    from scipy.optimize import linear_sum_assignment
    from scipy.stats import pearsonr, spearmanr
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
    constant = np.ptp(distance) == 0 or np.ptp(error) == 0
    return {
        "numbers": values.shape[1],
        "kmeans_accuracy": float(table[matched].sum() / len(label)),
        "nmi": float(normalized_mutual_info_score(label, cluster)),
        "ari": float(adjusted_rand_score(label, cluster)),
        "knn_accuracy": float(votes.mean()),
        "pearson": None if constant else float(pearsonr(distance, error.astype(np.float64)).statistic),
        "spearman": None if constant else float(spearmanr(distance, error).statistic),
    }
