"""The default restoration network: a purely local U-Net of dense 3x3 convolutions behind a pixel-unshuffle."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """x + conv(relu(conv(x))); the second convolution starts at zero, so that a new block is the identity.

    Args:
        channels: Channels in and out.
        bias: Whether the convolutions have a bias.
    """

    def __init__(self, channels: int, bias: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=bias)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=bias)
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Maps N×C×H×W to the same shape."""
        return torch.add(x, self.conv2(F.relu(self.conv1(x))))


class RestorationUNet(nn.Module):
    """Residual U-Net that works on the image folded to `1/shuffle` of its size.

    Purely local and without normalisation: no pooling over the image, no batch or instance norm, no attention. Its
    receptive field is therefore finite (see `receptive_field`), so that an image may be restored in tiles exactly.
    Without biases the network is positively homogeneous, f(a·x) = a·f(x), and generalises to noise levels it was not
    trained on (Mohan et al., "Robust and interpretable blind image denoising", ICLR 2020).

    The layout, encoder - middle - decoder with additive skips and a global residual, follows DRUNet (Zhang et al.
    2021) and NAFNet (Chen et al. 2022); the fold at the front is FFDNet's (Zhang et al. 2018).

    Args:
        in_channels: Channels of the input: 3 for RGB, 1 for gray.
        out_channels: Channels of the output; None for as many as the input has.
        channels: Width of each level, from the finest to the coarsest; each level halves the size.
        blocks: Residual blocks of each encoder and decoder level, and of the middle.
        shuffle: Side of the pixel-unshuffle at the front.
        bias: Whether the convolutions have biases.
        residual: Whether the network predicts the difference to its input (needs `out_channels == in_channels`).

    Raises:
        ValueError: If `channels` is empty, or `residual` is asked for with other channels out than in.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int | None = None,
        channels: Sequence[int] = (48, 96, 192),
        blocks: int = 2,
        shuffle: int = 2,
        bias: bool = False,
        residual: bool = True,
    ) -> None:
        super().__init__()
        out_channels = in_channels if out_channels is None else out_channels
        if not channels:
            raise ValueError("channels must name the width of at least one level, such as [48, 96, 192]")
        if residual and in_channels != out_channels:
            raise ValueError(
                f"residual: true needs as many channels out as in, but {in_channels} go in and {out_channels} out"
            )
        self.in_channels, self.shuffle, self.residual, self.blocks = in_channels, shuffle, residual, blocks
        self.stride = shuffle * 2 ** (len(channels) - 1)

        def level(width: int) -> nn.Sequential:
            return nn.Sequential(*(ResidualBlock(width, bias) for _ in range(blocks)))

        self.head = nn.Conv2d(in_channels * shuffle**2, channels[0], 3, padding=1, bias=bias)
        self.encoders = nn.ModuleList(level(width) for width in channels[:-1])
        self.downs = nn.ModuleList(
            nn.Conv2d(fine, coarse, 2, stride=2, bias=bias) for fine, coarse in pairwise(channels)
        )
        self.middle = level(channels[-1])
        self.ups = nn.ModuleList(
            nn.ConvTranspose2d(coarse, fine, 2, stride=2, bias=bias) for fine, coarse in pairwise(channels)
        )
        self.decoders = nn.ModuleList(level(width) for width in channels[:-1])
        self.tail = nn.Conv2d(channels[0], out_channels * shuffle**2, 3, padding=1, bias=bias)
        if residual:  # a new network returns its input: training starts from there, not from noise
            nn.init.zeros_(self.tail.weight)

    @property
    def receptive_field(self) -> int:
        """Radius in input pixels: an output pixel sees no input pixel farther away than this, on either axis.

        Summed along the longest path, through the coarsest level. A 3x3 convolution reaches one cell of its level
        to each side; a cell of a level is a block of input pixels, whose far edge adds the block's side less one.
        """
        cell, radius = self.shuffle, self.shuffle - 1  # the fold lets a pixel see the rest of its cell
        radius += 2 * cell  # head and tail
        levels = len(self.downs)
        for _ in range(levels):
            radius += 2 * (2 * self.blocks) * cell  # encoder and decoder of this level
            radius += cell  # folding two cells to one: a cell sees its neighbour in the coarser cell
            cell *= 2
        return radius + 2 * self.blocks * cell  # the middle

    def forward(self, x: Tensor) -> Tensor:
        """Restores a batch of any size.

        Args:
            x: N×C×H×W, nominally in [0, 1], H and W at least 1.

        Returns:
            N×C'×H×W, not clamped.
        """
        height, width = x.shape[-2:]
        padded = F.pad(x, (0, -width % self.stride, 0, -height % self.stride), mode="replicate")
        y = self.head(F.pixel_unshuffle(padded, self.shuffle))
        skips: list[Tensor] = []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            y = encoder(y)
            skips.append(y)
            y = down(y)
        y = self.middle(y)
        for up, decoder, skip in zip(reversed(self.ups), reversed(self.decoders), reversed(skips), strict=True):
            y = decoder(up(y) + skip)
        y = F.pixel_shuffle(self.tail(y), self.shuffle)[..., :height, :width]
        return torch.add(x, y) if self.residual else y
