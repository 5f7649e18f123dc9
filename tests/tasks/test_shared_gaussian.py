import math
import multiprocessing
import os

import pytest
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from img2img.tasks import SharedGaussian
from tests.tasks.decoded import decoded
from tests.tasks.small_vae import tiny


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


IMAGES = torch.tensor([0.1, 0.3, 0.2, 0.6]).reshape(4, 1, 1, 1).expand(4, 1, 2, 2) + torch.eye(2) / 10
WEIGHT = 0.3


def _learn(images: torch.Tensor, free_bits: float = 0.0) -> tuple[float, float, float]:
    """The running mean, the loss of a decoder with one weight, and its gradient; the latent's cost is not linear."""
    likelihood, weight = SharedGaussian(), torch.tensor(WEIGHT, requires_grad=True)
    loss = likelihood.training_loss(weight * images.square() - 0.5, images)
    loss = loss + tiny(free_bits=free_bits).charged((weight * images).flatten(1).mean(1).mean(0, keepdim=True))
    loss.backward()
    return float(likelihood.mean_square), loss.item(), float(weight.grad)


def _rank(rank: int, store: str, results: multiprocessing.SimpleQueue, free_bits: float) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    results.put(_learn(IMAGES[2 * rank : 2 * rank + 2], free_bits))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.parametrize("free_bits", [0.0, 0.1])  # one rank's mean is below, that of both above
def test_two_ranks_learn_what_one_with_both_batches_learns(tmp_path, free_bits):
    context = multiprocessing.get_context("fork")  # a child of few numbers, which needs no threads
    results = context.SimpleQueue()
    store = str(tmp_path / "store")
    ranks = [context.Process(target=_rank, args=(i, store, results, free_bits), daemon=True) for i in range(2)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(30)
        assert process.exitcode == 0
    found = [results.get() for _ in ranks]
    mean_square, loss, gradient = _learn(IMAGES, free_bits)
    assert [own[0] for own in found] == pytest.approx([mean_square] * 2, rel=1e-5), "one σ for all"
    assert sum(own[1] for own in found) / 2 == pytest.approx(loss, rel=1e-5)
    assert sum(own[2] for own in found) / 2 == pytest.approx(gradient, rel=1e-5), "as training averages them"
    apart = sum(_learn(IMAGES[i : i + 2], free_bits)[2] for i in (0, 2)) / 2
    assert apart != pytest.approx(gradient, rel=1e-2), "each with its own σ, it would be another one"
