"""Autoencoding: an image becomes a few numbers, and is drawn anew from them."""

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
from img2img.tasks.principal import PrincipalComponents

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
"""Of each latent over the training images."""
MOST_CODES = 10_000
"""Latents of so many training images are kept, evenly spread."""

_MEASURED = ("latents", "pca_latents", "layers", "errors", "scores")


@dataclass
class Statistics:
    """What is known of a model's training images, kept in its checkpoints; None where nothing was measured yet.

    Attributes:
        pca: Principal components of the training images, as many as the model has latents: the reference beside it.
        axes: For a linear autoencoder, the exact principal axes of what it has learnt.
        latents: Of the latents over the training images: `mean` (k), `covariance` (k×k), `quantiles` (one row for
            each of `QUANTILES`, k columns), `codes` (n×k, at most `MOST_CODES` of them).
        pca_latents: The same, without quantiles, of their coordinates in `pca`.
        layers: `mean` and `covariance` of how differently training images and what is drawn of them excite the layers
            of the encoder; see `img2img.tasks.scores`. Empty for an encoder of one layer.
        errors: Squared error of each pixel, H×W, the mean over the training images and channels: of the model under "",
            of `pca` under "pca_".
        scores: Of each score over held-out images: `normal` (the values), `quantile` and `threshold`, the value that
            this share of them does not exceed; and as `map` and `pca_map` the same, without values, of the pixels of
            the error maps. See `img2img score`.
    """

    pca: PrincipalComponents | None = None
    axes: PrincipalComponents | None = None
    latents: dict[str, Tensor] = field(default_factory=dict)
    pca_latents: dict[str, Tensor] = field(default_factory=dict)
    layers: dict[str, Tensor] = field(default_factory=dict)
    errors: dict[str, Tensor] = field(default_factory=dict)
    scores: dict[str, Any] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """Returns it as tensors and plain data, for a checkpoint."""
        fitted = {name: fit.plain() for name in ("pca", "axes") if (fit := getattr(self, name)) is not None}
        return fitted | {name: getattr(self, name) for name in _MEASURED}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Statistics:
        """Returns what `plain` was made of."""
        fitted: dict[str, Any] = {name: PrincipalComponents(**plain[name]) for name in ("pca", "axes") if name in plain}
        return cls(**fitted | {name: dict(plain.get(name, {})) for name in _MEASURED})


class ReconstructionError(Metric):
    """Mean squared error per value of what is drawn anew, `mse`; of PCA with as many numbers, `mse_pca`."""

    name = "mse"

    def forward(self, images: Images) -> dict[str, float]:
        """Returns the first; the second comes from the task, which has the components."""
        return {"mse": float(((images.output - images.target) ** 2).mean())}

    def caption(self, values: Mapping[str, float]) -> str:
        """Puts both into words, after the bits a value where the task has measured them."""
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
        statistics: What is known of the training images.

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
        """Takes the training images' principal components, before the first step; the network may begin there."""
        self.network.begin_at(pca.mean, pca.axes, pca.variances.sqrt())

    # Latents and images ------------------------------------------------------------------------------------------

    def encode(self, image: Tensor) -> Tensor:
        """Returns the latents of N×C×H×W in [0, 1], N×latent_dim: of a variational one the posterior's mean."""
        return self.posterior(image)[0]

    def posterior(self, image: Tensor) -> tuple[Tensor, Tensor | None]:
        """Returns latents and their log-variance, N×latent_dim each; no variance here, where a code is a point."""
        self.check_size(image)
        return self.network.encode(image).float(), None

    def decode(self, latent: Tensor) -> Tensor:
        """Draws images of latents N×latent_dim: N×C×H×W in [0, 1], of a variational one the distribution's mean."""
        return self.raw(latent).float().clamp(0, 1)

    def raw(self, latent: Tensor) -> Tensor:
        """Returns what the decoder gives of latents, N×(per_value · C)×H×W, in the precision of its weights."""
        return self.network.decode(latent.to(next(self.network.parameters()).dtype))

    def draw(self, latent: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Returns images as `decode`; where the decoder defines a distribution, a draw from it.

        Raises:
            UserError: If it defines none, as here.
        """
        raise UserError(f"{type(self).__name__} defines no distribution over pixels to draw from: use the mean")

    def elbo_of(self, batch: Batch) -> Tensor | None:
        """Returns the evidence lower bound of a batch's `image`, N, in nats; None where, as here, there is none."""
        return None

    def squared_error_of(self, batch: Batch) -> Tensor | None:
        """Returns what `freeze_scale` wants the mean of, N, of a batch's `image`; None where, as here, nothing is."""
        return None

    def freeze_scale(self, mean_square: float) -> None:
        """Sets the width of a distribution that all pixels share to what the training images show."""

    def forward(self, image: Tensor) -> Tensor:
        """Draws images anew from their latents; N×C×H×W in [0, 1], of the network's `image_size`."""
        return self.decode(self.encode(image))

    def check_size(self, image: Tensor) -> None:
        """Refuses images of another size than the network's.

        Raises:
            UserError: If they are.
        """
        wanted = (self.network.in_channels, *self.network.image_size)
        if tuple(image.shape[1:]) != wanted:
            raise UserError(
                f"the network takes images of {wanted[1:]} (height, width) with {wanted[0]} channel(s), not "
                f"{tuple(image.shape[2:])} with {image.shape[1]}: set network.init_args.image_size like "
                "data.image_size, and network.init_args.in_channels like data.channels"
            )

    def predict(self, batch: Batch) -> Tensor:
        """Returns what the network draws of a batch's inputs."""
        self.check_size(batch["input"])
        return super().predict(batch)

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
