import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from img2img.cli import main
from img2img.imaging.files import read_image
from tests.latents.autoencoders import BRIGHTER, add_bad_files, dark_and_bright, names, read, save, tree_of


@pytest.fixture
def given(photo, tmp_path) -> list[str]:
    """The options of an edit of a tree of pictures."""
    dark_and_bright()
    tree_of(photo)
    return ["--model", save(tmp_path / "m.ckpt"), "--from", "dark", "--to", "bright", "--accelerator", "cpu"]


def test_everything_becomes_as_much_brighter_as_the_folders_differ(given, capsys):
    main(["edit", "in", "out", *given])
    assert (
        "4 image(s) edited: out; dark (3) and bright (3): a linear classifier tells 100.0 %" in capsys.readouterr().out
    )
    assert names("out") == names("in")
    for name in names("out"):
        before, after = read_image(Path("in") / name), read_image(Path("out") / name)
        assert after.pixels.shape == before.pixels.shape
        assert after.pixels.dtype == before.pixels.dtype
        level = 257 if before.pixels.dtype == np.uint16 else 1
        change = after.pixels.astype(int) - before.pixels
        assert np.abs(change - BRIGHTER * level).max() <= level  # codes come from images of 8 bits
        assert np.ptp(change) <= 1  # the detail, which the model cannot draw, is all there
    np.testing.assert_array_equal(read("out/deep er/alpha.png")[..., 3], read("in/deep er/alpha.png")[..., 3])
    kept = Image.open("out/a.png")
    assert kept.getexif()[0x013B] == "Ansel"
    assert kept.info["dpi"] == pytest.approx((300, 300), abs=0.1)


def test_bad_files_are_named_and_the_rest_go_on(given, capsys):
    add_bad_files()
    Path("dark/bad.png").write_text("no image")
    with pytest.raises(SystemExit) as stop:
        main(["edit", "in", "out", *given])
    assert stop.value.code == 1
    said = capsys.readouterr()
    assert "4 image(s) edited" in said.out
    for part in ("dark/bad.png", "in/bad.png", "in/pages.tif: it has 3 pages", "in/half.png"):
        assert part in said.err
    assert names("out") == ["a.png", "deep er/a.png", "deep er/alpha.png", "sixteen.tif"]


@pytest.mark.slow
def test_two_processes_share_the_images(given):
    main(["edit", "in", "one", *given])
    Path("in/bad.png").write_text("no image")
    command = [sys.executable, "-m", "img2img", "edit", "in", "two", *given, "--devices", "2", "--batch_size", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 1
    assert done.stdout.count("4 image(s) edited") == 1
    assert done.stderr.count("cannot read in/bad.png") == 1
    assert names("two") == names("one")
    for name in names("one"):
        np.testing.assert_array_equal(read_image(Path("two") / name).pixels, read_image(Path("one") / name).pixels)
