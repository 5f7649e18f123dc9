"""Autoencoders: an image becomes a few numbers, from which a decoder reconstructs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
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
"""Levels at which calibration notes the values of each latent over the training images."""
MOST_CODES = 10_000
"""The most training images whose latents are kept, evenly spread."""

_TENSORS = ("mean", "covariance", "quantiles", "codes")
_DISTRIBUTIONS = ("latents", "pca_latents", "layers")


@dataclass(frozen=True, eq=False)
class Distribution:
    """How the training images are distributed among k numbers that a model makes of them.

    Attributes:
        mean: k values.
        covariance: k×k.
        quantiles: The values at `QUANTILES`, one row for each, k columns; None where they were not measured.
        codes: The numbers of each image, n×k, of at most `MOST_CODES` images; None where they were not kept.
    """

    mean: Tensor
    covariance: Tensor
    quantiles: Tensor | None = None
    codes: Tensor | None = None

    def plain(self) -> dict[str, Tensor]:
        """Returns the tensors that are there, for a checkpoint."""
        return {name: value for name in _TENSORS if (value := getattr(self, name)) is not None}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Tensor]) -> Distribution | None:
        """Returns what `plain` was made of; None for an empty one."""
        return cls(**{name: plain[name] for name in _TENSORS if name in plain}) if plain else None


@dataclass(frozen=True, eq=False)
class Statistics:
    """What a checkpoint knows of the model's training images, and of held-out ones.

    Attributes:
        pca: Principal components of the training images, as many as the model has latents: the reference beside it.
        axes: For a linear autoencoder, the exact principal axes of what it has learnt.
        latents: Of the training images.
        pca_latents: Their coordinates in `pca`, without quantiles.
        layers: How far each training image and its reconstruction lie apart in the encoder's layers; see
            `img2img.anomaly.scores`. None for an encoder of one layer.
        errors: Squared error of each pixel, H×W, the mean over the training images and channels: of the model under "",
            of `pca` under "pca_". Empty where they were not measured.
        thresholds: What separates normal from abnormal images; see `img2img score`.
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
        fitted = {name: fit.plain() for name in ("pca", "axes") if (fit := getattr(self, name)) is not None}
        measured = {name: {} if (found := getattr(self, name)) is None else found.plain() for name in _DISTRIBUTIONS}
        return fitted | measured | {"errors": dict(self.errors), "scores": self.thresholds.plain()}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Statistics:
        """Returns what `plain` was made of."""
        fitted: dict[str, Any] = {name: PrincipalComponents(**plain[name]) for name in ("pca", "axes") if name in plain}
        measured: dict[str, Any] = {name: Distribution.from_plain(plain.get(name, {})) for name in _DISTRIBUTIONS}
        thresholds = Thresholds.from_plain(plain.get("scores", {}))
        return cls(**fitted, **measured, errors=dict(plain.get("errors", {})), thresholds=thresholds)


class ReconstructionError(Metric):
    """Mean squared error per value of the reconstruction, `mse`; of PCA with as many numbers, `mse_pca`."""

    name = "mse"

    def forward(self, images: Images) -> dict[str, float]:
        """Returns `mse`; `mse_pca` comes from the task, which has the components."""
        return {"mse": float(((images.output - images.target) ** 2).mean())}

    def caption(self, values: Mapping[str, float]) -> str:
        """Puts both into words, after the bits per value where the task has measured them."""
        after, linear, bits = (values.get(name) for name in ("mse", "mse_pca", "bits_per_dim"))
        if after is None:
            return ""
        before = "" if bits is None else f"{bits:.2f} bits/dim, "
        return before + f"error {after:.5f}" + ("" if linear is None else f", PCA {linear:.5f}")


class Autoencoder(PairedTask):
    """Trains an encoder and a decoder around a vector, on images as they are or (denoising) corrupted ones.

    Beside what `PairedTask` logs, `val/mse` is the squared error per value and `val/mse_pca` that of principal
    components of the training images, as many as there are latents, on the same inputs.

    Args:
        network: The encoder and decoder; None for `ConvAutoencoder()`.
        loss: Any module that maps (output, target) to a scalar; None for the squared error.
        metrics: What is measured beside; None for `ReconstructionError`, which stands in captions.
        kwargs: What every `Task` takes: lr, betas, weight_decay, warmup_steps, final_lr_share, weights, optimizer,
            decay_steps.

    Attributes:
        statistics: What the model knows of its training images.

    Raises:
        UserError: If the network is not built around a vector, or gives other numbers than the task needs.
    """

    network: LatentNetwork
    per_latent = 1
    """Numbers that the encoder must give for each latent."""

    def __init__(
        self,
        network: nn.Module | None = None,
        loss: nn.Module | None = None,
        metrics: list[Metric] | None = None,
        **kwargs: Any,
    ) -> None:
        network = ConvAutoencoder() if network is None else network
        if not isinstance(network, LatentNetwork):
            raise UserError(
                f"{type(self).__name__} needs a network around a vector, such as ConvAutoencoder, "
                f"not {type(network).__name__}"
            )
        super().__init__(
            network,
            nn.MSELoss() if loss is None else loss,
            [ReconstructionError()] if metrics is None else metrics,
            **kwargs,
        )
        self._check_numbers("per_latent", network.per_latent, self.per_latent)
        self._check_numbers("per_value", network.per_value, self.per_value)
        self.statistics = Statistics()

    @property
    def per_value(self) -> int:
        """Numbers that the decoder must give for each value of a pixel."""
        return 1

    def _check_numbers(self, name: str, has: int, needs: int) -> None:
        if has != needs:
            raise UserError(f"{type(self).__name__} needs network.init_args.{name}: {needs}, not {has}")

    def begin_at(self, pca: PrincipalComponents) -> None:
        """Tells the network the training images' principal components before the first step; it may begin there."""
        self.network.begin_at(pca.mean, pca.axes, pca.variances.sqrt())

    # Latents and images ------------------------------------------------------------------------------------------

    def encode(self, image: Tensor) -> Tensor:
        """Returns the latents of N×C×H×W in [0, 1], N×latent_dim: of a variational one the posterior's mean."""
        return self.posterior(image)[0]

    def posterior(self, image: Tensor) -> tuple[Tensor, Tensor | None]:
        """Returns latents and their log-variance, N×latent_dim each; here no variance, for a latent is a point."""
        self.check_size(image)
        return self.network.encode(image).float(), None

    def decode(self, latent: Tensor) -> Tensor:
        """Returns the images of latents N×latent_dim, N×C×H×W in [0, 1]: of a variational one the mean images."""
        return self.raw(latent).float().clamp(0, 1)

    def raw(self, latent: Tensor) -> Tensor:
        """Returns the decoder's numbers for latents, N×(per_value · C)×H×W, in the precision of its weights."""
        return self.network.decode(latent.to(next(self.network.parameters()).dtype))

    def draw(self, latent: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draws images from the distribution that the decoder defines.

        Raises:
            UserError: Always here, for the decoder defines none.
        """
        raise UserError(f"{type(self).__name__} defines no distribution over pixels to draw from: use the mean")

    def elbo_of(self, batch: Batch) -> Tensor | None:
        """Returns the evidence lower bound of a batch's `image`, N, in nats; None for models without one, as here."""
        return None

    def squared_error_of(self, batch: Batch) -> Tensor | None:
        """Returns the errors whose mean `freeze_scale` takes, N, of a batch's `image`; None for models without it."""
        return None

    def freeze_scale(self, mean_square: float) -> None:
        """Sets the width of a distribution that all pixels share from the training images; nothing here."""

    def forward(self, image: Tensor) -> Tensor:
        """Reconstructs images from their latents: N×C×H×W in [0, 1], of the network's `image_size`."""
        return self.decode(self.encode(image))

    def check_size(self, image: Tensor) -> None:
        """Refuses images of another size than the network's.

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

    # Measuring ---------------------------------------------------------------------------------------------------

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
        """Takes the statistics back."""
        super().on_load_checkpoint(checkpoint)
        plain = (checkpoint.get(CHECKPOINT_KEY) or {}).get("statistics")
        if plain is not None:
            self.statistics = Statistics.from_plain(plain)
