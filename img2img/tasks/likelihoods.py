"""Likelihoods: distributions over images that a decoder's output parametrises, with log-probabilities and samples.

A decoder outputs any real numbers; a likelihood turns them into parameters, in float32 at least. Zeros are a sensible
start: a mean of 0.5, and a log scale of -2 if each value has its own scale.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from img2img.errors import UserError
from img2img.tasks.gather import mean_of_batch

START_MEAN = 0.5
"""Offset from the raw value to the centre."""
_START_LOG_SCALE = -2.0
_LEVEL = 1 / 255
Nats = TypeVar("Nats", float, Tensor)


class Likelihood(nn.Module, ABC):
    """A distribution over images, independent at each value given the decoder's output.

    `raw` is always the decoder's output, N×(per_value·C)×H×W: all C channels of the first parameter, then all C of the
    second. Wrong shapes raise `UserError`.

    Attributes:
        per_value: Decoder outputs for each value of the image.
        dequantised: True for a density of images in [0, 1], false for the probability of a level. A density of 8-bit
            images can grow without bound unless uniform noise is added: (255 x + u) / 256 with u in [0, 1).
        binary: True if images must consist of 0 and 1.
    """

    per_value: ClassVar[int]
    dequantised: ClassVar[bool]
    binary: ClassVar[bool] = False

    @abstractmethod
    def log_prob(self, raw: Tensor, target: Tensor) -> Tensor:
        """Returns the log density, or log probability, of each value of a target N×C×H×W, in nats."""

    @abstractmethod
    def mean(self, raw: Tensor) -> Tensor:
        """Returns the mean as an image N×C×H×W, clamped to [0, 1]."""

    @abstractmethod
    def draw(self, raw: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Returns a sample N×C×H×W, not clamped to [0, 1]; `generator` is on the device of `raw`, or PyTorch's own."""

    @abstractmethod
    def scale(self, raw: Tensor) -> Tensor:
        """Returns the standard deviation of each value, N×C×H×W."""

    def training_loss(self, raw: Tensor, target: Tensor) -> Tensor:
        """Returns the training loss, a scalar: -log p in nats, summed over an image, averaged over the batch."""
        return -self.log_prob(raw, target).flatten(1).sum(1).mean()

    def bits_per_dim(self, nats_per_value: Nats) -> Nats:
        """Converts -log p in nats per value to bits per value of 8-bit images; -ELBO instead gives an upper bound.

        A density of dequantised images spreads 256 levels over a range of 1, which adds 8 bits.
        """
        return nats_per_value / math.log(2) + (8 if self.dequantised else 0)

    def _split(self, raw: Tensor, target: Tensor | None = None) -> tuple[Tensor, ...]:
        """Checks the shapes, and returns each parameter's raw values, N×C×H×W in float32 at least."""
        name, count, given = type(self).__name__, self.per_value, list(raw.shape)
        if target is not None:
            images = n, channels, *size = list(target.shape)
            if given != (wanted := [n, count * channels, *size]):
                raise UserError(f"{name} needs decoder output {wanted} for images {images}, not {given}")
        elif raw.shape[1] % count:
            raise UserError(f"{name} needs {count} decoder outputs for each value, not {raw.shape[1]} in all")
        return raw.to(torch.promote_types(raw.dtype, torch.float32)).chunk(count, 1)


class _LocationScale(Likelihood):
    """Base class of symmetric distributions with a centre and a log scale at each value.

    The centre is the first raw value + 0.5; the log scale is the second - 2, softly clamped.
    """

    per_value = 2
    dequantised = True
    _limits: ClassVar[tuple[float, float]] = (-6.0, 1.0)
    _deviation: ClassVar[float]  # standard deviation at scale 1

    def mean(self, raw: Tensor) -> Tensor:
        """See `Likelihood`."""
        return self._centre_and_log_scale(raw)[0].clamp(0, 1)

    def draw(self, raw: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """See `Likelihood`."""
        centre, log_scale = self._centre_and_log_scale(raw)
        return centre + log_scale.exp() * self._noise(centre, generator)

    def scale(self, raw: Tensor) -> Tensor:
        """See `Likelihood`."""
        return self._deviation * self._centre_and_log_scale(raw)[1].exp()

    @abstractmethod
    def _noise(self, like: Tensor, generator: torch.Generator | None) -> Tensor:
        """Returns a sample with centre 0 and scale 1 for each value of a tensor."""

    def _centre_and_log_scale(self, raw: Tensor, target: Tensor | None = None) -> tuple[Tensor, Tensor]:
        centre, log_scale = self._split(raw, target)
        low, high = self._limits
        log_scale = high - F.softplus(high - _START_LOG_SCALE - log_scale)
        return centre + START_MEAN, low + F.softplus(log_scale - low)


class PixelGaussian(_LocationScale):
    """A Gaussian with its own mean and σ at each value; log σ is softly clamped to [-6, 1]."""

    _deviation = 1.0

    def log_prob(self, raw: Tensor, target: Tensor) -> Tensor:
        """See `Likelihood`."""
        centre, log_scale = self._centre_and_log_scale(raw, target)
        return -0.5 * ((target - centre) / log_scale.exp()).square() - log_scale - 0.5 * math.log(2 * math.pi)

    def _noise(self, like: Tensor, generator: torch.Generator | None) -> Tensor:
        return torch.randn(like.shape, generator=generator, device=like.device, dtype=like.dtype)


class SharedGaussian(PixelGaussian):
    """A Gaussian around the decoder's mean, with one optimal σ for all values.

    The σ-VAE of Rybkin, Daniilidis and Levine, "Simple and effective VAE training with calibrated decoders", ICML 2021:
    the likeliest σ² is the mean squared error, so training computes it from each batch, of all ranks together, and
    needs no weight for the reconstruction. Adding exp(-12) to the mean squared error keeps log σ softly above -6. Of
    accumulated batches, each has its own σ: the errors of the later ones are not known when the first is learnt from.

    Everything but `training_loss` in training mode uses the buffer `mean_square`: 1 at first, then a running mean of
    the batches seen in training mode, finally the value that `freeze` sets. The mean is the raw value + 0.5.

    Attributes:
        mean_square: Mean squared error, which gives σ; the same on all ranks.
        updates: Number of batches in the running mean.
        frozen: Whether `freeze` has set `mean_square`.
    """

    per_value = 1
    _decay: ClassVar[float] = 0.99
    _floor: ClassVar[float] = math.exp(-12)

    mean_square: Tensor
    updates: Tensor
    frozen: Tensor

    def __init__(self) -> None:
        super().__init__()
        # The mean itself, not a sum to be corrected later: averaging buffers keeps it a mean squared error.
        self.register_buffer("mean_square", torch.ones(()))
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        self.register_buffer("frozen", torch.zeros((), dtype=torch.bool))

    def training_loss(self, raw: Tensor, target: Tensor) -> Tensor:
        """Returns -log p in nats per image: in training with the σ of all ranks' batch, otherwise with the stored σ.

        Training updates `mean_square`; every rank must call it. The gradient flows through σ, as in D/2 · log(mean
        squared error) for D values.
        """
        if not self.training:
            return super().training_loss(raw, target)
        error = mean_of_batch(self.squared_error(raw, target).mean())
        self._update(error.detach())
        variance = error + self._floor
        return 0.5 * target[0].numel() * ((2 * math.pi * variance).log() + error / variance)

    def squared_error(self, raw: Tensor, target: Tensor) -> Tensor:
        """Returns the squared errors that `mean_square` averages, N×C×H×W; the reconstruction is not clamped."""
        return (target - self._centre_and_log_scale(raw, target)[0]).square()

    def freeze(self, mean_square: float) -> None:
        """Fixes the mean squared error, computed over all training images; may be called again.

        Raises:
            ValueError: If the mean squared error is negative or not finite.
        """
        if not (math.isfinite(mean_square) and mean_square >= 0):
            raise ValueError(f"the mean squared error must be finite and at least 0, not {mean_square}")
        self.mean_square.fill_(mean_square)
        self.frozen.fill_(True)

    @torch.no_grad()
    def _update(self, error: Tensor) -> None:
        """Updates the running mean without reading values from the device, which would wait for it."""
        counts = error.isfinite() & ~self.frozen  # a step that overflowed float16 must not spoil the mean
        self.updates += counts
        weight = (1 - self._decay) / -torch.expm1(self.updates.clamp_min(1) * math.log(self._decay))
        moved = self.mean_square + weight * (error - self.mean_square)
        self.mean_square.copy_(torch.where(counts, moved, self.mean_square))

    def _centre_and_log_scale(self, raw: Tensor, target: Tensor | None = None) -> tuple[Tensor, Tensor]:
        (centre,) = self._split(raw, target)
        log_scale = 0.5 * (self.mean_square + self._floor).log()
        return centre + START_MEAN, log_scale.to(centre.dtype).expand_as(centre)


class Laplace(_LocationScale):
    """A Laplace distribution for each value, whose tails tolerate edges; log b is softly clamped to [-6, 1]."""

    _deviation = math.sqrt(2)

    def log_prob(self, raw: Tensor, target: Tensor) -> Tensor:
        """See `Likelihood`."""
        centre, log_scale = self._centre_and_log_scale(raw, target)
        return -(target - centre).abs() / log_scale.exp() - log_scale - math.log(2)

    def _noise(self, like: Tensor, generator: torch.Generator | None) -> Tensor:
        one, other = (torch.empty_like(like).exponential_(generator=generator) for _ in range(2))
        return one - other


class DiscretizedLogistic(_LocationScale):
    """A logistic distribution, discretised to 256 levels, with its own location and scale at each value.

    After Salimans et al., "PixelCNN++", ICLR 2017, with one logistic: a level k has the mass from k - ½ to k + ½, and
    0 and 255 have the tails too. Targets are k / 255; other values are rounded to the nearest level. The log scale is
    softly clamped to [-7.7, 1], PixelCNN++'s bound on our range.

    Mean and standard deviation are those of the logistic before discretisation; samples are levels k / 255.
    """

    dequantised = False
    _limits = (-7.7, 1.0)
    _deviation = math.pi / math.sqrt(3)

    def log_prob(self, raw: Tensor, target: Tensor) -> Tensor:
        """See `Likelihood`."""
        centre, log_scale = self._centre_and_log_scale(raw, target)
        level = (target.to(centre.dtype) * 255).round().clamp(0, 255)
        inverse = (-log_scale).exp()
        middle, half = (level * _LEVEL - centre) * inverse, 0.5 * _LEVEL * inverse
        # With a > b, sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - exp(b - a)): this subtracts no near-equal
        # numbers, and a tail omits the factor of its unbounded side.
        below_upper = torch.where(level < 255, F.logsigmoid(middle + half), 0.0)
        above_lower = torch.where(level > 0, F.logsigmoid(half - middle), 0.0)
        within = torch.where((level > 0) & (level < 255), (-torch.expm1(-2 * half)).log(), 0.0)
        return below_upper + above_lower + within

    def draw(self, raw: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """See `Likelihood`."""
        return (super().draw(raw, generator) * 255).round().clamp(0, 255) / 255

    def _noise(self, like: Tensor, generator: torch.Generator | None) -> Tensor:
        uniform = torch.rand(like.shape, generator=generator, device=like.device, dtype=like.dtype)
        return uniform.logit(eps=1e-7)


class Bernoulli(Likelihood):
    """A Bernoulli distribution for images of 0 and 1; the raw value is the logit of a 1, so 0 means even odds.

    Gray values are rejected: their "likelihood" belongs to no distribution, although much code for VAEs computes it.
    """

    per_value = 1
    dequantised = False
    binary = True

    def log_prob(self, raw: Tensor, target: Tensor) -> Tensor:
        """See `Likelihood`; raises `UserError` for a target with other values than 0 and 1."""
        (logits,) = self._split(raw, target)
        if ((target != 0) & (target != 1)).any():
            raise UserError(
                "Bernoulli is for binary images, with values 0 or 1, and scaling adds grays: give black-and-white "
                "files of exactly data.image_size, or choose another likelihood"
            )
        return -F.binary_cross_entropy_with_logits(logits, target.to(logits.dtype), reduction="none")

    def mean(self, raw: Tensor) -> Tensor:
        """See `Likelihood`."""
        return self._split(raw)[0].sigmoid()

    def draw(self, raw: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """See `Likelihood`."""
        return self.mean(raw).bernoulli(generator=generator)

    def scale(self, raw: Tensor) -> Tensor:
        """See `Likelihood`."""
        logits = self._split(raw)[0]
        return (logits.sigmoid() * (-logits).sigmoid()).sqrt()
