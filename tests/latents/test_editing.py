from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from img2img.errors import UserError
from img2img.imaging.files import read_image
from img2img.latents.editing import edit
from tests.latents.autoencoders import BRIGHTER, by_hand, dark_and_bright, names, picture, read, tree_of

CPU = {"accelerator": "cpu"}


@pytest.fixture
def folders() -> dict[str, str]:
    return dark_and_bright()


@pytest.fixture
def photos_in(photo) -> Path:
    return tree_of(photo)


def test_no_strength_no_change_and_the_way_back(folders, photos_in):
    for strength, source, out in ((0, "in", "same"), (1, "in", "there"), (-1, "there", "back")):
        edit(source, out, by_hand(), **folders, strength=strength, **CPU)
    for name in names(photos_in):
        before = read_image(photos_in / name).pixels
        np.testing.assert_array_equal(read_image(Path("same") / name).pixels, before)
        back = read_image(Path("back") / name).pixels.astype(int)
        assert np.abs(back - before).max() <= 1


def test_a_classifiers_direction_moves_as_far(folders, photos_in):
    edit("in", "out", by_hand(), **folders, direction="classifier", **CPU)
    change = read("out/deep er/a.png").astype(int) - read("in/deep er/a.png")
    assert change.mean() == pytest.approx(BRIGHTER, abs=4)


def test_plain_writes_what_the_model_draws(folders):
    picture(Path("one.png"), [-0.1, 0.1, 0.0])
    larger = Image.open("one.png").resize((24, 16), Image.Resampling.NEAREST)
    larger.save("large.png")
    assert edit("large.png", "edited.png", by_hand(), **folders, plain=True, **CPU).problems == ()
    found = read("edited.png").astype(int)
    assert found.shape == (16, 24)
    left, right = 0.5 - 0.1 + 0.2 + 0.1, 0.5 - 0.1 + 0.2 - 0.1
    assert np.abs(found[:, :8] - 255 * left).max() <= 2
    assert np.abs(found[:, -8:] - 255 * right).max() <= 2


def test_a_colour_model_edits_gray_images_and_a_gray_one_colours(folders, photos_in):
    edit("in", "out", by_hand(channels=3), **folders, **CPU)
    for name in ("a.png", "deep er/a.png"):
        change = read(f"out/{name}").astype(int) - read(f"in/{name}")
        assert np.abs(change - BRIGHTER).max() <= 1


def test_a_file_that_cannot_be_written_is_named(folders, photos_in):
    Path("out").mkdir()
    Path("out/deep er").write_text("a file where a folder should be")
    problems = edit("in", "out", by_hand(), **folders, **CPU).problems
    assert ["deep er/a.png" in problems[0], "deep er/alpha.png" in problems[1], len(problems)] == [True, True, 2]
    assert names("out") == ["a.png", "deep er", "sixteen.tif"]


def test_outputs_are_replaced_only_when_asked(folders, photos_in):
    Path("out").mkdir()
    Path("out/a.png").write_text("mine")
    with pytest.raises(UserError, match=r"a\.png is there already"):
        edit("in", "out", by_hand(), **folders, **CPU)
    assert names("out") == ["a.png"]
    edit("in", "out", by_hand(), **folders, overwrite=True, **CPU)
    assert read("out/a.png").shape == read("in/a.png").shape


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"output": "in/out"}, "is inside the input"),
        ({"output": "dark/out"}, "is inside --from dark"),
        ({"output": "bright"}, "is inside --to bright"),
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
        edit(**given)
    assert not Path("out").exists()
    assert names("in") == ["a.png", "deep er/a.png", "deep er/alpha.png", "sixteen.tif"]


def test_how_far_the_folders_are_apart_is_told(folders, photos_in):
    result = edit("in", "out", by_hand(), **folders, **CPU)
    assert (result.images, result.told_apart, result.problems) == ((3, 3), 1.0, ())
    assert sorted(path.relative_to("out").as_posix() for path in result.files) == names("out")
    picture(Path("single/0.png"), [0.0, 0.0, 0.0])
    assert edit("in", "again", by_hand(), "dark", "single", **CPU).told_apart is None
