import re
from pathlib import Path

import numpy as np
import pytest

from img2img.cli import main
from img2img.latents.encoding import encode
from img2img.latents.table import LatentTable
from tests.latents.encoded import NAMES, encoder, pieces

CPU = ["--accelerator=cpu", "--devices=1"]


@pytest.fixture
def folder(photo, tmp_path) -> Path:
    return pieces(tmp_path / "images", photo)


def test_the_command_writes_the_table_and_says_how_good_the_model_is(folder, tmp_path, capsys):
    model = encoder(tmp_path / "model.ckpt", folder)
    main(["encode", str(folder), "out/latents.npz", "--model", str(model), *CPU, "--batch_size=2"])
    table = LatentTable.load(Path("out/latents.npz"))
    said = capsys.readouterr().out
    assert f"5 image(s) of 4 label(s): out/latents.npz; error {table.error.mean():.5f}" in said
    assert f"PCA {table.pca_error.mean():.5f}" in said
    assert [path.name for path in Path("out").iterdir()] == ["latents.npz"], "nothing unfinished is left"
    np.testing.assert_allclose(table.mu, encode(folder, None, model, accelerator="cpu", devices=1).mu, atol=1e-6)


def test_a_bad_file_is_named_and_the_others_go_on(folder, tmp_path, capsys):
    (folder / "a" / "bad.png").write_bytes(b"no image")
    with pytest.raises(SystemExit) as end:
        main(["encode", str(folder), "t.npz", "--model", str(encoder(tmp_path / "m.ckpt", folder)), *CPU])
    assert end.value.code == 1
    assert "a/bad.png" in capsys.readouterr().err
    assert LatentTable.load(Path("t.npz")).path == NAMES


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("t.xlsx", r"t.xlsx: a table of latents is written as \.npz, \.csv, \.parquet"),
        ("images/t.npz", "is inside the input"),
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
