"""A convolutional autoencoder whose latent is a vector."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from img2img.networks.latent import LatentNetwork
from img2img.networks.unet import ResidualBlock


class ConvAutoencoder(LatentNetwork):
    """A convolutional autoencoder with a vector as latent, for images of one fixed size.

    Each level of strided convolutions halves the size; one linear layer maps the coarsest level to the vector, another
    maps it back, and transposed convolutions double the size again. There is no normalisation, so an image's latents
    do not depend on its batch.

    Args:
        image_size: Height and width of the images, in pixels; padded internally to a multiple of 2^levels.
        in_channels: Channels of the images: 3 for RGB, 1 for gray.
        channels: Width of each level, from the finest to the coarsest.
        blocks: Residual blocks of each level, in the encoder and in the decoder.
        standardise: Removes brightness and contrast from the image before the convolutions: the last two latents are
            the mean and the logarithm of the standard deviation of its values, the others describe the rest. The same
            object under another light then differs only in these two (as in reversible instance normalisation, Kim et
            al., ICLR 2022).
        kwargs: Arguments of every `LatentNetwork`.

    Raises:
        ValueError: If `channels` is empty, or `standardise` is combined with `linear`, a `per_value` above 1 or fewer
            than 3 latents.
    """

    def __init__(
        self,
        image_size: Sequence[int] = (64, 64),
        in_channels: int = 1,
        channels: Sequence[int] = (32, 64, 128, 256),
        blocks: int = 1,
        standardise: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(image_size, in_channels, **kwargs)
        if not channels:
            raise ValueError("channels must name the width of at least one level, such as [32, 64, 128]")
        if standardise and (self.latent_dim < 3 or self.per_value != 1 or self.linear is not None):
            raise ValueError("standardise: true needs a latent_dim of at least 3, per_value: 1 and linear: false")
        self.standardise, self.stride = standardise, 2 ** len(channels)
        self.coarse = (channels[-1], *(-(-side // self.stride) for side in self.image_size))
        features = math.prod(self.coarse)
        self.encoder = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(fine, coarse, 4, stride=2, padding=1),
                nn.ReLU(),
                *(ResidualBlock(coarse, bias=True) for _ in range(blocks)),
            )
            for fine, coarse in pairwise((in_channels, *channels))
        )
        self.to_latent = nn.Linear(features, self.latent_dim * self.per_latent)
        self.from_latent = nn.Linear(self.latent_dim - 2 if standardise else self.latent_dim, features)
        self.decoder = nn.Sequential(
            *(
                nn.Sequential(
                    nn.ReLU(),
                    *(ResidualBlock(coarse, bias=True) for _ in range(blocks)),
                    nn.ConvTranspose2d(coarse, fine, 4, stride=2, padding=1),
                )
                for coarse, fine in pairwise((*reversed(channels), channels[0]))
            ),
            nn.ReLU(),
            last := nn.Conv2d(channels[0], in_channels * self.per_value, 3, padding=1),
        )
        if self.linear is not None:  # the convolutions add nothing at first
            for parameter in (*self.to_latent.parameters(), *last.parameters()):
                nn.init.zeros_(parameter)

    def layers(self, image: Tensor) -> list[Tensor]:
        """Returns each level's output for the images, N×channels×h×w, and last the latents; see `LatentNetwork`."""
        height, width = image.shape[-2:]
        mean, log_spread = _brightness_and_contrast(image)
        values = (image - mean[:, :, None, None]) / log_spread.exp()[:, :, None, None] if self.standardise else image
        values = F.pad(values, (0, -width % self.stride, 0, -height % self.stride), mode="replicate")
        found: list[Tensor] = []
        for level in self.encoder:
            values = level(values)
            found.append(values)
        code = self.to_latent(values.flatten(1))
        if self.standardise:
            k = self.latent_dim
            code = torch.cat([code[:, : k - 2], mean, log_spread, code[:, k:]], 1)
        return [*found, self.with_linear_code(code, image)]

    def decode(self, latent: Tensor) -> Tensor:
        """Decodes latents N×latent_dim to images N×(per_value · C)×H×W."""
        features = self.from_latent(latent[:, : self.from_latent.in_features])
        output: Tensor = self.decoder(features.view(-1, *self.coarse))
        output = output[..., : self.image_size[0], : self.image_size[1]]
        if self.standardise:
            output = output * latent[:, -1].exp()[:, None, None, None] + latent[:, -2][:, None, None, None]
        return self.with_linear_drawing(output, latent)


def _brightness_and_contrast(image: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the mean of N×C×H×W and the logarithm of its standard deviation, N×1 each.

    The deviation is at least 1/50, which noise may have, so that an empty image is not amplified.
    """
    values = image.flatten(1)
    return values.mean(1, keepdim=True), values.std(1, correction=0, keepdim=True).clamp_min(0.02).log()
