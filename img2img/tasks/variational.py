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
from img2img.tasks.gather import gather
from img2img.tasks.likelihoods import START_MEAN, Likelihood, SharedGaussian
from img2img.tasks.metrics import Metric
from img2img.tasks.pca import PrincipalComponents
from img2img.tasks.seeded_noise import Purpose, normal_noise, uniform_noise


class VariationalAutoencoder(Autoencoder):
    """Trains an encoder and a decoder by the evidence lower bound, on images or (denoising) on corrupted ones.

    Kingma & Welling, "Auto-encoding variational Bayes", ICLR 2014. The encoder gives mean and log-variance of a
    Gaussian posterior for each latent, whose prior is N(0, 1); the decoder gives parameters of a `Likelihood` of the
    target. Both terms are sums, over the values of an image and over the latents, and means over the batch; training
    minimises their total divided by the values of an image, which leaves β what it says and suits gradient clipping.

    Noise depends on the data module's seed and on a sample's number alone: measurements depend neither on the batch nor
    on how many processes share them. In training `free_bits` and the σ of `SharedGaussian` take means over the batch of
    each process.

    Logged beside what `Autoencoder` logs, always at β = 1: `val/elbo` (nats), `val/bits_per_dim`, `val/kl`,
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
        kwargs: What every `Task` takes: lr, betas, weight_decay, warmup_steps, final_lr_share, weights, optimizer,
            decay_steps.

    Attributes:
        kl_per_dimension: After a validation or test, the mean divergence of each latent over all images, k values.

    Raises:
        UserError: If a number is out of its range, or the network gives other numbers than the task needs.
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
                "beta and free_bits must be at least 0, kl_warmup lie in [0, 1], importance_samples be at least 1; "
                f"given were {beta}, {free_bits}, {kl_warmup} and {importance_samples}"
            )
        likelihood = SharedGaussian() if likelihood is None else likelihood
        network = ConvAutoencoder(per_latent=2, per_value=likelihood.per_value) if network is None else network
        if getattr(network, "standardise", False):
            raise UserError("a variational autoencoder needs standardise: false: no prior describes its latents")
        if likelihood.binary and getattr(network, "linear", None) is not None:
            raise UserError(f"{type(likelihood).__name__} needs linear: false: what PCA draws are no log-odds")
        super().__init__(network, likelihood, metrics, hole_loss=False, **kwargs)
        self.beta, self.free_bits, self.kl_warmup = beta, free_bits, kl_warmup
        self.importance_samples = importance_samples
        self.kl_per_dimension: Tensor | None = None
        self._codes: list[tuple[int, Tensor, Tensor]] = []  # number, posterior's mean, divergence of each latent
        self._warned = False

    @property
    def likelihood(self) -> Likelihood:
        """The distribution over pixels."""
        assert isinstance(self.loss, Likelihood)
        return self.loss

    @property
    def per_value(self) -> int:
        """Numbers that the decoder must give for each value of a pixel."""
        return self.likelihood.per_value

    @torch.no_grad()
    def begin_at(self, pca: PrincipalComponents) -> None:
        """As in `Autoencoder`; subtracts what the likelihood will add to the images of a linear part."""
        super().begin_at(pca)
        if self.network.linear is not None:
            self.network.linear.ends[1].bias.sub_(START_MEAN)

    # Latents and images ------------------------------------------------------------------------------------------

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
        """Returns a draw from the distribution that latents define, N×C×H×W; not clamped to [0, 1].

        Args:
            latent: N×latent_dim, for example from the prior N(0, I).
            generator: Source of randomness, on the latents' device; None for PyTorch's own.
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
        mean, log_variance = self.posterior(image)
        raw = self.raw(mean + (0.5 * log_variance).exp() * noise)
        log_prob = self.likelihood.log_prob(raw, image if target is None else target)
        return Elbo(log_prob.flatten(1).sum(1), gaussian_kl(mean, log_variance))

    def importance_weighted(self, image: Tensor, noise: Tensor, target: Tensor | None = None) -> Tensor:
        """Returns Burda et al.'s bound on log p(target), N in nats: of one sample the ELBO, of more a tighter one.

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
        return self._elbo(image, image, [0] * len(image), Purpose.EVALUATION, Purpose.DEQUANTISATION, seed=0).total

    def _elbo(
        self, image: Tensor, target: Tensor, numbers: list[int], posterior: Purpose, dequantisation: Purpose, seed: int
    ) -> Elbo:
        noise = normal_noise(seed, numbers, posterior, [self.network.latent_dim]).to(image.device)
        return self.elbo(image, noise, self._dequantised(target, numbers, dequantisation, seed))

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

    # σ over the training images ----------------------------------------------------------------------------------

    def squared_error_of(self, batch: Batch) -> Tensor | None:
        """Returns the mean squared error per value, N, of a batch's `image` at a latent drawn from its posterior.

        Its mean over the training images is the σ² at which their ELBO is highest. Reconstructions from the posterior's
        mean have smaller errors, with which σ would be too small. None where no σ is shared by all values.
        """
        likelihood = self.likelihood
        if not isinstance(likelihood, SharedGaussian):
            return None
        image, numbers = batch["image"], batch["n"].tolist()
        mean, log_variance = self.posterior(image)
        noise = normal_noise(0, numbers, Purpose.TRAINING, [self.network.latent_dim]).to(image.device)
        target = self._dequantised(image, numbers, Purpose.TRAINING_DEQUANTISATION, seed=0)
        raw = self.raw(mean + (0.5 * log_variance).exp() * noise)
        return likelihood.squared_error(raw, target).flatten(1).mean(1)

    def freeze_scale(self, mean_square: float) -> None:
        """Sets the σ² that all values share, until training goes on, to the mean of `squared_error_of`.

        Other likelihoods have no such σ.
        """
        if isinstance(self.likelihood, SharedGaussian):
            self.likelihood.freeze(mean_square)

    # Training ----------------------------------------------------------------------------------------------------

    def on_train_start(self) -> None:
        """Lets σ change again in a run that continues a finished one."""
        super().on_train_start()
        if isinstance(self.likelihood, SharedGaussian):
            self.likelihood.frozen.fill_(False)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Returns the loss of a batch: -log p + weight · divergence, in nats per value."""
        if batch_idx == 0:
            self._check(batch)
        image, numbers = batch["input"], batch["n"].tolist()
        mean, log_variance = self.posterior(image)
        noise = normal_noise(self._seed, numbers, Purpose.TRAINING, [self.network.latent_dim]).to(mean)
        target = self._dequantised(batch["target"], numbers, Purpose.TRAINING_DEQUANTISATION, self._seed)
        distortion = self.likelihood.training_loss(self.raw(mean + (0.5 * log_variance).exp() * noise), target)
        kl, weight = gaussian_kl(mean, log_variance).mean(0), self.kl_weight()
        loss = (distortion + weight * self.charged(kl)) / target[0].numel()
        self.log_dict({"train/log_likelihood": -distortion, "train/kl": kl.sum(), "train/kl_weight": weight})
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def charged(self, kl: Tensor) -> Tensor:
        """Returns the sum of the latents' mean divergences, k values, each at least the free bits."""
        return kl.clamp_min(self.free_bits).sum()

    def kl_weight(self) -> float:
        """Returns the divergence's weight at this step: β, or less during the warm-up, by steps or `max_time`."""
        total, timed = self.trainer.estimated_stepping_batches, self._time_share()
        if math.isinf(total) and not any(isinstance(callback, Timer) for callback in self.trainer.callbacks):  # type: ignore[attr-defined]
            return self.beta  # a run without an end has no fraction that is done
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
        bound = self._elbo(image, target, numbers, Purpose.EVALUATION, Purpose.DEQUANTISATION, self._seed)
        mean = self.encode(image)
        self._codes += [
            (n, mean[i].cpu(), bound.kl[i].cpu()) for i, n in enumerate(numbers) if bool(batch["counted"][i])
        ]
        values = target[0].numel()
        found = {
            "elbo": bound.total,
            "bits_per_dim": self.likelihood.bits_per_dim(-bound.total / values),
            "kl": bound.kl.sum(1),
            "log_likelihood": bound.log_likelihood,
            "loss": -bound.total / values,
        }
        if self.trainer.testing:
            shape = [self.importance_samples, self.network.latent_dim]
            noise = normal_noise(self._seed, numbers, Purpose.IMPORTANCE, shape).to(mean)
            target = self._dequantised(target, numbers, Purpose.DEQUANTISATION, self._seed)
            tighter = self.importance_weighted(image, noise, target)
            found["bits_per_dim_iw"] = self.likelihood.bits_per_dim(-tighter / values)
        return [{name: float(each[i]) for name, each in found.items()} for i in range(len(image))]

    def _log_scores(self, stage: str) -> None:
        super()._log_scores(stage)
        codes = sorted(gather(self._codes), key=lambda code: code[0])
        self._codes.clear()
        if len(codes) < 2:  # one image's code has no variance
            return
        self.kl_per_dimension = torch.stack([kl for _, _, kl in codes]).mean(0)
        active = active_units(torch.stack([mean for _, mean, _ in codes]))
        self.log(f"{stage}/active_units", float(active), sync_dist=True)
        # An encoder that has hardly trained tells little of the image.
        if self.trainer.state.fn == "fit" and self.global_step > self.warmup_steps and self.kl_weight() >= self.beta:
            latents = self.network.latent_dim
            if 2 * active < latents and not self._warned:
                self._warned = True
                rank_zero_warn(collapse_warning(active, latents, self.beta, self.free_bits, self.kl_warmup))
