"""`img2img evaluate-latents`: whether latents tell the labels apart, beside PCA's coordinates of equal size."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from img2img.commands.checks import check_output_file
from img2img.errors import UserError, printable
from img2img.imaging.parts import appearing

if TYPE_CHECKING:
    from img2img.commands.latent_table import Floats, LatentTable

FOLDS = 5
NEIGHBOURS = 5

ROWS = {
    "kmeans_accuracy": "k-means accuracy",
    "nmi": "normalised mutual information (NMI)",
    "ari": "adjusted Rand index (ARI)",
    "knn_accuracy": f"accuracy of {NEIGHBOURS} nearest neighbours",
    "pearson": "distance to own centre and error, Pearson",
    "spearman": "distance to own centre and error, Spearman",
}
METHOD = (
    "Distances are Euclidean on the numbers as they are, not standardised. k-means has as many clusters as there are",
    "labels, matched to these by the Hungarian method; its accuracy, NMI and ARI are those of the best of 10 starts,",
    f"seed 0. Neighbours vote in {FOLDS}-fold stratified cross-validation. Own centre is the mean of an image's label.",
)


def run(command: str, arguments: Sequence[str]) -> None:
    """Prints the table.

    Raises:
        UserError: If there are too few labels or images to tell.
    """
    parser = argparse.ArgumentParser(
        f"img2img {command}", description="Measure how well latents tell the folders of the images apart."
    )
    parser.add_argument("latents", help="an .npz that `img2img encode` wrote")
    parser.add_argument("--json", metavar="OUT", help="also write the figures there")
    parser.add_argument("--overwrite", action="store_true", help="replace the JSON if it is there")
    options = parser.parse_args(arguments)
    output = None if options.json is None else Path(options.json)
    if output is not None:
        check_output_file(output, Path(options.latents), options.overwrite)
    figures = evaluate_latents(options.latents)
    print(describe(Path(options.latents).name, figures))
    if output is not None:
        with appearing(output) as part:
            part.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def evaluate_latents(path: str | Path) -> dict[str, Any]:
    """Measures how well latents, and as many principal components, tell the labels of images apart.

    Distances are Euclidean on the numbers as they are. They are not standardised: the latents that a variational
    autoencoder leaves unused, noise around 0, would weigh as much as the others then.

    Args:
        path: An npz that `img2img encode` wrote.

    Returns:
        `images`, `labels` (how many), `largest_label` (its share of the images: what guessing reaches), `latents` and
        `pca` (None if the model knew no components), these two each with `numbers` (how many for an image),
        `kmeans_accuracy` (k-means with as many clusters as labels, the best of 10 starts, clusters matched to labels
        by the Hungarian method), `nmi`, `ari`, `knn_accuracy` (5 neighbours, 5-fold stratified cross-validation), and
        `pearson` and `spearman`, the correlations of each image's distance to the mean of its own label with its
        reconstruction error (None where one of them does not vary).

    Raises:
        FileNotFoundError: If there is no such file.
        UserError: If it is none of ours, or has fewer than two labels, or fewer than five images of one.
    """
    from img2img.commands.latent_table import LatentTable

    table = LatentTable.load(Path(path))
    counts = Counter(table.label)
    _check(table, counts, Path(path))
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


def describe(name: str, figures: dict[str, Any]) -> str:
    """Returns the figures as an aligned table, with a word on how they came about."""
    columns = [(f"{figures['latents']['numbers']} latents", figures["latents"])]
    if figures["pca"] is not None:
        columns.append((f"{figures['pca']['numbers']} of PCA", figures["pca"]))
    wide = max(map(len, ROWS.values()))
    lines = [
        f"{printable(name)}: {figures['images']} images, {figures['labels']} labels, the largest with "
        f"{figures['largest_label']:.1%} of the images",
        "",
        " " * wide + "".join(f"{head:>14}" for head, _ in columns),
    ]
    for key, text in ROWS.items():
        values = (measured[key] for _, measured in columns)
        lines.append(f"{text:<{wide}}" + "".join(f"{'–' if v is None else f'{v:.4f}':>14}" for v in values))
    no_pca = ["The model knew no principal components: there is nothing to compare with."] if len(columns) == 1 else []
    return "\n".join([*lines, "", *METHOD, *no_pca])


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


def _measure(latents: Floats, error: Floats, names: Sequence[str]) -> dict[str, Any]:
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
    return {
        "numbers": values.shape[1],
        "kmeans_accuracy": float(table[matched].sum() / len(label)),
        "nmi": float(normalized_mutual_info_score(label, cluster)),
        "ari": float(adjusted_rand_score(label, cluster)),
        "knn_accuracy": float(votes.mean()),
        **_correlations(distance, error),
    }


def _correlations(distance: Any, error: Floats) -> dict[str, float | None]:
    import numpy as np
    from scipy.stats import pearsonr, spearmanr

    if np.ptp(distance) == 0 or np.ptp(error) == 0:
        return {"pearson": None, "spearman": None}
    return {
        "pearson": float(pearsonr(distance, error.astype(np.float64)).statistic),
        "spearman": float(spearmanr(distance, error).statistic),
    }
