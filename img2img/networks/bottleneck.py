"""A convolutional encoder-decoder without skip connections: everything passes through the bottleneck."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from img2img.networks.receptive_field import Span, radius_of
from img2img.networks.unet import ResidualBlock


class BottleneckAutoencoder(nn.Module):
    """A convolutional autoencoder without skip connections and without a global residual.

    Trained on corrupted inputs it is the denoising autoencoder of Vincent et al., "Stacked denoising autoencoders",
    JMLR 2010, made convolutional: the encoder must compress the image, the decoder reconstructs it. Compared with
    `RestorationUNet`, which has the same blocks, it shows what skip connections contribute. It is purely local, so it
    takes images of any size.

    Args:
        in_channels: Channels of the input: 3 for RGB, 1 for gray.
        out_channels: Channels of the output; None for as many as the input.
        channels: Width of each level, from the finest to the coarsest; each halves the size, the first included.
        blocks: Residual blocks of each level of the encoder and of the decoder.
        code_channels: Channels of the latent, at the coarsest level.

    Raises:
        ValueError: If `channels` is empty.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int | None = None,
        channels: Sequence[int] = (48, 96, 192),
        blocks: int = 1,
        code_channels: int = 32,
    ) -> None:
        super().__init__()
        if not channels:
            raise ValueError("channels must name the width of at least one level, such as [48, 96, 192]")
        out_channels = in_channels if out_channels is None else out_channels
        self.in_channels, self.stride = in_channels, 2 ** len(channels)
        self.levels, self.blocks = len(channels), blocks
        encoder: list[nn.Module] = []
        for fine, coarse in pairwise((in_channels, *channels)):
            encoder += [nn.Conv2d(fine, coarse, 4, stride=2, padding=1), nn.ReLU(inplace=True)]
            encoder += [ResidualBlock(coarse, bias=True) for _ in range(blocks)]
        self.encoder = nn.Sequential(*encoder, nn.Conv2d(channels[-1], code_channels, 1))
        decoder: list[nn.Module] = [nn.Conv2d(code_channels, channels[-1], 1)]
        widths = [*reversed(channels), channels[0]]
        for coarse, fine in pairwise(widths):
            decoder += [ResidualBlock(coarse, bias=True) for _ in range(blocks)]
            decoder += [nn.ConvTranspose2d(coarse, fine, 4, stride=2, padding=1), nn.ReLU(inplace=True)]
        self.decoder = nn.Sequential(*decoder, nn.Conv2d(channels[0], out_channels, 3, padding=1))

    @property
    def receptive_field(self) -> int:
        """Radius in input pixels, see `RestorationUNet`."""
        return radius_of(self.spread, self.stride)

    def spread(self, row: int) -> Span:
        """Returns the first and the last output row that depend on the input's `row`, far from borders."""
        first, last, level = row, row, 2 * self.blocks
        for _ in range(self.levels):  # cell c of a level depends on 2c - 1 to 2c + 2 of the finer one
            first, last = (first - 1) // 2 - level, (last + 1) // 2 + level
        for _ in range(self.levels):  # and in the decoder affects as many
            first, last = 2 * (first - level) - 1, 2 * (last + level) + 2
        return first - 1, last + 1

    def encode(self, x: Tensor) -> Tensor:
        """Returns the latent of N×C×H×W: N×code_channels×⌈H/stride⌉×⌈W/stride⌉."""
        height, width = x.shape[-2:]
        latent: Tensor = self.encoder(F.pad(x, (0, -width % self.stride, 0, -height % self.stride), mode="replicate"))
        return latent

    def forward(self, x: Tensor) -> Tensor:
        """Reconstructs a batch.

        Args:
            x: N×C×H×W, nominally in [0, 1], of any size from 1×1.

        Returns:
            N×C'×H×W, not clamped.
        """
        height, width = x.shape[-2:]
        output: Tensor = self.decoder(self.encode(x))
        return output[..., :height, :width]
