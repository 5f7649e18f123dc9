import csv
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import img2img
from img2img.cli import main
from img2img.commands.latent_table import LatentTable
from img2img.data.scaling import scale_to
from img2img.errors import UserError
from img2img.imaging.files import read_image, to_channels, to_float
from img2img.tasks import Autoencoder
from tests.commands.models import save_autoencoder, save_model

CPU = ["--accelerator=cpu", "--devices=1"]
NAMES = ["a/left/1.png", "a/right/2.png", 'b/"3", 3.png', "b/4\n4.png", "top.png"]


def read_all(folder: Path) -> np.ndarray:
    """The images as the network gets them, N×1×12×16 in [0, 1]."""
    pixels = [scale_to(to_channels(read_image(folder / name).pixels, 1), (12, 16)) for name in NAMES]
    return np.stack([to_float(image).transpose(2, 0, 1) for image in pixels])


@pytest.fixture
def folder(photo, tmp_path) -> Path:
    """Five pieces of a photograph in nested folders, of different sizes."""
    for i, name in enumerate(NAMES):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo[60 * i : 60 * i + 24 + i, 50 : 50 + 32]).save(path)
    return tmp_path / "images"


@pytest.fixture
def model(folder, tmp_path) -> Path:
    return save_autoencoder(tmp_path / "model.ckpt", read_all(folder))


def test_a_folder_becomes_a_table_of_what_the_model_says(folder, model, capsys):
    main(["encode", str(folder), "out/latents.npz", "--model", str(model), *CPU, "--batch_size=2"])
    table = LatentTable.load(Path("out/latents.npz"))
    assert table.path == NAMES
    assert table.label == ["a/left", "a/right", "b", "b", ""]
    task, images = img2img.load(model), torch.from_numpy(read_all(folder))
    with torch.no_grad():
        np.testing.assert_allclose(table.mu, task.encode(images), atol=1e-6)
        np.testing.assert_allclose(table.error, ((task(images) - images) ** 2).mean((1, 2, 3)), rtol=1e-5)
    assert table.log_variance is None
    pca = task.statistics.pca
    np.testing.assert_allclose(table.pca, pca.encode(images), atol=1e-6)
    linear = ((pca.reconstruct(images).clamp(0, 1) - images) ** 2).mean((1, 2, 3))
    np.testing.assert_allclose(table.pca_error, linear, rtol=1e-4)
    said = capsys.readouterr().out
    assert f"5 image(s) of 4 label(s): out/latents.npz; error {table.error.mean():.5f}" in said
    assert f"PCA {table.pca_error.mean():.5f}" in said
    assert [path.name for path in Path("out").iterdir()] == ["latents.npz"], "nothing unfinished is left"


def test_the_function_returns_what_it_writes(folder, model):
    table = img2img.encode(folder, "t.npz", img2img.load(model), accelerator="cpu", devices=1)
    again = LatentTable.load(Path("t.npz"))
    assert (table.path, table.label) == (again.path, again.label)
    for name in ("mu", "error", "pca", "pca_error"):
        np.testing.assert_array_equal(getattr(table, name), getattr(again, name))
    one = img2img.encode(folder / NAMES[1], None, model, accelerator="cpu", devices=1)
    assert (one.path, one.label) == (["2.png"], [""])
    np.testing.assert_allclose(one.mu[0], table.mu[1], atol=1e-6)


def test_a_bad_file_is_named_and_the_others_go_on(folder, model, capsys):
    (folder / "a" / "bad.png").write_bytes(b"no image")
    with pytest.raises(SystemExit) as end:
        main(["encode", str(folder), "t.npz", "--model", str(model), *CPU])
    assert end.value.code == 1
    assert "a/bad.png" in capsys.readouterr().err
    assert LatentTable.load(Path("t.npz")).path == NAMES


def test_csv_has_a_column_for_each_number(folder, model):
    table = img2img.encode(folder, "t.csv", model, accelerator="cpu", devices=1)
    with open("t.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    numbers = [f"{name}_{i}" for name in ("mu", "pca") for i in range(3)]
    assert list(rows[0]) == ["path", "label", "error", "pca_error", *numbers]
    assert [row["path"] for row in rows] == NAMES
    assert [row["label"] for row in rows] == table.label
    np.testing.assert_array_equal(np.array([row["mu_2"] for row in rows], np.float32), table.mu[:, 2])
    np.testing.assert_array_equal(np.array([row["error"] for row in rows], np.float32), table.error)


class Uncertain(Autoencoder):
    """An autoencoder with a posterior of its own."""

    def posterior(self, image):
        latent = super().posterior(image)[0]
        return latent, latent - 1


def test_a_posterior_gives_log_variances(folder):
    torch.manual_seed(0)
    recipe_network = img2img.load(save_autoencoder(Path("m.ckpt"))).network
    table = img2img.encode(folder, "t.npz", Uncertain(recipe_network), accelerator="cpu", devices=1)
    np.testing.assert_allclose(LatentTable.load(Path("t.npz")).log_variance, table.mu - 1, atol=1e-6)
    assert table.pca is None, "the model knows no components"
    table.save(Path("t.csv"))
    assert Path("t.csv").read_text().startswith("path,label,error,mu_0,mu_1,mu_2,log_variance_0,")


def test_parquet_or_how_to_get_it(folder, model, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match=r"pip install 'img2img\[parquet\]'"):
        img2img.encode(folder, "t.parquet", "no such model")


def test_parquet_has_the_columns_of_the_csv(folder, model):
    parquet = pytest.importorskip("pyarrow.parquet")
    table = img2img.encode(folder, "t.parquet", model, accelerator="cpu", devices=1)
    columns = parquet.read_table("t.parquet").to_pydict()
    assert columns["path"] == NAMES
    np.testing.assert_array_equal(np.float32(columns["mu_1"]), table.mu[:, 1])


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("t.xlsx", r"t.xlsx: a table of latents is written as \.npz, \.csv, \.parquet"),
        ("images/t.npz", "lies in the input"),
        ("old.npz", "old.npz is there already; give --overwrite"),
    ],
)
def test_outputs_that_are_refused_before_any_work(folder, output, message, monkeypatch, capsys):
    monkeypatch.chdir(folder.parent)
    Path("old.npz").write_bytes(b"mine")
    with pytest.raises(SystemExit) as end:
        main(["encode", "images", output, "--model", "no-such.ckpt"])
    assert end.value.code == 2
    error = capsys.readouterr().err.strip()
    assert "\n" not in error
    assert re.search(message, error)
    assert Path("old.npz").read_bytes() == b"mine"


def test_what_is_there_is_replaced_if_asked(folder, model):
    Path("t.npz").write_bytes(b"old")
    img2img.encode(folder, "t.npz", model, overwrite=True, accelerator="cpu", devices=1)
    assert len(LatentTable.load(Path("t.npz"))) == 5


def test_a_model_that_is_no_autoencoder(folder):
    with pytest.raises(UserError, match="is a Restoration, not an autoencoder"):
        img2img.encode(folder, "t.npz", save_model(Path("m.ckpt")))


def test_a_folder_for_the_projector(folder, model):
    img2img.encode(folder, None, model, "board", accelerator="cpu", devices=1)
    lines = Path("board/00000/latents/metadata.tsv").read_text().splitlines()
    assert [line.split("\t")[0] for line in lines] == ["label", "a/left", "a/right", "b", "b", "."]
    assert lines[4].split("\t")[1] == "b/4\\n4.png"
    with pytest.raises(UserError, match="holds latents already"):
        img2img.encode(folder, None, model, "board", accelerator="cpu", devices=1)
