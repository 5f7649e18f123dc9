"""Autoencoders: encode an image to a few numbers, and reconstruct it from these."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor, nn

from img2img.errors import UserError
from img2img.networks import ConvAutoencoder, LatentNetwork
from img2img.tasks.base import Batch
from img2img.tasks.checkpoint import CHECKPOINT_KEY
from img2img.tasks.metrics import Images, Metric
from img2img.tasks.paired import PairedTask
from img2img.tasks.pca import PrincipalComponents
from img2img.tasks.thresholds import Thresholds

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
"""Levels of the quantiles of each latent over the training images that calibration measures."""
MOST_CODES = 10_000
"""The most training images whose latents are kept, evenly spread."""
_PRINCIPAL = ("pca", "axes")
_DISTRIBUTIONS = ("latents", "pca_latents", "layers")


@dataclass(frozen=True, eq=False)
class Distribution:
    """The distribution over the training images of k numbers that a model computes for each image.

    Attributes:
        mean: k values.
        covariance: k×k.
        quantiles: Quantiles at `QUANTILES`, one row per level, k columns; None where they were not measured.
        codes: The numbers of each image, n×k, for at most `MOST_CODES` images; None where they were not kept.
    """

    mean: Tensor
    covariance: Tensor
    quantiles: Tensor | None = None
    codes: Tensor | None = None

    def plain(self) -> dict[str, Tensor]:
        """Returns the tensors that are there, for a checkpoint."""
        return {name: value for name, value in vars(self).items() if value is not None}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Tensor]) -> Distribution | None:
        """Rebuilds the distribution from the result of `plain`; None if that is empty."""
        return cls(**{own.name: plain[own.name] for own in fields(cls) if own.name in plain}) if plain else None


@dataclass(frozen=True, eq=False)
class Statistics:
    """Statistics of the training images, and thresholds from held-out images, as a checkpoint stores them.

    Attributes:
        pca: Principal components of the training images, as many as the model has latents, for comparison.
        axes: For a linear autoencoder, the principal axes of the subspace that it has learnt.
        latents: Distribution of the training images' latents.
        pca_latents: Distribution of their coordinates in `pca`, without quantiles.
        layers: Distribution of the distances between the training images and their reconstructions in the encoder's
            layers; see `img2img.anomaly.scores`. None for an encoder of one layer.
        errors: Squared error of each pixel, H×W, the mean over the training images and channels: of the model under "",
            of `pca` under "pca_". Empty where they were not measured.
        thresholds: Thresholds between normal and abnormal images; see `img2img score`.
    """

    pca: PrincipalComponents | None = None
    axes: PrincipalComponents | None = None
    latents: Distribution | None = None
    pca_latents: Distribution | None = None
    layers: Distribution | None = None
    errors: Mapping[str, Tensor] = field(default_factory=dict)
    thresholds: Thresholds = field(default_factory=Thresholds)

    def plain(self) -> dict[str, Any]:
        """Returns it as tensors and plain data, for a checkpoint."""
        fitted = {name: fit.plain() for name in _PRINCIPAL if (fit := getattr(self, name)) is not None}
        measured = {name: {} if (found := getattr(self, name)) is None else found.plain() for name in _DISTRIBUTIONS}
        return fitted | measured | {"errors": dict(self.errors), "scores": self.thresholds.plain()}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Statistics:
        """Rebuilds the statistics from the result of `plain`."""
        found: dict[str, Any] = {name: PrincipalComponents(**plain[name]) for name in _PRINCIPAL if name in plain}
        found |= {name: Distribution.from_plain(plain.get(name, {})) for name in _DISTRIBUTIONS}
        thresholds = Thresholds.from_plain(plain.get("scores", {}))
        return cls(**found, errors=dict(plain.get("errors", {})), thresholds=thresholds)


class ReconstructionError(Metric):
    """Mean squared error per value of the reconstruction, `mse`; the task adds that of PCA, `mse_pca`."""

    name = "mse"

    def forward(self, images: Images) -> dict[str, float]:
        """Returns `mse`."""
        return {"mse": float(((images.output - images.target) ** 2).mean())}

    def caption(self, values: Mapping[str, float]) -> str:
        """Returns a caption with both errors, after the bits per value if the task measures them."""
        after, linear, bits = (values.get(name) for name in ("mse", "mse_pca", "bits_per_dim"))
        if after is None:
            return ""
        before = "" if bits is None else f"{bits:.2f} bits/dim, "
        return before + f"error {after:.5f}" + ("" if linear is None else f", PCA {linear:.5f}")


class Autoencoder(PairedTask):
    """Trains an autoencoder with a vector as latent, on images as they are or (denoising) on corrupted ones.

    Beside what `PairedTask` logs, it logs the squared error per value as `val/mse`, and as `val/mse_pca` the same of
    the training images' principal components, as many as there are latents; likewise `test/…`.

    Args:
        network: The encoder and decoder; None for `ConvAutoencoder()`.
        loss: Any module that maps (output, target) to a scalar; None for the squared error.
        metrics: As in `PairedTask`; None for `ReconstructionError`.
        kwargs: Arguments of every `Task`.

    Attributes:
        statistics: Statistics of the training images.

    Raises:
        UserError: If the latent is not a vector, or encoder or decoder have other numbers of outputs than the task
            needs.
    """

    network: LatentNetwork
    per_latent = 1
    """Encoder outputs that the task needs for each latent."""

    def __init__(
        self,
        network: nn.Module | None = None,
        loss: nn.Module | None = None,
        metrics: list[Metric] | None = None,
        **kwargs: Any,
    ) -> None:
        network = ConvAutoencoder() if network is None else network
        task, given = type(self).__name__, type(network).__name__
        if not isinstance(network, LatentNetwork):
            raise UserError(f"{task} needs a network whose latent is a vector, such as ConvAutoencoder, not {given}")
        metrics = [ReconstructionError()] if metrics is None else metrics
        super().__init__(network, nn.MSELoss() if loss is None else loss, metrics, **kwargs)
        for name in ("per_latent", "per_value"):
            has, needs = getattr(network, name), getattr(self, name)
            if has != needs:
                raise UserError(f"{task} needs network.init_args.{name}: {needs}, not {has}")
        self.statistics = Statistics()

    @property
    def per_value(self) -> int:
        """Decoder outputs that the task needs for each value of a pixel."""
        return 1

    def begin_at(self, pca: PrincipalComponents) -> None:
        """Initialises the network from the training images' principal components, before the first step."""
        self.network.begin_at(pca.mean, pca.axes, pca.variances.sqrt())

    def encode(self, image: Tensor) -> Tensor:
        """Returns the latents of N×C×H×W in [0, 1], N×latent_dim; for a variational task the posterior's mean."""
        return self.posterior(image)[0]

    def posterior(self, image: Tensor) -> tuple[Tensor, Tensor | None]:
        """Returns latents and their log-variance, N×latent_dim each; here no variance: latents are points."""
        self.check_size(image)
        return self.network.encode(image).float(), None

    def decode(self, latent: Tensor) -> Tensor:
        """Returns the images of latents N×latent_dim, N×C×H×W in [0, 1]; for a variational task the mean images."""
        return self.raw(latent).float().clamp(0, 1)

    def raw(self, latent: Tensor) -> Tensor:
        """Returns the decoder's output for latents, N×(per_value · C)×H×W, in the precision of its weights."""
        return self.network.decode(latent.to(next(self.network.parameters()).dtype))

    def draw(self, latent: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draws images from the decoder's distribution over pixels.

        Raises:
            UserError: Always here: only the decoder of a variational task defines a distribution.
        """
        raise UserError(f"{type(self).__name__} defines no distribution over pixels to draw from: use the mean")

    def elbo_of(self, batch: Batch) -> Tensor | None:
        """Returns the evidence lower bound of a batch's `image`, N, in nats; None for tasks without one, as here."""
        return None

    def squared_error_of(self, batch: Batch) -> Tensor | None:
        """Returns the errors of a batch's `image`, N, whose mean `freeze_scale` takes; None for tasks without it."""
        return None

    def freeze_scale(self, mean_square: float) -> None:
        """Sets the variance that all pixels share to a mean over the training images; nothing to set here."""

    def forward(self, image: Tensor) -> Tensor:
        """Reconstructs images from their latents: N×C×H×W in [0, 1], of the network's `image_size`."""
        return self.decode(self.encode(image))

    def check_size(self, image: Tensor) -> None:
        """Checks that images N×C×H×W have the network's size.

        Raises:
            UserError: If height, width or channels differ.
        """
        wanted = (self.network.in_channels, *self.network.image_size)
        if tuple(image.shape[1:]) != wanted:
            raise UserError(
                f"the network takes images of {wanted[1:]} (height, width) with {wanted[0]} channel(s), not "
                f"{tuple(image.shape[2:])} with {image.shape[1]}: set network.init_args.image_size like "
                "data.image_size, and network.init_args.in_channels like data.channels"
            )

    def forward_batch(self, batch: Batch) -> Tensor:
        """Returns the network's reconstructions of a batch's inputs."""
        self.check_size(batch["input"])
        return super().forward_batch(batch)

    def measure(self, item: Batch, raw: Tensor, output: Tensor) -> dict[str, float]:
        """Adds the error of PCA with as many numbers."""
        values = super().measure(item, raw, output)
        if self.statistics.pca is not None:
            linear = self.statistics.pca.to(output.device).reconstruct(item["input"]).clamp(0, 1)
            values["mse_pca"] = float(((linear - item["target"]) ** 2).mean())
        return values

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the statistics beside the recipe."""
        super().on_save_checkpoint(checkpoint)
        checkpoint[CHECKPOINT_KEY]["statistics"] = self.statistics.plain()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restores the statistics."""
        super().on_load_checkpoint(checkpoint)
        plain = (checkpoint.get(CHECKPOINT_KEY) or {}).get("statistics")
        if plain is not None:
            self.statistics = Statistics.from_plain(plain)
