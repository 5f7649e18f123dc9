"""The default restoration network: a purely local U-Net of dense 3x3 convolutions behind a pixel-unshuffle."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from img2img.networks.receptive_field import Span, radius_of


class ResidualBlock(nn.Module):
    """x + conv(relu(conv(x))); the second convolution starts at zero, so that a new block is the identity.

    Args:
        channels: Channels in and out.
        bias: Whether the convolutions have a bias.
        slope: Slope for negative values (leaky ReLU); 0 for ReLU, whose units can die.
    """

    def __init__(self, channels: int, bias: bool = False, slope: float = 0.0) -> None:
        super().__init__()
        self.slope = slope
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=bias)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=bias)
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Maps N×C×H×W to the same shape."""
        y: Tensor = self.conv1(x)
        # In place: no gradient needs the overwritten values.
        y = self.conv2(F.leaky_relu(y, self.slope, inplace=True) if self.slope else F.relu(y, inplace=True))
        y += x
        return y


class RestorationUNet(nn.Module):
    """Residual U-Net that works on the image folded to `1/shuffle` of its size.

    Purely local and without normalisation: no pooling over the image, no batch or instance norm, no attention. Its
    receptive field is therefore finite (see `receptive_field`), so restoring an image in tiles is exact. Without
    biases the network is positively homogeneous, f(a·x) = a·f(x), and generalises to noise levels it was not trained on
    (Mohan et al., "Robust and interpretable blind image denoising", ICLR 2020).

    The layout, encoder - middle - decoder with additive skips and a global residual, follows DRUNet (Zhang et al.
    2021) and NAFNet (Chen et al. 2022); the fold at the front is FFDNet's (Zhang et al. 2018).

    Args:
        in_channels: Channels of the input: 3 for RGB, 1 for gray.
        out_channels: Channels of the output; None for as many as the input.
        channels: Width of each level, from the finest to the coarsest; each level halves the size.
        blocks: Residual blocks of each encoder and decoder level, and of the middle.
        shuffle: Side of the pixel-unshuffle at the front.
        bias: Whether the convolutions have biases.
        residual: Whether the network predicts the difference to its input. With more output than input channels, the
            input is added to the first ones; the task decides what the others mean.
        slope: Slope of the blocks for negative values (leaky ReLU); 0 for ReLU.

    Raises:
        ValueError: If `channels` is empty, or `residual` is true with fewer output than input channels.
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
        slope: float = 0.0,
    ) -> None:
        super().__init__()
        out_channels = in_channels if out_channels is None else out_channels
        if not channels:
            raise ValueError("channels must name the width of at least one level, such as [48, 96, 192]")
        if residual and out_channels < in_channels:
            raise ValueError(
                f"residual: true needs at least as many output channels as input channels, not {out_channels} "
                f"for {in_channels}"
            )
        self.in_channels, self.shuffle, self.residual, self.blocks = in_channels, shuffle, residual, blocks
        self.stride = shuffle * 2 ** (len(channels) - 1)

        def level(width: int) -> nn.Sequential:
            return nn.Sequential(*(ResidualBlock(width, bias, slope) for _ in range(blocks)))

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
        """Radius in input pixels: an output pixel depends on no input pixel farther away, on either axis."""
        return radius_of(lambda row: self.spread(row, row), self.stride)

    def spread(self, first: int, last: int) -> Span:
        """Returns the first and the last output row that depend on input rows `first` to `last`, far from borders.

        Follows the longest path, through the coarsest level. A 3×3 convolution reaches one cell of its level to each
        side; going to a coarser cell and back reaches all of that cell.
        """
        level = 2 * self.blocks  # convolutions
        first, last = first // self.shuffle - 1, last // self.shuffle + 1
        for _ in self.downs:
            first, last = (first - level) // 2, (last + level) // 2
        for _ in self.ups:
            first, last = 2 * (first - level), 2 * (last + level) + 1
        first, last = first - level - 1, last + level + 1
        return first * self.shuffle, (last + 1) * self.shuffle - 1

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
            for block in encoder.children():  # as nn.Sequential does, but that would hold its input to the end
                y = block(y)
            skips.append(y)
            y = down(y)
        y = self.middle(y)
        for up, decoder in zip(reversed(self.ups), reversed(self.decoders), strict=True):
            y = up(y)
            y += skips.pop()
            for block in decoder.children():
                y = block(y)
        y = F.pixel_shuffle(self.tail(y), self.shuffle)[..., :height, :width]
        if not self.residual:
            return y
        image, more = torch.add(x, y[:, : self.in_channels]), y[:, self.in_channels :]
        return torch.cat([image, more], 1) if more.shape[1] else image
