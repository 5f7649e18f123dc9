"""The convolutional autoencoder around a vector."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from img2img.networks.latent import LatentNetwork
from img2img.networks.unet import ResidualBlock


class ConvAutoencoder(LatentNetwork):
    """Strided convolutions down to a vector, transposed ones back up; for images of any one size.

    Each level halves the size; what is left of the image then is mapped to the vector by one linear layer, and back by
    another. Without normalisation, so that an image's code does not depend on its batch.

    Args:
        image_size: As in `LatentNetwork`; padded to a multiple of 2^levels inside.
        in_channels: As in `LatentNetwork`.
        channels: Width of each level, from the finest to the coarsest.
        blocks: Residual blocks of each level, in the encoder and in the decoder.
        latent_dim: As in `LatentNetwork`.
        per_latent: As in `LatentNetwork`.
        per_value: As in `LatentNetwork`.
        standardise: Takes brightness and contrast out of the image before the convolutions see it: the last two latents
            are the mean and the logarithm of the standard deviation of its values, the others describe what is left.
            The same thing under another light then differs in two latents alone (as in reversible instance
            normalisation, Kim et al., ICLR 2022).
        linear: As in `LatentNetwork`.

    Raises:
        ValueError: If `channels` is empty, `linear` and `standardise` are both asked for, or `standardise` leaves no
            latent.
    """

    def __init__(
        self,
        image_size: Sequence[int] = (64, 64),
        in_channels: int = 1,
        channels: Sequence[int] = (32, 64, 128, 256),
        blocks: int = 1,
        latent_dim: int = 10,
        per_latent: int = 1,
        per_value: int = 1,
        standardise: bool = False,
        linear: bool = False,
    ) -> None:
        super().__init__(image_size, in_channels, latent_dim, per_latent, per_value, linear)
        if not channels:
            raise ValueError("channels must name the width of at least one level, such as [32, 64, 128]")
        if standardise and (latent_dim < 3 or per_value != 1 or linear):
            raise ValueError("standardise: true needs a latent_dim of at least 3, per_value: 1 and linear: false")
        self.standardise, self.stride = standardise, 2 ** len(channels)
        self.coarse = (channels[-1], *(-(-side // self.stride) for side in self.image_size))
        features = self.coarse[0] * self.coarse[1] * self.coarse[2]
        self.encoder = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(fine, coarse, 4, stride=2, padding=1),
                nn.ReLU(),
                *(ResidualBlock(coarse, bias=True) for _ in range(blocks)),
            )
            for fine, coarse in pairwise((in_channels, *channels))
        )
        self.to_latent = nn.Linear(features, latent_dim * per_latent)
        self.from_latent = nn.Linear(latent_dim - 2 if standardise else latent_dim, features)
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
            last := nn.Conv2d(channels[0], in_channels * per_value, 3, padding=1),
        )
        if linear:  # the convolutions begin by adding nothing
            for parameter in (*self.to_latent.parameters(), *last.parameters()):
                nn.init.zeros_(parameter)

    def layers(self, image: Tensor) -> list[Tensor]:
        """Returns what each level makes of the image, N×channels×h×w, and the code."""
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
        """Draws images, N×(per_value · C)×H×W."""
        drawn: Tensor = self.decoder(self.from_latent(latent[:, : self.from_latent.in_features]).view(-1, *self.coarse))
        drawn = drawn[..., : self.image_size[0], : self.image_size[1]]
        if self.standardise:
            drawn = drawn * latent[:, -1].exp()[:, None, None, None] + latent[:, -2][:, None, None, None]
        return self.with_linear_drawing(drawn, latent)


def _brightness_and_contrast(image: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the mean of N×C×H×W and the logarithm of its standard deviation, N×1 each.

    The deviation is at least a 50th, as noise may have it, so that an empty image is not blown up.
    """
    values = image.flatten(1)
    return values.mean(1, keepdim=True), values.std(1, correction=0, keepdim=True).clamp_min(0.02).log()
