"""Autoencoders whose latent is a vector of a few numbers."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

LEAST_DEVIATION = 1e-4
"""Axes with a standard deviation below this fraction of the largest count as constant."""


class LatentNetwork(nn.Module, ABC):
    """Base class of autoencoders whose latent is a vector: an encoder, a decoder and their sizes.

    Args:
        image_size: Height and width of the images, in pixels; data of other sizes are scaled by the data module.
        in_channels: Channels of the images: 3 for RGB, 1 for gray.
        latent_dim: Number of latents of an image.
        per_latent: Encoder outputs for each latent: 1, or 2 for mean and log-variance.
        per_value: Decoder outputs for each value of a pixel: 1, or 2 for mean and log scale, say.
        linear: Adds a linear autoencoder, which `begin_at` sets to the training images' principal components. It is not
            trained: training starts where PCA ends, and the rest of the network learns what PCA cannot.

    Raises:
        ValueError: If `image_size` is not [height, width], or a size is below 1.
    """

    def __init__(
        self,
        image_size: Sequence[int] = (64, 64),
        in_channels: int = 1,
        latent_dim: int = 10,
        per_latent: int = 1,
        per_value: int = 1,
        linear: bool = False,
    ) -> None:
        super().__init__()
        if len(image_size) != 2 or min(*image_size, in_channels, latent_dim, per_latent, per_value) < 1:
            raise ValueError("image_size must be [height, width]; it and the other sizes must be at least 1")
        self.image_size = (int(image_size[0]), int(image_size[1]))
        self.in_channels, self.latent_dim = in_channels, latent_dim
        self.per_latent, self.per_value = per_latent, per_value
        self.linear = LinearAutoencoder(image_size, in_channels, latent_dim) if linear else None
        if self.linear is not None:
            # Adam's steps are equally large for all weights, too large for the small weights of single pixels.
            self.linear.requires_grad_(False)

    def begin_at(self, mean: Tensor, axes: Tensor, deviations: Tensor) -> None:
        """Initialises the network from statistics of the training images; the linear part, if any, becomes PCA.

        Args:
            mean: Mean of the training images, C·H·W values.
            axes: Their principal axes, at most latent_dim × (C·H·W), orthonormal.
            deviations: Their standard deviations along the axes; the linear part's latents then have a variance of 1.
        """
        if self.linear is not None:
            self.linear.set_axes(mean, axes, deviations)

    def with_linear_code(self, code: Tensor, image: Tensor) -> Tensor:
        """Adds the linear part's latents to the first latent_dim encoder outputs, N×(per_latent · latent_dim)."""
        if self.linear is None:
            return code
        k = self.latent_dim
        return torch.cat([code[:, :k] + self.linear.encode(image), code[:, k:]], 1)

    def with_linear_drawing(self, drawn: Tensor, latent: Tensor) -> Tensor:
        """Adds the linear part's images to the first C channels of the decoder's output, N×(per_value · C)×H×W."""
        if self.linear is None:
            return drawn
        c = self.in_channels
        return torch.cat([drawn[:, :c] + self.linear.decode(latent), drawn[:, c:]], 1)

    @abstractmethod
    def layers(self, image: Tensor) -> list[Tensor]:
        """Returns each encoder stage's output for N×C×H×W; the last is N×(per_latent · latent_dim)."""

    @abstractmethod
    def decode(self, latent: Tensor) -> Tensor:
        """Decodes latents N×latent_dim to N×(per_value · C)×H×W, not clamped; the first C channels are the images."""

    def encode(self, image: Tensor) -> Tensor:
        """Encodes N×C×H×W to N×(per_latent · latent_dim); the first output of every latent comes first."""
        return self.layers(image)[-1]

    def forward(self, image: Tensor) -> Tensor:
        """Reconstructs images from the first encoder output of each latent."""
        return self.decode(self.encode(image)[:, : self.latent_dim])


class DenseAutoencoder(LatentNetwork):
    """Fully connected autoencoder, as in Hinton & Salakhutdinov, "Reducing the dimensionality of data", Science 2006.

    Args:
        image_size: Height and width of the images, in pixels.
        in_channels: Channels of the images: 3 for RGB, 1 for gray.
        latent_dim: Number of latents of an image.
        hidden: Widths of the encoder's hidden layers; the decoder's are the same in reverse.
        kwargs: Arguments of every `LatentNetwork`.
    """

    def __init__(
        self,
        image_size: Sequence[int] = (64, 64),
        in_channels: int = 1,
        latent_dim: int = 10,
        hidden: Sequence[int] = (512, 128),
        **kwargs: Any,
    ) -> None:
        super().__init__(image_size, in_channels, latent_dim, **kwargs)
        values = in_channels * math.prod(self.image_size)
        encoder = (values, *hidden, latent_dim * self.per_latent)
        decoder = (latent_dim, *reversed(hidden), values * self.per_value)
        self.encoder = nn.ModuleList(nn.Linear(before, after) for before, after in pairwise(encoder))
        self.decoder = nn.ModuleList(nn.Linear(before, after) for before, after in pairwise(decoder))
        if self.linear is not None:  # the other layers add nothing at first
            for parameter in self.decoder[-1].parameters():
                nn.init.zeros_(parameter)

    def layers(self, image: Tensor) -> list[Tensor]:
        """Returns the activations of each hidden layer, and last the encoder's output."""
        found: list[Tensor] = []
        values = image.flatten(1)
        if self.linear is not None:
            values = values - self.linear.ends[1].bias  # close to the mean image, which all images share
        for layer in self.encoder:
            values = layer(values if not found else nn.functional.silu(values))
            found.append(values)
        return [*found[:-1], self.with_linear_code(found[-1], image)]

    def decode(self, latent: Tensor) -> Tensor:
        """Decodes latents N×latent_dim to images N×(per_value · C)×H×W."""
        values = latent
        for number, layer in enumerate(self.decoder):
            values = layer(values if number == 0 else nn.functional.silu(values))
        output = values.view(len(latent), self.per_value * self.in_channels, *self.image_size)
        return self.with_linear_drawing(output, latent)


class LinearAutoencoder(DenseAutoencoder):
    """A linear autoencoder of one layer each way; trained with the squared error it finds the subspace of PCA.

    Baldi & Hornik, "Neural networks and principal component analysis", Neural Networks 1989. Its weights span that
    subspace; the axes follow from `principal_basis` and the data.

    Args:
        image_size: As in `LatentNetwork`.
        in_channels: As in `LatentNetwork`.
        latent_dim: Number of axes.
    """

    def __init__(self, image_size: Sequence[int] = (64, 64), in_channels: int = 1, latent_dim: int = 10) -> None:
        super().__init__(image_size, in_channels, latent_dim, hidden=())
        # Encoder and decoder start as the same orthonormal frame. From unrelated ones gradient descent takes ten times
        # as long to reach the principal subspace.
        encoder, decoder = self.ends
        nn.init.orthogonal_(encoder.weight)
        with torch.no_grad():
            decoder.weight.copy_(encoder.weight.T)

    @property
    def ends(self) -> tuple[nn.Linear, nn.Linear]:
        """The layers of encoder and decoder."""
        encoder, decoder = self.encoder[0], self.decoder[0]
        assert isinstance(encoder, nn.Linear)
        assert isinstance(decoder, nn.Linear)
        return encoder, decoder

    @torch.no_grad()
    def begin_at(self, mean: Tensor, axes: Tensor, deviations: Tensor) -> None:
        """Initialises the biases to the mean image, which would otherwise dominate; the axes are learnt."""
        encoder, decoder = self.ends
        decoder.bias.copy_(mean)
        encoder.bias.copy_(-encoder.weight @ mean.to(encoder.weight))

    @torch.no_grad()
    def set_axes(self, mean: Tensor, axes: Tensor, deviations: Tensor) -> None:
        """Sets the layers to given axes, scaled so that latents have a variance of 1.

        Latents without an axis stay 0, as do those of axes along which the images do not vary: the slightest deviation
        would make them huge.
        """
        encoder, decoder = self.ends
        mean, axes, deviations = (values.to(encoder.weight) for values in (mean, axes, deviations))
        varies = deviations > LEAST_DEVIATION * deviations.max()
        axes, deviations = axes[varies], deviations[varies]
        count = len(axes)
        encoder.weight.zero_()
        decoder.weight.zero_()
        encoder.weight[:count] = axes / deviations[:, None]
        decoder.weight[:, :count] = (axes * deviations[:, None]).T
        decoder.bias.copy_(mean)
        encoder.bias.copy_(-encoder.weight @ mean)

    @torch.no_grad()
    def principal_basis(self) -> Tensor:
        """Returns an orthonormal basis of the decoder's range, (C·H·W)×latent_dim, columns in no particular order."""
        weight = self.ends[1].weight
        basis: Tensor = torch.linalg.qr(weight.cpu().double())[0].to(weight)
        return basis
