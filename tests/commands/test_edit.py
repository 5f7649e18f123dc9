import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import img2img
from img2img.cli import main
from img2img.errors import UserError
from img2img.imaging.files import read_image
from img2img.imaging.files import write_image as write
from tests.commands.autoencoders import by_hand, picture, read, save

CPU = {"accelerator": "cpu"}
BRIGHTER = 51
"""0.2 of 255: how much brighter `bright` is than `dark`."""


@pytest.fixture
def folders() -> dict[str, str]:
    """Two folders whose images differ in brightness, by 0.2 in the mean."""
    for folder, brightness in (("dark", -0.2), ("bright", 0.0)):
        for i, other in enumerate((-0.05, 0.0, 0.05)):
            picture(Path(folder) / f"{i}.png", [brightness + other / 5, other, -other])
    return {"start": "dark", "end": "bright"}


@pytest.fixture
def photos_in(photo) -> Path:
    """A tree of pictures of all kinds; none so bright or so dark that a change would be cut off."""
    moderate = (photo[:30, :44] // 4 + 70).astype(np.uint8)
    Path("in/deep er").mkdir(parents=True)
    exif = Image.Exif()
    exif[0x013B] = "Ansel"
    Image.fromarray(moderate).save("in/a.png", exif=exif, dpi=(300, 300))
    Image.fromarray(moderate[..., 0]).save("in/deep er/a.png")
    alpha = np.arange(30 * 44, dtype=np.uint8).reshape(30, 44, 1)
    Image.fromarray(np.concatenate([moderate, alpha], 2)).save("in/deep er/alpha.png")
    deep = img2img.imaging.files.Image(moderate[..., :1].astype(np.uint16) * 256 + 7, None, {})
    write(Path("in/sixteen.tif"), deep)
    return Path("in")


def names(folder: Path | str) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())


def test_everything_becomes_as_much_brighter_as_the_folders_differ(folders, photos_in, tmp_path, capsys):
    model = save(tmp_path / "m.ckpt")
    main(["edit", "in", "out", "--model", model, "--from", "dark", "--to", "bright", "--accelerator", "cpu"])
    assert (
        "4 image(s) edited: out; dark (3) and bright (3): a linear classifier tells 100.0 %" in capsys.readouterr().out
    )
    assert names("out") == names(photos_in)
    for name in names("out"):
        before, after = read_image(photos_in / name), read_image(Path("out") / name)
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


def test_no_strength_no_change_and_the_way_back(folders, photos_in):
    for strength, source, out in ((0, "in", "same"), (1, "in", "there"), (-1, "there", "back")):
        img2img.edit(source, out, by_hand(), **folders, strength=strength, **CPU)
    for name in names(photos_in):
        before = read_image(photos_in / name).pixels
        np.testing.assert_array_equal(read_image(Path("same") / name).pixels, before)
        back = read_image(Path("back") / name).pixels.astype(int)
        assert np.abs(back - before).max() <= 1


def test_a_classifiers_direction_moves_as_far(folders, photos_in):
    img2img.edit("in", "out", by_hand(), **folders, direction="classifier", **CPU)
    change = read("out/deep er/a.png").astype(int) - read("in/deep er/a.png")
    assert change.mean() == pytest.approx(BRIGHTER, abs=4)


def test_plain_writes_what_the_model_draws(folders):
    picture(Path("one.png"), [-0.1, 0.1, 0.0])
    larger = Image.open("one.png").resize((24, 16), Image.Resampling.NEAREST)
    larger.save("large.png")
    assert img2img.edit("large.png", "edited.png", by_hand(), **folders, plain=True, **CPU) == 0
    found = read("edited.png").astype(int)
    assert found.shape == (16, 24)
    left, right = 0.5 - 0.1 + 0.2 + 0.1, 0.5 - 0.1 + 0.2 - 0.1
    assert np.abs(found[:, :8] - 255 * left).max() <= 2
    assert np.abs(found[:, -8:] - 255 * right).max() <= 2


def test_a_colour_model_edits_gray_images_and_a_gray_one_colours(folders, photos_in):
    img2img.edit("in", "out", by_hand(channels=3), **folders, **CPU)
    for name in ("a.png", "deep er/a.png"):
        change = read(f"out/{name}").astype(int) - read(f"in/{name}")
        assert np.abs(change - BRIGHTER).max() <= 1


def test_bad_files_are_named_and_the_rest_go_on(folders, photos_in, tmp_path, capsys):
    Path("in/bad.png").write_text("no image")
    Path("dark/bad.png").write_text("no image")
    page = Image.new("L", (8, 8))
    page.save("in/pages.tif", save_all=True, append_images=[page, page])
    truncated = (photos_in / "a.png").read_bytes()
    Path("in/half.png").write_bytes(truncated[: len(truncated) // 2])
    model = save(tmp_path / "m.ckpt")
    with pytest.raises(SystemExit) as stop:
        main(["edit", "in", "out", "--model", model, "--from", "dark", "--to", "bright", "--accelerator", "cpu"])
    assert stop.value.code == 1
    said = capsys.readouterr()
    assert "4 image(s) edited" in said.out
    for part in ("dark/bad.png", "in/bad.png", "in/pages.tif: it has 3 pages", "in/half.png"):
        assert part in said.err
    assert names("out") == ["a.png", "deep er/a.png", "deep er/alpha.png", "sixteen.tif"]


def test_a_file_that_cannot_be_written_is_named(folders, photos_in, capsys):
    Path("out").mkdir()
    Path("out/deep er").write_text("a file where a folder should be")
    assert img2img.edit("in", "out", by_hand(), **folders, **CPU) == 2
    assert "deep er/alpha.png" in capsys.readouterr().err
    assert names("out") == ["a.png", "deep er", "sixteen.tif"]


def test_outputs_are_replaced_only_when_asked(folders, photos_in):
    Path("out").mkdir()
    Path("out/a.png").write_text("mine")
    with pytest.raises(UserError, match=r"a\.png is there already"):
        img2img.edit("in", "out", by_hand(), **folders, **CPU)
    assert names("out") == ["a.png"]
    img2img.edit("in", "out", by_hand(), **folders, overwrite=True, **CPU)
    assert read("out/a.png").shape == read("in/a.png").shape


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"output": "in/out"}, "lies in the input"),
        ({"output": "dark/out"}, "lies in --from dark"),
        ({"output": "bright"}, "lies in --to bright"),
        ({"end": "dark"}, "do not differ"),
        ({"direction": "up"}, "--direction is one of mean, classifier"),
        ({"strength": float("nan")}, "--strength a number"),
        ({"input": "gone"}, "gone does not exist"),
        ({"input": "empty"}, "no images"),
        ({"start": "empty"}, "no images"),
        ({"start": "gone"}, "--from gone does not exist"),
    ],
)
def test_what_cannot_be_meant_is_one_line(arguments, said, folders, photos_in):
    Path("empty").mkdir()
    given = {"input": "in", "output": "out", "model": by_hand()} | folders | CPU | arguments
    with pytest.raises((UserError, FileNotFoundError), match=said):
        img2img.edit(**given)
    assert not Path("out").exists()
    assert names("in") == ["a.png", "deep er/a.png", "deep er/alpha.png", "sixteen.tif"]


@pytest.mark.slow
def test_two_processes_share_the_images(folders, photos_in, tmp_path):
    model = save(tmp_path / "m.ckpt")
    given = ["--model", model, "--from", "dark", "--to", "bright", "--accelerator", "cpu"]
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
