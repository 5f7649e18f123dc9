import csv
import os
from pathlib import Path

import numpy as np
import pytest

from img2img.errors import UserError
from img2img.latents.table import LatentTable

NAMES = ["a/left/1.png", "a/right/2.png", 'b/"3", 3.png', "b/4\n4.png", "top.png"]
LABELS = ["a/left", "a/right", "b", "b", ""]


def table(**other: object) -> LatentTable:
    """Five images with three latents, numbers of all magnitudes."""
    rng = np.random.default_rng(0)

    def floats(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) * 10.0 ** rng.integers(-9, 9, shape)).astype(np.float32)

    found = {"path": NAMES, "label": LABELS, "mu": floats(5, 3), "error": floats(5)}
    return LatentTable(**(found | {"pca": floats(5, 2), "pca_error": floats(5)} | other))


@pytest.mark.parametrize("suffix", [".npz", ".csv", ".CSV", ".parquet"])
def test_what_is_saved_is_loaded(suffix):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow.parquet")
    for saved in (table(), table(pca=None, pca_error=None, log_variance=np.ones((5, 3), np.float32))):
        path = Path(f"t{suffix}")
        saved.save(path)
        loaded = LatentTable.load(path)
        assert (loaded.path, loaded.label) == (saved.path, saved.label)
        for name in ("mu", "error", "log_variance", "pca", "pca_error"):
            value, wanted = getattr(loaded, name), getattr(saved, name)
            assert (value is None) == (wanted is None)
            if wanted is not None:
                np.testing.assert_array_equal(value, wanted)
                assert value.dtype == np.float32


def test_csv_has_a_column_for_each_number():
    saved = table()
    saved.save(Path("t.csv"))
    with open("t.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    numbers = ["mu_0", "mu_1", "mu_2", "pca_0", "pca_1"]
    assert list(rows[0]) == ["path", "label", "error", "pca_error", *numbers]
    assert [row["path"] for row in rows] == NAMES
    assert [row["label"] for row in rows] == LABELS
    np.testing.assert_array_equal(np.array([row["mu_2"] for row in rows], np.float32), saved.mu[:, 2])
    np.testing.assert_array_equal(np.array([row["error"] for row in rows], np.float32), saved.error)


def test_parquet_has_the_columns_of_the_csv():
    parquet = pytest.importorskip("pyarrow.parquet")
    saved = table()
    saved.save(Path("t.parquet"))
    columns = parquet.read_table("t.parquet").to_pydict()
    assert list(columns) == ["path", "label", "error", "pca_error", "mu_0", "mu_1", "mu_2", "pca_0", "pca_1"]
    assert columns["path"] == NAMES
    np.testing.assert_array_equal(np.float32(columns["mu_1"]), saved.mu[:, 1])


def test_names_that_are_no_unicode_survive_in_csv():
    name = os.fsdecode(b"caf\xe9.png")
    table(path=[name, *NAMES[1:]]).save(Path("t.csv"))
    assert LatentTable.load(Path("t.csv")).path[0] == name


def test_more_than_ten_latents_keep_their_order():
    mu = np.arange(60, dtype=np.float32).reshape(5, 12)
    table(mu=mu).save(Path("t.csv"))
    np.testing.assert_array_equal(LatentTable.load(Path("t.csv")).mu, mu)


@pytest.mark.parametrize("text", ["", "path,label,error\na,b,1\n", "path,label,error,mu_0\na,b,1\n", "a,b\n1,2\n"])
def test_text_that_is_no_table(text):
    Path("t.csv").write_text(text)
    with pytest.raises(UserError, match=r"t\.csv is not a table of latents"):
        LatentTable.load(Path("t.csv"))


def test_a_csv_with_words_for_numbers_is_no_table():
    table().save(Path("t.csv"))
    text = Path("t.csv").read_text().splitlines()
    Path("t.csv").write_text("\n".join([text[0], 'x,y,"much"' + ",1" * 6]))
    with pytest.raises(UserError, match="is not a table of latents"):
        LatentTable.load(Path("t.csv"))


def test_a_parquet_file_that_is_none():
    pytest.importorskip("pyarrow.parquet")
    Path("t.parquet").write_text("no table")
    with pytest.raises(UserError, match="is not a table of latents"):
        LatentTable.load(Path("t.parquet"))


def test_names_that_a_spreadsheet_would_compute_are_not_formulas_in_csv_and_come_back():
    names = ["=1+2.png", "+1.png", "-1.png", "@SUM(A1).png", "\t=1.png", "a=1.png"]
    labels = ["=cmd|' /C calc'!A0", "-", "+a", "@b", "", "c"]
    numbers = np.ones((6, 1), np.float32)
    saved = LatentTable(names, labels, -numbers, -numbers[:, 0])
    saved.save(Path("t.csv"))
    with open("t.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert not any(row[name].startswith(("=", "+", "-", "@", "\t")) for row in rows for name in ("path", "label"))
    assert rows[0]["error"] == "-1"  # a number is no formula
    loaded = LatentTable.load(Path("t.csv"))
    assert (loaded.path, loaded.label) == (names, labels)
