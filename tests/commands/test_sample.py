from pathlib import Path

import numpy as np
import pytest

from img2img.cli import main
from img2img.latents import sampling
from tests.latents.autoencoders import read, save, tiles


def test_the_command_draws_a_sheet_that_its_seed_decides(capsys, tmp_path):
    model = save(tmp_path / "m.ckpt")
    for name, seed in (("one", "3"), ("same", "3"), ("other", "4")):
        main(["sample", f"{name}.png", "--model", model, "--n", "5", "--seed", seed, "--accelerator", "cpu"])
    assert "5 image(s) drawn from a Gaussian fitted to the latents of its training images: one.png" in (
        capsys.readouterr().out
    )
    assert Path("one.png").read_bytes() == Path("same.png").read_bytes()
    first, other = (tiles(read(f"{name}.png"), 3, captions=False) for name in ("one", "other"))
    assert len(first) == 6
    assert (first[5] == 250).all()  # the sixth place is empty
    assert not any(np.array_equal(a, b) for a, b in zip(first[:5], other[:5], strict=True))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a.png", "--draw", "sample"], "Autoencoder defines no distribution over pixels to draw from"),
        (["a.xyz"], "a.xyz: the formats of pictures are"),
        (["a.gif"], "a.gif: the formats of pictures are"),
        (["a.png", "--n", "0"], "--n must be at least 1"),
        (["a.png", "--temperature", "nan"], "--temperature at least 0"),
        (["a.png", "--batch_size", "0"], "--batch_size must be at least 1"),
        (["a.png", "--precision", "31"], "--precision 31 is not one of auto, 32-true"),
        (["a.png", "--accelerator", "abacus"], "--accelerator abacus is not there"),
        (["there.png"], "there.png is there already"),
        (["full"], "0001.png is there already"),
        (["file"], "file is a file; give a folder"),
    ],
)
def test_what_cannot_be_meant_is_one_line(arguments, said, capsys, tmp_path):
    for name in ("there.png", "full/0001.png", "file"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text("mine")
    device = [] if "--accelerator" in arguments else ["--accelerator", "cpu"]
    with pytest.raises(SystemExit) as stop:
        main(["sample", *arguments, "--model", save(tmp_path / "m.ckpt"), *device])
    assert stop.value.code == 2
    assert said in capsys.readouterr().err
    assert Path("there.png").read_text() == Path("full/0001.png").read_text() == "mine"
    assert not Path("a.png").exists()


def test_images_that_cannot_be_written_are_named_and_the_others_go_on(monkeypatch, capsys, tmp_path):
    write = sampling.write_picture

    def refuse_the_second(path, pixels):
        if path.name == "0001.png":
            raise OSError("no room")
        write(path, pixels)

    monkeypatch.setattr(sampling, "write_picture", refuse_the_second)
    with pytest.raises(SystemExit) as stop:
        main(["sample", "out", "--model", save(tmp_path / "m.ckpt"), "--n", "3", "--accelerator", "cpu"])
    assert stop.value.code == 1
    said = capsys.readouterr()
    assert "2 image(s) drawn from" in said.out
    assert said.err.splitlines() == ["skipped: out/0001.png: no room"]
    assert sorted(path.name for path in Path("out").iterdir()) == ["0000.png", "0002.png"]
