from pathlib import Path

import numpy as np
import pytest

from img2img.errors import UserError
from img2img.latents.evaluation import Evaluation, evaluate_latents
from img2img.latents.table import LatentTable

KINDS = ["cat", "dog", "old/cat"]
EACH = 20


def table(spread: float = 0.01, **other: object) -> LatentTable:
    """Three kinds, 20 images each, around three corners; PCA's coordinates say nothing."""
    rng = np.random.default_rng(0)
    label = [kind for kind in KINDS for _ in range(EACH)]
    centres = np.repeat(np.array([[0, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0]]), EACH, axis=0)
    found = {
        "path": [f"{kind}/{i}.png" for i, kind in enumerate(label)],
        "label": label,
        "mu": (centres + spread * rng.standard_normal(centres.shape)).astype(np.float32),
        "error": rng.random(len(label)).astype(np.float32),
        "pca": rng.standard_normal((len(label), 4)).astype(np.float32),
        "pca_error": rng.random(len(label)).astype(np.float32),
    }
    return LatentTable(**(found | other))


def measured(table: LatentTable, path: str = "t.npz") -> Evaluation:
    table.save(Path(path))
    return evaluate_latents(path)


def test_clusters_apart_are_found_whatever_their_numbers():
    figures = measured(table())
    assert (figures["images"], figures["labels"], figures["largest_label"]) == (60, 3, pytest.approx(1 / 3))
    for key in ("kmeans_accuracy", "nmi", "ari", "knn_accuracy"):
        assert figures["latents"][key] == pytest.approx(1)
    assert figures["latents"]["numbers"] == figures["pca"]["numbers"] == 4
    assert figures["pca"]["knn_accuracy"] < 0.6, "PCA is measured by its own coordinates"


def test_labels_that_mean_nothing_are_told_about_as_well_as_by_chance():
    label = np.random.default_rng(1).permutation(table().label).tolist()
    latents = measured(table(label=label))["latents"]
    assert latents["kmeans_accuracy"] < 0.55  # matched clusters reach a little more than 1/3
    assert latents["knn_accuracy"] == pytest.approx(1 / 3, abs=0.15)
    assert latents["ari"] == pytest.approx(0, abs=0.1)


def test_distance_to_ones_own_centre_against_the_error():
    one = table(spread=0.3)
    centres = np.stack([one.mu[[name == kind for name in one.label]].mean(0) for kind in one.label])
    distance = np.linalg.norm(one.mu - centres, axis=1).astype(np.float32)
    straight = measured(table(spread=0.3, error=2 * distance, pca_error=np.ones(60, np.float32)))
    assert straight["latents"]["pearson"] == pytest.approx(1)
    assert straight["pca"]["pearson"] is straight["pca"]["spearman"] is None, "a constant correlates with nothing"
    falling = measured(table(spread=0.3, error=np.exp(-9 * distance)))["latents"]
    assert falling["spearman"] == pytest.approx(-1)
    assert -0.98 < falling["pearson"] < -0.5


@pytest.mark.parametrize("path", ["t.csv", "t.parquet"])
def test_every_format_that_encode_writes_gives_the_same_figures(path):
    if path.endswith(".parquet"):
        pytest.importorskip("pyarrow.parquet")
    assert measured(table(), path) == measured(table())


def test_without_components_there_is_nothing_to_compare_with():
    assert measured(table(pca=None, pca_error=None))["pca"] is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": ["cat"] * 60}, "has 1 label.*at least 2"),
        ({"label": ["cat"] * 56 + ["dog"] * 4}, "4 image.* of dog: at least 5 of each"),
        ({"mu": np.full((60, 4), np.nan, np.float32)}, "not finite"),
        ({"error": np.zeros(3, np.float32)}, "differ in length"),
    ],
)
def test_what_cannot_be_measured_is_one_clear_line(change, message):
    table(**change).save(Path("t.npz"))
    with pytest.raises(UserError, match=message):
        evaluate_latents("t.npz")


def test_files_that_are_no_tables(photo):
    Path("text.npz").write_text("no table")
    np.savez("other.npz", pixels=photo)
    np.save("array.npy", photo)
    np.savez("objects.npz", path=np.array([{}], dtype=object))
    table().save(Path("whole.npz"))
    Path("half.npz").write_bytes(Path("whole.npz").read_bytes()[:2000])
    for name in ("text.npz", "other.npz", "array.npy", "objects.npz", "half.npz"):
        with pytest.raises(UserError, match="is not a table of latents"):
            evaluate_latents(name)
    with pytest.raises(FileNotFoundError, match="img2img encode"):
        evaluate_latents("missing.npz")
