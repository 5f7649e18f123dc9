import math

import numpy as np
import pytest
import scipy.stats
import torch
from torch import distributions

from img2img.errors import UserError
from img2img.tasks import Bernoulli, DiscretizedLogistic, Laplace, PixelGaussian, SharedGaussian
from tests.tasks.decoded import decoded, suited

ALL = [SharedGaussian, PixelGaussian, Laplace, DiscretizedLogistic, Bernoulli]


def test_gaussians_and_laplace_are_those_of_torch(images):
    shared = SharedGaussian()
    shared.freeze(0.01)
    raw = decoded(shared, images)
    expected = distributions.Normal(raw + 0.5, 0.1).log_prob(images)
    torch.testing.assert_close(shared.log_prob(raw, images), expected, rtol=2e-3, atol=2e-3)  # σ² + exp(-12)
    for likelihood, distribution in ((PixelGaussian(), distributions.Normal), (Laplace(), distributions.Laplace)):
        raw = decoded(likelihood, images)
        mean, log_scale = raw.chunk(2, 1)
        low, high = -6.0, 1.0
        clamped = high - torch.log1p(torch.exp(high + 2 - log_scale))
        clamped = low + torch.log1p(torch.exp(clamped - low))
        assert (clamped - log_scale + 2).abs().max() < 0.2, "far from the limits there is hardly any clamp"
        expected = distribution(mean + 0.5, clamped.exp())
        torch.testing.assert_close(likelihood.log_prob(raw, images), expected.log_prob(images))
        torch.testing.assert_close(likelihood.scale(raw), expected.stddev)


def test_the_logistic_is_differences_of_cumulative_distributions(images):
    likelihood = DiscretizedLogistic()
    raw = decoded(likelihood, images)
    scale = likelihood.scale(raw).double().numpy() * math.sqrt(3) / math.pi
    logistic = scipy.stats.logistic(raw[:, :3].double().numpy() + 0.5, scale)
    images = images.clone()
    images[0, 0, 0, :2] = torch.tensor([0.0, 1.0])
    level = (images.double() * 255).round().numpy()
    upper = np.where(level == 255, 1, logistic.cdf((level + 0.5) / 255))
    lower = np.where(level == 0, 0, logistic.cdf((level - 0.5) / 255))
    expected = torch.from_numpy(np.log(upper - lower)).float()
    torch.testing.assert_close(likelihood.log_prob(raw, images), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("centre", [-3.0, -0.5, 0.01, 0.5, 4.0])
@pytest.mark.parametrize("log_scale", [-50.0, -3.0, 0.0, 50.0])
def test_the_probabilities_of_all_levels_add_up_to_one(centre, log_scale):
    levels = (torch.arange(256) / 255).view(256, 1, 1, 1)
    raw = torch.tensor([centre, log_scale]).view(1, 2, 1, 1).expand(256, -1, -1, -1)
    assert DiscretizedLogistic().log_prob(raw, levels).double().exp().sum() == pytest.approx(1, abs=1e-4)


def test_bernoulli_is_torchs_and_refuses_gray(images):
    likelihood = Bernoulli()
    binary, raw = suited(likelihood, images), decoded(likelihood, images, 3)
    torch.testing.assert_close(likelihood.log_prob(raw, binary), distributions.Bernoulli(logits=raw).log_prob(binary))
    with pytest.raises(UserError, match=r"Bernoulli is for binary images.*choose another likelihood") as error:
        likelihood.training_loss(raw, images)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ALL)
def test_raw_zeros_are_a_plain_gray_and_shapes_are_those_of_the_image(kind):
    likelihood = kind()
    raw = torch.zeros(2, 3 * likelihood.per_value, 4, 5)
    assert torch.equal(likelihood.mean(raw), torch.full((2, 3, 4, 5), 0.5))
    draw, scale = likelihood.draw(raw), likelihood.scale(raw)
    assert draw.shape == scale.shape == (2, 3, 4, 5)
    assert scale.min() > 0


@pytest.mark.parametrize("kind", ALL)
def test_draws_have_the_stated_mean_and_deviation(kind):
    likelihood, count = kind(), 100_000
    if isinstance(likelihood, SharedGaussian):
        likelihood.freeze(0.04)
    # Scales of about 0.02, so that the ends cut nothing off the logistic, and rounding adds 0.1 % to its variance.
    raw = torch.tensor([0.1, -0.2] + [-2.0, -1.5] * (likelihood.per_value - 1)).view(1, -1, 1, 1)
    raw = raw.expand(count, -1, -1, -1)
    draws = likelihood.draw(raw, torch.Generator().manual_seed(0)).double()
    mean, scale = likelihood.mean(raw)[0].double(), likelihood.scale(raw)[0].double()
    # 5 standard errors; of the variance's with the kurtosis of Laplace, 6, which is the largest here.
    assert ((draws.mean(0) - mean).abs() < 5 * scale / math.sqrt(count)).all()
    assert (draws.var(0) / scale**2 - 1).abs().max() < 5 * math.sqrt(5 / count) + 2e-3
    assert torch.equal(draws, likelihood.draw(raw, torch.Generator().manual_seed(0)).double())
    assert not torch.equal(draws, likelihood.draw(raw, torch.Generator().manual_seed(1)).double())


@pytest.mark.parametrize("kind", [DiscretizedLogistic, Bernoulli])
def test_draws_come_as_often_as_their_probability_says(kind):
    likelihood, count = kind(), 100_000
    raw = torch.tensor([0.45, 1.0][: likelihood.per_value]).view(1, -1, 1, 1).expand(count, -1, -1, -1)
    levels = torch.tensor([0.0, 200 / 255, 1.0] if kind is DiscretizedLogistic else [0.0, 1.0])
    draws = likelihood.draw(raw, torch.Generator().manual_seed(0))
    assert torch.equal((draws * 255).round() / 255, draws)
    for level in levels:
        share = float((draws == level).double().mean())
        stated = float(likelihood.log_prob(raw[:1], level.view(1, 1, 1, 1)).exp())
        assert share == pytest.approx(stated, abs=5 * math.sqrt(stated / count))


def test_draws_of_a_density_are_not_clamped_but_means_are():
    raw = torch.full((4, 2, 32, 32), 0.6)
    assert PixelGaussian().draw(raw, torch.Generator().manual_seed(0)).max() > 1.2
    assert PixelGaussian().mean(raw).max() == 1


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("extreme", [-50.0, 50.0])
@pytest.mark.parametrize("autocast", [False, True])
def test_extreme_outputs_have_finite_gradients(kind, extreme, autocast, images):
    likelihood = kind()
    images = suited(likelihood, images)
    images[..., :4], images[..., 4:8] = 0, 1
    raw = torch.full((2, 3 * likelihood.per_value, 24, 32), extreme, dtype=torch.bfloat16 if autocast else None)
    raw[:, :, ::2] *= -1
    raw[:, :3, :, ::3] = 0
    raw.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        values, loss = likelihood.log_prob(raw, images), likelihood.training_loss(raw, images)
        shown = likelihood.mean(raw), likelihood.scale(raw), likelihood.draw(raw)
    loss.backward()
    assert values.dtype == loss.dtype == torch.float32
    assert values.isfinite().all()
    assert loss.isfinite()
    assert raw.grad.isfinite().all()
    assert raw.grad.abs().max() > 0
    assert all(image.dtype == torch.float32 and image.isfinite().all() for image in shown)


def test_bfloat16_outputs_are_reckoned_in_float32(images):
    likelihood = DiscretizedLogistic()
    raw = decoded(likelihood, images).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        loss = likelihood.training_loss(raw, images)
    torch.testing.assert_close(loss, likelihood.training_loss(raw.float(), images))


def test_the_loss_is_summed_over_values_and_averaged_over_images(images):
    likelihood = Laplace()
    raw = decoded(likelihood, images)
    each = [float(likelihood.training_loss(raw[i : i + 1], images[i : i + 1])) for i in range(2)]
    assert each[0] == pytest.approx(-float(likelihood.log_prob(raw, images)[0].sum()), rel=1e-5)
    assert float(likelihood.training_loss(raw, images)) == pytest.approx(sum(each) / 2, rel=1e-5)


def test_bits_per_dim_of_uniform_noise_are_eight():
    assert PixelGaussian().bits_per_dim(0.0) == 8, "the density of [0, 1] itself"
    assert DiscretizedLogistic().bits_per_dim(math.log(256)) == pytest.approx(8)
    assert Bernoulli().bits_per_dim(math.log(2)) == pytest.approx(1)
    torch.testing.assert_close(Laplace().bits_per_dim(torch.tensor([0.0, -math.log(2)])), torch.tensor([8.0, 7.0]))


def test_densities_and_probabilities_of_levels_agree_in_bits(images):
    likelihood = PixelGaussian()
    raw = torch.zeros(2, 6, 24, 32)
    noise = torch.rand(images.shape, generator=torch.Generator().manual_seed(0))
    bits = likelihood.bits_per_dim(-likelihood.log_prob(raw, (255 * images + noise) / 256).mean())
    sigma = float(likelihood.scale(raw)[0, 0, 0, 0])
    level = (images.double() * 255).round()
    normal = distributions.Normal(torch.tensor(0.5).double(), sigma)
    exact = -(normal.cdf((level + 1) / 256) - normal.cdf(level / 256)).log2().mean()
    assert float(bits) == pytest.approx(float(exact), abs=1e-3)  # a wide σ: the noise costs next to nothing


@pytest.mark.parametrize("kind", ALL)
def test_a_decoder_with_the_wrong_number_of_channels_is_told(kind, images):
    likelihood = kind()
    raw = torch.zeros(2, 3 * likelihood.per_value + 1, 24, 32)
    with pytest.raises(UserError, match=rf"needs decoder output \[2, {3 * likelihood.per_value}, 24, 32\]"):
        likelihood.log_prob(raw, suited(likelihood, images))
    if likelihood.per_value == 2:
        with pytest.raises(UserError, match="needs 2 decoder outputs for each value, not 7 in all"):
            likelihood.draw(raw)
