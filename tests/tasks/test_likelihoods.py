import math
import multiprocessing
import os

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor, distributions
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from img2img.errors import UserError
from img2img.tasks import Bernoulli, DiscretizedLogistic, Laplace, Likelihood, PixelGaussian, SharedGaussian

ALL = [SharedGaussian, PixelGaussian, Laplace, DiscretizedLogistic, Bernoulli]


@pytest.fixture
def images(photo) -> Tensor:
    """Two pieces of a photograph, 2×3×24×32."""
    pieces = np.stack([photo[:24, :32], photo[200:224, 150:182]]).astype(np.float32)
    return torch.from_numpy(pieces / 255).permute(0, 3, 1, 2)


def suited(likelihood: Likelihood, images: Tensor) -> Tensor:
    return (images > 0.5).float() if likelihood.binary else images


def decoded(likelihood: Likelihood, images: Tensor, spread: float = 0.3) -> Tensor:
    """What a decoder might give."""
    generator = torch.Generator().manual_seed(0)
    n, channels, *size = images.shape
    return spread * torch.randn(n, likelihood.per_value * channels, *size, generator=generator)


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


def test_shared_gaussian_trains_at_the_best_sigma(images):
    likelihood = SharedGaussian()
    raw = decoded(likelihood, images).requires_grad_()
    loss = likelihood.training_loss(raw, images)
    loss.backward()
    error = raw.detach() + 0.5 - images
    best, dims = error.square().mean(), images[0].numel()
    assert loss.item() == pytest.approx(dims / 2 * (math.log(2 * math.pi * best) + 1), rel=1e-4)
    # d/dx of D/2 log MSE over N·D values is error / (N MSE), which is also the gradient at this σ held fast.
    torch.testing.assert_close(raw.grad, error / (len(images) * best), rtol=1e-3, atol=1e-5)
    for factor in (0.9, 1.1):
        likelihood.freeze(float(best) * factor)
        assert -likelihood.log_prob(raw, images).flatten(1).sum(1).mean() > loss
    likelihood.freeze(float(best))
    torch.testing.assert_close(likelihood.eval().training_loss(raw, images), loss, rtol=1e-5, atol=1e-3)


def test_a_perfect_decoder_does_not_earn_without_bound(images):
    likelihood = SharedGaussian()
    loss = likelihood.training_loss(images - 0.5, images)
    assert float(loss) == pytest.approx(images[0].numel() * (0.5 * math.log(2 * math.pi) - 6), rel=1e-3)
    assert likelihood.scale(images).max() == pytest.approx(math.exp(-6), rel=1e-3)


def test_sigma_is_a_running_mean_of_training_batches():
    likelihood, target = SharedGaussian(), torch.full((2, 1, 4, 4), 0.5)
    assert likelihood.scale(target).max() == pytest.approx(1, abs=1e-4), "before any batch"
    errors = [0.04, 0.01, 0.09]
    for error in errors:
        likelihood.training_loss(torch.full_like(target, math.sqrt(error)), target)
    weights = [0.99**2, 0.99, 1]
    expected = sum(w * e for w, e in zip(weights, errors, strict=True)) / sum(weights)
    assert float(likelihood.mean_square) == pytest.approx(expected, rel=1e-5)
    assert float(likelihood.scale(target)[0, 0, 0, 0]) == pytest.approx(math.sqrt(expected), rel=1e-3)
    likelihood.training_loss(torch.full_like(target, math.inf), target)
    likelihood.eval().training_loss(target, target)
    assert float(likelihood.mean_square) == pytest.approx(expected, rel=1e-5), "neither overflow nor evaluation counts"


def test_a_later_batch_does_not_disturb_the_gradient_of_an_earlier_one(images):
    likelihood = SharedGaussian()
    raw = decoded(likelihood, images).requires_grad_()
    value = -likelihood.log_prob(raw, images).mean()
    likelihood.training_loss(raw, images)
    value.backward()
    torch.testing.assert_close(raw.grad, (raw.detach() + 0.5 - images) / images.numel(), rtol=1e-3, atol=1e-7)


def test_a_frozen_sigma_stays_and_is_saved(images):
    likelihood = SharedGaussian()
    likelihood.freeze(0.0123)
    raw = decoded(likelihood, images)
    likelihood.training_loss(raw, images)
    again = SharedGaussian()
    again.load_state_dict(likelihood.state_dict())
    again.training_loss(raw, images)
    assert float(likelihood.mean_square) == float(again.mean_square) == pytest.approx(0.0123)
    torch.testing.assert_close(again.log_prob(raw, images), likelihood.log_prob(raw, images), rtol=0, atol=0)
    for wrong in (-0.1, math.nan, math.inf):
        with pytest.raises(ValueError, match="finite and at least 0"):
            likelihood.freeze(wrong)


def test_a_resumed_running_mean_goes_on(images):
    one, other = SharedGaussian(), SharedGaussian()
    raws = [decoded(one, images, spread) for spread in (0.1, 0.3, 0.5)]
    for raw in raws[:2]:
        one.training_loss(raw, images)
    other.load_state_dict(one.state_dict())
    for likelihood in (one, other):
        likelihood.training_loss(raws[2], images)
    assert torch.equal(one.mean_square, other.mean_square)
    assert one.updates == other.updates == 3


def test_averaged_buffers_are_a_sigma_all_along():
    likelihood, target = SharedGaussian(), torch.full((1, 1, 4, 4), 0.5)
    averaged = AveragedModel(likelihood, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    averaged.update_parameters(likelihood)
    assert averaged.module.mean_square == 1
    for _ in range(100):
        likelihood.training_loss(torch.full_like(target, 0.2), target)
        averaged.update_parameters(likelihood)
        assert 0.04 - 1e-6 < averaged.module.mean_square < 1
    assert float(averaged.module.mean_square) == pytest.approx(0.04, rel=1e-3)
    likelihood.freeze(0.03)
    averaged.update_parameters(likelihood)
    assert averaged.module.frozen


def _rank(rank: int, store: str, results: multiprocessing.SimpleQueue) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    likelihood, target = SharedGaussian(), torch.full((1, 1, 2, 2), 0.5)
    with torch.no_grad():
        loss = likelihood.training_loss(torch.full_like(target, 0.1 + 0.2 * rank), target)
    results.put((rank, float(likelihood.mean_square), float(loss)))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_ranks_agree_on_sigma_and_train_at_their_own(tmp_path):
    context = multiprocessing.get_context("fork")  # a child of few numbers, which needs no threads
    results = context.SimpleQueue()
    ranks = [context.Process(target=_rank, args=(i, str(tmp_path / "store"), results), daemon=True) for i in range(2)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(30)
        assert process.exitcode == 0
    for rank, mean_square, loss in (results.get() for _ in ranks):
        assert mean_square == pytest.approx((0.01 + 0.09) / 2, rel=1e-5)
        own = (0.1 + 0.2 * rank) ** 2
        assert loss == pytest.approx(2 * (math.log(2 * math.pi * own) + 1), rel=1e-3)


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
