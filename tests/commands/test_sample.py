from pathlib import Path

import numpy as np
import pytest
import torch

import img2img
from img2img.cli import main
from img2img.tasks import Autoencoder
from tests.commands.autoencoders import COVARIANCE, MEAN, SIDE, by_hand, drawn, read, save, tiles

CPU = {"accelerator": "cpu"}


class Variational(Autoencoder):
    """The least that a variational autoencoder is: two numbers a latent, and pixels with noise."""

    per_latent = 2

    def posterior(self, image):
        latent, log_variance = self.network.encode(image).chunk(2, 1)
        return latent, log_variance

    def draw(self, latent, generator=None):
        return self.decode(latent) + 0.1 * torch.randn((len(latent), 1, SIDE, SIDE), generator=generator)


@pytest.fixture
def variational():
    """Draws 0.5 + 0.1 · the first latent everywhere."""
    from img2img.networks import DenseAutoencoder

    task = Variational(DenseAutoencoder((SIDE, SIDE), latent_dim=2, hidden=(), per_latent=2))
    with torch.no_grad():
        task.network.decoder[0].weight.zero_()[:, 0] = 0.1
        task.network.decoder[0].bias.fill_(0.5)
    return task.eval()


def test_the_command_draws_a_sheet_that_its_seed_decides(capsys, tmp_path):
    model = save(tmp_path / "m.ckpt")
    for name, seed in (("one", "3"), ("same", "3"), ("other", "4")):
        main(["sample", f"{name}.png", "--model", model, "--n", "5", "--seed", seed, "--accelerator", "cpu"])
    assert "5 image(s) drawn from a Gaussian fitted to the codes of its training images: one.png" in (
        capsys.readouterr().out
    )
    assert Path("one.png").read_bytes() == Path("same.png").read_bytes()
    first, other = (tiles(read(f"{name}.png"), 3, captions=False) for name in ("one", "other"))
    assert len(first) == 6
    assert (first[5] == 250).all()  # the sixth place is empty
    assert not any(np.array_equal(a, b) for a, b in zip(first[:5], other[:5], strict=True))


def test_an_image_depends_on_its_number_alone():
    img2img.sample("few", by_hand(), n=2, batch_size=1, **CPU)
    img2img.sample("many", by_hand(), n=5, batch_size=4, **CPU)
    assert sorted(path.name for path in Path("many").iterdir()) == [f"000{i}.png" for i in range(5)]
    assert sorted(path.name for path in Path("few").iterdir()) == ["0000.png", "0001.png"]
    for name in ("0000.png", "0001.png"):
        np.testing.assert_array_equal(read(f"few/{name}"), read(f"many/{name}"))
    assert not np.array_equal(read("many/0000.png"), read("many/0001.png"))


def test_latents_of_a_plain_autoencoder_are_spread_as_its_training_codes():
    img2img.sample("out", by_hand(), n=300, **CPU)
    images = np.stack([read(path) for path in sorted(Path("out").iterdir())]) / 255
    codes = by_hand().encode(torch.from_numpy(images[:, None]).float()).detach()
    # Of 300 draws a mean is right within 0.1 / sqrt(300) = 0.006, a variance within sqrt(2 / 300) = 8 %; thrice that.
    assert torch.allclose(codes.mean(0), MEAN, atol=0.018)
    assert torch.allclose(torch.cov(codes.T), COVARIANCE, atol=0.0025)


def test_temperature_zero_draws_the_mean():
    img2img.sample("out", by_hand(), n=2, temperature=0, **CPU)
    np.testing.assert_array_equal(read("out/0000.png"), drawn(MEAN))
    np.testing.assert_array_equal(read("out/0001.png"), drawn(MEAN))


def test_a_variational_one_draws_from_its_prior(variational, capsys):
    img2img.sample("out", variational, n=200, **CPU)
    assert "from the prior N(0, I)" in capsys.readouterr().out
    first = np.array([read(path).mean() / 255 - 0.5 for path in sorted(Path("out").iterdir())]) / 0.1
    assert abs(first.mean()) < 3 / np.sqrt(200)
    assert abs(first.std() - 1) < 3 / np.sqrt(400)


def test_noise_of_pixels_belongs_to_the_image(variational):
    for name, batch_size in (("one", 1), ("three", 3)):
        img2img.sample(name, variational, n=3, draw="sample", batch_size=batch_size, **CPU)
    for i in range(3):
        np.testing.assert_array_equal(read(f"one/000{i}.png"), read(f"three/000{i}.png"))
    noisy = [read(f"one/000{i}.png").astype(float) for i in range(2)]
    assert [image.std() > 15 for image in noisy] == [True, True]  # 0.1 · 255 and clipped nowhere
    noise = [image - image.mean() for image in noisy]
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.5


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a.png", "--draw", "sample"], "Autoencoder defines no distribution over pixels to draw from"),
        (["a.xyz"], "a.xyz: the formats of pictures are"),
        (["a.gif"], "a.gif: the formats of pictures are"),
        (["a.png", "--n", "0"], "--n must be at least 1"),
        (["a.png", "--temperature", "nan"], "--temperature at least 0"),
        (["a.png", "--batch_size", "0"], "--batch_size and --num_nodes must be at least 1"),
        (["there.png"], "there.png is there already"),
        (["full"], "0001.png is there already"),
        (["file"], "file is a file; give a folder"),
    ],
)
def test_what_cannot_be_meant_is_one_line(arguments, said, capsys, tmp_path):
    for name in ("there.png", "full/0001.png", "file"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text("mine")
    with pytest.raises(SystemExit) as stop:
        main(["sample", *arguments, "--model", save(tmp_path / "m.ckpt"), "--accelerator", "cpu"])
    assert stop.value.code == 2
    assert said in capsys.readouterr().err
    assert Path("there.png").read_text() == Path("full/0001.png").read_text() == "mine"
    assert not Path("a.png").exists()


def test_a_model_that_was_never_measured_says_so():
    with pytest.raises(img2img.errors.UserError, match="knows nothing of the codes of its training images"):
        img2img.sample("a.png", by_hand(measured=False), **CPU)


def test_what_is_there_is_replaced_when_asked(tmp_path):
    Path("a.png").write_text("mine")
    img2img.sample("a.png", by_hand(), n=4, overwrite=True, **CPU)
    assert len(tiles(read("a.png"), 2, captions=False)) == 4
