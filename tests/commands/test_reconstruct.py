import numpy as np
import pytest

from img2img.cli import main
from tests.latents.autoencoders import add_bad_files, names, picture, read, save, tree_of


def test_the_command_writes_reconstructions_and_says_how_many(tmp_path, capsys):
    picture(tmp_path / "in/a.png", [0.1, -0.1, 0.0])  # the model draws it exactly
    main(["reconstruct", str(tmp_path / "in"), "out", "--model", save(tmp_path / "m.ckpt"), "--accelerator", "cpu"])
    assert "1 image(s) reconstructed: out" in capsys.readouterr().out
    assert np.abs(read("out/a.png").astype(int) - read(tmp_path / "in/a.png")).max() <= 1


def test_bad_files_are_named_and_the_rest_go_on(photo, tmp_path, capsys):
    tree_of(photo)
    add_bad_files()
    with pytest.raises(SystemExit) as stop:
        main(["reconstruct", "in", "out", "--model", save(tmp_path / "m.ckpt"), "--accelerator", "cpu"])
    assert stop.value.code == 1
    said = capsys.readouterr()
    assert "4 image(s) reconstructed: out" in said.out
    for part in ("in/bad.png", "in/pages.tif: it has 3 pages", "in/half.png"):
        assert part in said.err
    assert names("out") == ["a.png", "deep er/a.png", "deep er/alpha.png", "sixteen.tif"]
