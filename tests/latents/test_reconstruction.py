from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from img2img.errors import UserError
from img2img.imaging.files import read_image
from img2img.latents.reconstruction import reconstruct
from tests.commands.models import save_model
from tests.latents.autoencoders import SIDE, by_hand, image_of, names, picture, read, tree_of

CPU = {"accelerator": "cpu"}


def test_reconstructions_have_the_size_and_all_else_of_the_originals(photo):
    source = tree_of(photo)
    result = reconstruct("in", "out", by_hand(), **CPU)
    assert names("out") == names("in") == sorted(path.relative_to("out").as_posix() for path in result.files)
    assert result.problems == ()
    for name in names("in"):
        before, after = read_image(source / name), read_image(Path("out") / name)
        assert after.pixels.shape == before.pixels.shape
        assert after.pixels.dtype == before.pixels.dtype
        # Brightness is a latent; detail is not: every row of the upper half is the same.
        assert after.pixels.mean() == pytest.approx(before.pixels.mean(), rel=0.05)
        assert np.ptp(after.pixels[:10].astype(int), 0).max() <= (257 if after.pixels.dtype == np.uint16 else 1)
    np.testing.assert_array_equal(read("out/deep er/alpha.png")[..., 3], read("in/deep er/alpha.png")[..., 3])
    kept = Image.open("out/a.png")
    assert kept.getexif()[0x013B] == "Ansel"
    assert kept.info["dpi"] == pytest.approx((300, 300), abs=0.1)


def test_noise_that_no_latent_draws_is_removed():
    latent = [-0.1, 0.1, 0.05]
    clean = image_of(latent).astype(float)
    noise = 20 * np.random.default_rng(0).choice([-1.0, 1.0], (SIDE, SIDE))
    # What is left along the three latents' patterns, which are orthogonal, would be drawn as well.
    half = np.repeat([1.0, -1.0], SIDE // 2)
    for pattern in (np.ones((SIDE, SIDE)), np.tile(half, (SIDE, 1)), np.tile(half[:, None], (1, SIDE))):
        noise -= (noise * pattern).mean() * pattern
    Image.fromarray(np.round(clean + noise).astype(np.uint8)).save("noisy.png")
    assert reconstruct("noisy.png", "clean.png", by_hand(), **CPU).files == (Path("clean.png"),)
    assert np.abs(read("clean.png") - clean).max() <= 1


def test_outputs_are_replaced_only_when_asked():
    picture(Path("in/a.png"), [0.1, 0.0, 0.0])
    reconstruct("in", "out", by_hand(), **CPU)
    with pytest.raises(UserError, match=r"a\.png is there already"):
        reconstruct("in", "out", by_hand(), **CPU)
    assert reconstruct("in", "out", by_hand(), overwrite=True, **CPU).problems == ()


def test_a_file_that_cannot_be_written_is_named_and_if_none_can_that_is_an_error():
    picture(Path("in/a.png"), [0.1, 0.0, 0.0])
    picture(Path("in/deep/b.png"), [0.1, 0.0, 0.0])
    Path("out").mkdir()
    Path("out/deep").write_text("a file where a folder should be")
    result = reconstruct("in", "out", by_hand(), **CPU)
    assert result.files == (Path("out/a.png"),)
    assert ["in/deep/b.png" in problem for problem in result.problems] == [True]
    diverged = by_hand()
    with torch.no_grad():
        diverged.network.decoder[0].bias.fill_(float("nan"))
    with pytest.raises(UserError, match=r"none of the 2 image\(s\) can be written; the first: in/a.png: .*NaN"):
        reconstruct("in", "other", diverged, **CPU)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"output": "in/out"}, "is inside the input"),
        ({"input": "gone"}, "gone does not exist"),
        ({"input": "empty"}, "no images"),
        ({"batch_size": 0}, "--batch_size and --num_nodes must be at least 1"),
    ],
)
def test_what_cannot_be_meant_is_one_line(given, said):
    picture(Path("in/a.png"), [0.1, 0.0, 0.0])
    Path("empty").mkdir()
    with pytest.raises((UserError, FileNotFoundError), match=said):
        reconstruct(**({"input": "in", "output": "out", "model": by_hand()} | given | CPU))
    assert names("in") == ["a.png"]


def test_a_model_that_is_no_autoencoder():
    picture(Path("in/a.png"), [0.1, 0.0, 0.0])
    with pytest.raises(UserError, match=r"\(Restoration\) is not an autoencoder"):
        reconstruct("in", "out", save_model(Path("m.ckpt")), **CPU)
