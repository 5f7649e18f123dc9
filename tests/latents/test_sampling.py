from pathlib import Path

import numpy as np
import pytest
import torch

from img2img.errors import UserError
from img2img.latents.sampling import sample
from img2img.networks import DenseAutoencoder
from img2img.tasks import Autoencoder
from tests.latents.autoencoders import COVARIANCE, MEAN, SIDE, by_hand, image_of, names, read, tiles

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
    task = Variational(DenseAutoencoder((SIDE, SIDE), latent_dim=2, hidden=(), per_latent=2))
    with torch.no_grad():
        task.network.decoder[0].weight.zero_()[:, 0] = 0.1
        task.network.decoder[0].bias.fill_(0.5)
    return task.eval()


def test_an_image_depends_on_its_number_alone():
    sample("few", by_hand(), n=2, batch_size=1, **CPU)
    sample("many", by_hand(), n=5, batch_size=4, **CPU)
    assert names("many") == [f"000{i}.png" for i in range(5)]
    assert names("few") == ["0000.png", "0001.png"]
    for name in ("0000.png", "0001.png"):
        np.testing.assert_array_equal(read(f"few/{name}"), read(f"many/{name}"))
    assert not np.array_equal(read("many/0000.png"), read("many/0001.png"))


def test_latents_of_a_plain_autoencoder_are_spread_as_its_training_codes():
    sample("out", by_hand(), n=300, **CPU)
    images = np.stack([read(path) for path in sorted(Path("out").iterdir())]) / 255
    codes = by_hand().encode(torch.from_numpy(images[:, None]).float()).detach()
    # Of 300 draws a mean is right within 0.1 / sqrt(300) = 0.006, a variance within sqrt(2 / 300) = 8 %; thrice that.
    assert torch.allclose(codes.mean(0), MEAN, atol=0.018)
    assert torch.allclose(torch.cov(codes.T), COVARIANCE, atol=0.0025)


def test_temperature_zero_draws_the_mean():
    sample("out", by_hand(), n=2, temperature=0, **CPU)
    np.testing.assert_array_equal(read("out/0000.png"), image_of(MEAN))
    np.testing.assert_array_equal(read("out/0001.png"), image_of(MEAN))


def test_a_variational_one_draws_from_its_prior(variational):
    assert sample("out", variational, n=200, **CPU).origin == "the prior N(0, I)"
    first = np.array([read(path).mean() / 255 - 0.5 for path in sorted(Path("out").iterdir())]) / 0.1
    assert abs(first.mean()) < 3 / np.sqrt(200)
    assert abs(first.std() - 1) < 3 / np.sqrt(400)


def test_noise_of_pixels_belongs_to_the_image(variational):
    for name, batch_size in (("one", 1), ("three", 3)):
        sample(name, variational, n=3, draw="sample", batch_size=batch_size, **CPU)
    for i in range(3):
        np.testing.assert_array_equal(read(f"one/000{i}.png"), read(f"three/000{i}.png"))
    noisy = [read(f"one/000{i}.png").astype(float) for i in range(2)]
    assert [image.std() > 15 for image in noisy] == [True, True]  # 0.1 · 255 and clipped nowhere
    noise = [image - image.mean() for image in noisy]
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.5


def test_a_model_that_was_never_measured_says_so():
    with pytest.raises(UserError, match="does not hold the latents of its training images"):
        sample("a.png", by_hand(measured=False), **CPU)


def test_what_is_there_is_replaced_when_asked():
    Path("a.png").write_text("mine")
    sample("a.png", by_hand(), n=4, overwrite=True, **CPU)
    assert len(tiles(read("a.png"), 2, captions=False)) == 4


def test_without_an_output_the_images_are_returned_and_nothing_is_written():
    result = sample(None, by_hand(), n=5, batch_size=2, **CPU)
    assert result.images.shape == (5, 1, SIDE, SIDE)
    assert (result.files, result.problems) == ((), ())
    sheet = sample("a.png", by_hand(), n=5, **CPU)
    assert sheet.files == (Path("a.png"),)
    torch.testing.assert_close(sheet.images, result.images)
    for image, tile in zip(sheet.images, tiles(read("a.png"), 3, captions=False), strict=False):
        np.testing.assert_array_equal((image[0] * 255).round().byte(), tile)
    assert names(".") == ["a.png"]


def test_a_folder_is_written_batch_by_batch(monkeypatch):
    from img2img.latents import sampling
    from img2img.latents.one_device import OneDevice

    made, compute, write = [0], OneDevice.compute, sampling.write_picture
    ahead = []

    def counted(self, function, latents):
        made[0] += len(latents)
        return compute(self, function, latents)

    def watched(path, pixels):
        ahead.append(made[0] - int(path.stem))
        write(path, pixels)

    monkeypatch.setattr(OneDevice, "compute", counted)
    monkeypatch.setattr(sampling, "write_picture", watched)
    result = sample("out", by_hand(), n=20, batch_size=4, **CPU)
    assert max(ahead) == 4, "no more images wait than a batch"
    assert result.images is None
    assert [path.name for path in result.files] == names("out")


def test_no_image_of_a_diverged_model_can_be_written():
    task = by_hand()
    with torch.no_grad():
        task.network.decoder[0].bias.fill_(float("nan"))
    with pytest.raises(UserError, match=r"none of the 3 image\(s\) can be written; the first: out/0000.png: .*NaN"):
        sample("out", task, n=3, **CPU)


def test_the_model_that_was_given_stays_as_it_is():
    task = by_hand().train()
    before = {name: value.clone() for name, value in task.state_dict().items()}
    sample(None, task, n=2, precision="bf16-true", **CPU)
    assert task.training
    assert all(torch.equal(value, before[name]) for name, value in task.state_dict().items())
    assert {value.dtype for value in task.state_dict().values()} == {torch.float32}


@pytest.mark.parametrize(
    ("given", "said"),
    [({"draw": "median"}, "--draw median is neither mean nor sample"), ({"seed": -1}, "--seed and --temperature")],
)
def test_what_cannot_be_meant_is_refused(given, said):
    with pytest.raises(UserError, match=said):
        sample("a.png", by_hand(), **given, **CPU)
