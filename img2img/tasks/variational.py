"""Variational autoencoder."""

from __future__ import annotations

import math
from typing import Any

import torch
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn

from img2img.errors import UserError
from img2img.networks import ConvAutoencoder
from img2img.tasks.autoencoding import Autoencoder
from img2img.tasks.base import Batch
from img2img.tasks.elbo import Elbo, active_units, bounded_log_variance, collapse_warning, gaussian_kl, importance_bound
from img2img.tasks.gather import gather, mean_of_batch
from img2img.tasks.likelihoods import START_MEAN, Likelihood, SharedGaussian
from img2img.tasks.metrics import Metric
from img2img.tasks.pca import PrincipalComponents
from img2img.tasks.seeded_noise import Purpose, normal_noise, uniform_noise


class VariationalAutoencoder(Autoencoder):
    """Trains an autoencoder by the evidence lower bound, on images as they are or (denoising) on corrupted ones.

    Kingma & Welling, "Auto-encoding variational Bayes", ICLR 2014. The encoder gives mean and log-variance of a
    Gaussian posterior for each latent, whose prior is N(0, 1); the decoder gives parameters of a `Likelihood` of the
    target. Both terms are sums over the values of an image or over the latents, and means over the batch. The training
    loss is their total divided by the number of values, which does not change what β means and suits gradient clipping.

    Noise depends only on the data module's seed and on the sample's number, so measurements depend neither on the batch
    nor on the number of processes. In training, `free_bits` and the σ of `SharedGaussian` use the means over the batch
    of all processes, and with accumulation those over each of the batches.

    Beside what `Autoencoder` logs, it logs, always at β = 1: `val/elbo` (nats), `val/bits_per_dim`, `val/kl`,
    `val/log_likelihood`, `val/loss` (-ELBO in nats per value), `val/active_units`, and in `test` the tighter
    `test/bits_per_dim_iw`. Densities are measured (and trained) on dequantised images, (255 x + u) / 256.

    Args:
        network: Encoder and decoder with `per_latent: 2` and the likelihood's `per_value`; None for `ConvAutoencoder`
            with these.
        likelihood: The distribution over pixels; None for `SharedGaussian()`.
        metrics: As in `Autoencoder`.
        beta: Weight of the divergence in training (β-VAE, Higgins et al., ICLR 2017); 1 for the bound itself.
        free_bits: Nats of each latent, in the batch's mean, that training does not charge for (Kingma et al., "Improved
            variational inference with inverse autoregressive flow", 2016, equation 16).
        kl_warmup: Share of the run over which the divergence's weight rises from 0 to `beta`.
        importance_samples: Latents for `test/bits_per_dim_iw` (Burda et al., "Importance weighted autoencoders", 2016).
        kwargs: Arguments of every `Task`.

    Attributes:
        kl_per_dimension: After a validation or test, the mean divergence of each latent over all images, k values.

    Raises:
        UserError: If a number is out of its range, or network and likelihood do not fit.
    """

    per_latent = 2

    def __init__(
        self,
        network: nn.Module | None = None,
        likelihood: Likelihood | None = None,
        metrics: list[Metric] | None = None,
        beta: float = 1.0,
        free_bits: float = 0.0,
        kl_warmup: float = 0.1,
        importance_samples: int = 64,
        **kwargs: Any,
    ) -> None:
        if beta < 0 or free_bits < 0 or not 0 <= kl_warmup <= 1 or importance_samples < 1:
            raise UserError(
                "beta and free_bits must be at least 0, kl_warmup in [0, 1] and importance_samples at least 1, "
                f"not {beta}, {free_bits}, {kl_warmup} and {importance_samples}"
            )
        likelihood = SharedGaussian() if likelihood is None else likelihood
        network = ConvAutoencoder(per_latent=2, per_value=likelihood.per_value) if network is None else network
        if getattr(network, "standardise", False):
            raise UserError("a variational autoencoder needs standardise: false: no prior describes its latents")
        if likelihood.binary and getattr(network, "linear", None) is not None:
            raise UserError(f"{type(likelihood).__name__} needs linear: false: the output of PCA is not log-odds")
        super().__init__(network, likelihood, metrics, hole_loss=False, **kwargs)
        self.beta, self.free_bits, self.kl_warmup = beta, free_bits, kl_warmup
        self.importance_samples = importance_samples
        self.kl_per_dimension: Tensor | None = None
        self._posteriors: list[tuple[int, Tensor, Tensor]] = []  # sample's number, mean, divergence of each latent
        self._warned = False

    @property
    def likelihood(self) -> Likelihood:
        """The distribution over pixels."""
        assert isinstance(self.loss, Likelihood)
        return self.loss

    @property
    def per_value(self) -> int:
        """As in `Autoencoder`."""
        return self.likelihood.per_value

    @torch.no_grad()
    def begin_at(self, pca: PrincipalComponents) -> None:
        """As in `Autoencoder`; subtracts what the likelihood will add to the images of a linear part."""
        super().begin_at(pca)
        if self.network.linear is not None:
            self.network.linear.ends[1].bias.sub_(START_MEAN)

    def posterior(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Returns mean and log-variance of the latents of N×C×H×W, N×latent_dim each."""
        self.check_size(image)
        code = self.network.encode(image)
        mean, log_variance = code.to(torch.promote_types(code.dtype, torch.float32)).chunk(2, 1)
        return mean, bounded_log_variance(log_variance)

    def decode(self, latent: Tensor) -> Tensor:
        """Returns the mean image of the distribution that latents N×latent_dim define, N×C×H×W in [0, 1]."""
        return self.likelihood.mean(self.raw(latent)).float()

    def draw(self, latent: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Returns a sample N×C×H×W, not clamped to [0, 1], of the distribution that latents N×latent_dim define.

        The generator is on the latents' device; None for PyTorch's own.
        """
        return self.likelihood.draw(self.raw(latent), generator).float()

    # The bound ---------------------------------------------------------------------------------------------------

    def elbo(self, image: Tensor, noise: Tensor, target: Tensor | None = None) -> Elbo:
        """Returns the evidence lower bound at β = 1.

        Args:
            image: Input of the encoder, N×C×H×W.
            noise: Standard normal, N×latent_dim: the latent is the posterior's mean + its deviation · noise.
            target: Image whose likelihood is computed, N×C×H×W, dequantised for a density; None for the input.
        """
        raw, mean, log_variance = self._sampled(image, noise)
        log_prob = self.likelihood.log_prob(raw, image if target is None else target)
        return Elbo(log_prob.flatten(1).sum(1), gaussian_kl(mean, log_variance))

    def importance_weighted(self, image: Tensor, noise: Tensor, target: Tensor | None = None) -> Tensor:
        """Returns Burda et al.'s bound on log p(target), N in nats: the ELBO for one sample, tighter for more.

        Args:
            image: As in `elbo`.
            noise: Standard normal, N×samples×latent_dim.
            target: As in `elbo`.
        """
        target = image if target is None else target

        def log_likelihood(latents: Tensor) -> Tensor:
            again = target.repeat_interleave(latents.shape[1], 0)
            log_prob = self.likelihood.log_prob(self.raw(latents.flatten(0, 1)), again)
            return log_prob.flatten(1).sum(1).view(latents.shape[:2])

        return importance_bound(*self.posterior(image), noise, log_likelihood)

    def elbo_of(self, batch: Batch) -> Tensor:
        """Returns the evidence lower bound of a batch's `image`, N, in nats.

        All images get the same noise, so that the bound does not depend on an image's place in its folder.
        """
        image = batch["image"]
        return self._elbo(image, image, [0] * len(image), seed=0).total

    def _elbo(self, image: Tensor, target: Tensor, numbers: list[int], seed: int) -> Elbo:
        noise = self._noise(seed, numbers, Purpose.EVALUATION)
        return self.elbo(image, noise, self._dequantised(target, numbers, Purpose.DEQUANTISATION, seed))

    def _noise(self, seed: int, numbers: list[int], purpose: Purpose) -> Tensor:
        return normal_noise(seed, numbers, purpose, [self.network.latent_dim])

    def _sampled(self, image: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the decoder's output at a latent of the posterior, and the posterior's mean and log-variance."""
        mean, log_variance = self.posterior(image)
        return self.raw(mean + (0.5 * log_variance).exp() * noise.to(mean)), mean, log_variance

    def _dequantised(self, target: Tensor, numbers: list[int], purpose: Purpose, seed: int) -> Tensor:
        """Returns (255 x + u) / 256 where the likelihood is a density, else the target as it is."""
        if not self.likelihood.dequantised:
            return target
        noise = uniform_noise(seed, numbers, purpose, target.shape[1:]).to(target.device)
        wide = torch.promote_types(target.dtype, torch.float32)  # half precision has no room for the noise
        return (255 * target.to(wide) + noise.to(wide)) / 256

    @property
    def _seed(self) -> int:
        return getattr(getattr(self.trainer, "datamodule", None), "seed", None) or 0

    # Training ----------------------------------------------------------------------------------------------------

    def squared_error_of(self, batch: Batch) -> Tensor | None:
        """Returns the mean squared error per value, N, of a batch's `image` at a latent drawn from its posterior.

        Its mean over the training images is the σ² at which their ELBO is highest. Reconstructions from the posterior's
        mean have smaller errors, with which σ would be too small. None where no σ is shared by all values.
        """
        if not isinstance(self.likelihood, SharedGaussian):
            return None
        image, numbers = batch["image"], batch["n"].tolist()
        raw, _, _ = self._sampled(image, self._noise(0, numbers, Purpose.TRAINING))
        target = self._dequantised(image, numbers, Purpose.TRAINING_DEQUANTISATION, seed=0)
        return self.likelihood.squared_error(raw, target).flatten(1).mean(1)

    def freeze_scale(self, mean_square: float) -> None:
        """Sets the σ² that all values share, if there is one, to the mean of `squared_error_of`; training frees it."""
        if isinstance(self.likelihood, SharedGaussian):
            self.likelihood.freeze(mean_square)

    def on_train_start(self) -> None:
        """Lets σ change again in a run that continues a finished one."""
        super().on_train_start()
        if isinstance(self.likelihood, SharedGaussian):
            self.likelihood.frozen.fill_(False)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Returns the loss of a batch: -log p + weight · divergence, in nats per value."""
        if batch_idx == 0:
            self._check(batch)
        numbers = batch["n"].tolist()
        target = self._dequantised(batch["target"], numbers, Purpose.TRAINING_DEQUANTISATION, self._seed)
        raw, mean, log_variance = self._sampled(batch["input"], self._noise(self._seed, numbers, Purpose.TRAINING))
        distortion = self.likelihood.training_loss(raw, target)
        kl, weight = gaussian_kl(mean, log_variance).mean(0), self.kl_weight()
        loss = (distortion + weight * self.charged(kl)) / target[0].numel()
        parts: dict[str, Tensor | float] = {
            "train/log_likelihood": -distortion,
            "train/kl": kl.sum(),
            "train/kl_weight": weight,
        }
        self.log_step(parts | {"train/loss": loss})
        return loss

    def charged(self, kl: Tensor) -> Tensor:
        """Returns the sum of the latents' mean divergences, k values, each at least the free bits."""
        return (mean_of_batch(kl) if self.free_bits else kl).clamp_min(self.free_bits).sum()

    def kl_weight(self) -> float:
        """Returns the divergence's weight at this step: β, or less during the warm-up, by steps or `max_time`."""
        total, timed = self.trainer.estimated_stepping_batches, self._time_share()
        if math.isinf(total) and not any(isinstance(callback, Timer) for callback in self.trainer.callbacks):  # type: ignore[attr-defined]
            return self.beta  # a run without an end has no warm-up
        done = max(self.global_step / max(1.0, total), timed)
        return self.beta if done >= self.kl_warmup else self.beta * done / self.kl_warmup

    # Measuring ---------------------------------------------------------------------------------------------------

    def loss_of(self, raw: Tensor, batch: Batch) -> Tensor:
        """Returns -log p of the targets, in nats per value."""
        return -self.likelihood.log_prob(raw, batch["target"]).mean()

    def finish(self, raw: Tensor, batch: Batch) -> Tensor:
        """Returns the mean image, N×C×H×W in [0, 1]."""
        return self.likelihood.mean(raw).float()

    def measure_batch(self, batch: Batch) -> list[dict[str, float]]:
        """Returns the bound and its parts for each image."""
        image, target, numbers = batch["input"], batch["target"], batch["n"].tolist()
        bound, mean = self._elbo(image, target, numbers, self._seed), self.encode(image)
        for i, n in enumerate(numbers):
            if batch["counted"][i]:
                self._posteriors.append((n, mean[i].cpu(), bound.kl[i].cpu()))
        loss = -bound.total / target[0].numel()
        found = {
            "elbo": bound.total,
            "bits_per_dim": self.likelihood.bits_per_dim(loss),
            "kl": bound.kl.sum(1),
            "log_likelihood": bound.log_likelihood,
            "loss": loss,
        }
        if self.trainer.testing:
            shape = [self.importance_samples, self.network.latent_dim]
            noise = normal_noise(self._seed, numbers, Purpose.IMPORTANCE, shape).to(mean)
            dequantised = self._dequantised(target, numbers, Purpose.DEQUANTISATION, self._seed)
            tighter = self.importance_weighted(image, noise, dequantised)
            found["bits_per_dim_iw"] = self.likelihood.bits_per_dim(-tighter / target[0].numel())
        return [{name: float(each[i]) for name, each in found.items()} for i in range(len(image))]

    def _log_scores(self, stage: str) -> None:
        super()._log_scores(stage)
        posteriors = sorted(gather(self._posteriors), key=lambda posterior: posterior[0])
        self._posteriors.clear()
        if len(posteriors) < 2:  # the means of one image have no variance
            return
        _, means, divergences = zip(*posteriors, strict=True)
        self.kl_per_dimension = torch.stack(divergences).mean(0)
        active, latents = active_units(torch.stack(means)), self.network.latent_dim
        self.log(f"{stage}/active_units", float(active), sync_dist=True)
        # Latents of an encoder that has hardly trained are not active yet.
        warm = self.trainer.state.fn == "fit" and self.global_step > self.warmup_steps
        if warm and not self._warned and 2 * active < latents and self.kl_weight() >= self.beta:
            self._warned = True
            rank_zero_warn(collapse_warning(active, latents, self.beta, self.free_bits, self.kl_warmup))
