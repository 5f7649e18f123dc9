import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import img2img
from img2img.errors import UserError
from img2img.latents.encoding import encode
from img2img.latents.table import LatentTable
from img2img.tasks import Autoencoder
from tests.commands.models import save_autoencoder, save_model
from tests.latents.encoded import NAMES, encoder, pieces, read_all

CPU = {"accelerator": "cpu", "devices": 1}


@pytest.fixture
def folder(photo, tmp_path) -> Path:
    return pieces(tmp_path / "images", photo)


@pytest.fixture
def model(folder, tmp_path) -> Path:
    return encoder(tmp_path / "model.ckpt", folder)


def test_a_folder_becomes_a_table_of_what_the_model_says(folder, model):
    table = encode(folder, "out/latents.npz", model, **CPU, batch_size=2)
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
    assert table.problems == ()


def test_the_function_returns_what_it_writes(folder, model):
    table = encode(folder, "t.npz", img2img.load(model), **CPU)
    again = LatentTable.load(Path("t.npz"))
    assert (table.path, table.label) == (again.path, again.label)
    for name in ("mu", "error", "pca", "pca_error"):
        np.testing.assert_array_equal(getattr(table, name), getattr(again, name))
    one = encode(folder / NAMES[1], None, model, **CPU)
    assert (one.path, one.label) == (["2.png"], [""])
    np.testing.assert_allclose(one.mu[0], table.mu[1], atol=1e-6)


def test_a_bad_file_is_a_problem_and_the_others_go_on(folder, model):
    (folder / "a" / "bad.png").write_bytes(b"no image")
    table = encode(folder, "t.npz", model, **CPU)
    assert table.path == NAMES
    (problem,) = table.problems
    assert "a/bad.png" in problem
    assert LatentTable.load(Path("t.npz")).problems == (), "they are not part of the file"
    alone = folder / "a" / "bad.png"
    with pytest.raises(UserError, match=r"none of the 1 image file\(s\) can be read; the first: .*bad\.png"):
        encode(alone, None, model, **CPU)


class Uncertain(Autoencoder):
    """An autoencoder with a posterior of its own."""

    def posterior(self, image):
        latent = super().posterior(image)[0]
        return latent, latent - 1


def test_a_posterior_gives_log_variances(folder):
    torch.manual_seed(0)
    recipe_network = img2img.load(save_autoencoder(Path("m.ckpt"))).network
    table = encode(folder, "t.npz", Uncertain(recipe_network), **CPU)
    np.testing.assert_allclose(LatentTable.load(Path("t.npz")).log_variance, table.mu - 1, atol=1e-6)
    assert table.pca is None, "the model knows no components"
    table.save(Path("t.csv"))
    assert Path("t.csv").read_text().startswith("path,label,error,mu_0,mu_1,mu_2,log_variance_0,")
    np.testing.assert_array_equal(LatentTable.load(Path("t.csv")).log_variance, table.log_variance)


def test_parquet_or_how_to_get_it(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match=r"pip install '\.\[parquet\]'"):
        encode(folder, "t.parquet", "no such model")


def test_what_is_there_is_replaced_if_asked(folder, model):
    Path("t.npz").write_bytes(b"old")
    encode(folder, "t.npz", model, overwrite=True, **CPU)
    assert len(LatentTable.load(Path("t.npz"))) == 5


def test_a_model_that_is_no_autoencoder(folder):
    with pytest.raises(UserError, match=r"\(Restoration\) is not an autoencoder"):
        encode(folder, "t.npz", save_model(Path("m.ckpt")))


def test_a_folder_for_the_projector(folder, model):
    encode(folder, None, model, "board", **CPU)
    lines = Path("board/00000/latents/metadata.tsv").read_text().splitlines()
    assert [line.split("\t")[0] for line in lines] == ["label", "a/left", "a/right", "b", "b", "."]
    assert lines[4].split("\t")[1] == "b/4\\n4.png"
    with pytest.raises(UserError, match="holds latents already"):
        encode(folder, None, model, "board", **CPU)
