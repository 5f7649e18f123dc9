"""The default inpainting network: a smooth filling, which the restoration U-Net corrects."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from img2img.networks.receptive_field import Span, radius_of
from img2img.networks.unet import RestorationUNet

SHIFTS = ((0, 0), (5, 10), (10, 5), (15, 15))
"""Offsets (down, right) of the smooth filling's grids in pixels, all different in cells of the four finest levels."""


class InpaintingUNet(nn.Module):
    """A `smooth_filling` plus the correction that a `RestorationUNet` predicts from filling, known pixels and mask.

    An untrained network returns the smooth filling. The U-Net also gets the known pixels alone, black in the hole:
    convolutions cannot multiply filling and mask to tell known pixels from guessed ones.

    Args:
        in_channels: Channels of the image plus one for the mask: 4 for RGB, 2 for gray.
        channels: Width of each level, see `RestorationUNet`; scattered holes need width at the finest level.
        blocks: Residual blocks of each level.
        levels: Halvings of the smooth filling: holes up to about 2^levels pixels wide are filled from their border.

    Raises:
        ValueError: If `in_channels` is below 2, or `levels` is negative.
    """

    def __init__(
        self, in_channels: int = 4, channels: Sequence[int] = (64, 96, 128, 128), blocks: int = 2, levels: int = 7
    ) -> None:
        super().__init__()
        if in_channels < 2:
            raise ValueError(f"in_channels counts the image's channels and the mask, at least 2, not {in_channels}")
        if levels < 0:
            raise ValueError(f"levels must be at least 0, not {levels}")
        self.in_channels, self.levels = in_channels, levels
        colours = in_channels - 1
        self.unet = RestorationUNet(2 * colours + 1, colours, channels, blocks, bias=True, residual=False)
        nn.init.zeros_(self.unet.tail.weight)
        assert self.unet.tail.bias is not None
        nn.init.zeros_(self.unet.tail.bias)

    @property
    def stride(self) -> int:
        """Alignment of tiles in pixels, a multiple of the coarsest cells of both the U-Net and the filling."""
        return math.lcm(self.unet.stride, 1 << self.levels)

    @property
    def receptive_field(self) -> int:
        """Radius in input pixels, see `RestorationUNet`."""
        return radius_of(self.spread, self.stride)

    def spread(self, row: int) -> Span:
        """Returns the first and the last output row that depend on the input's `row`, far from borders.

        In each shifted grid the filling spreads a row over its cell of the coarsest level, and over one more cell at
        each finer level; the U-Net spreads it further.
        """
        side = 1 << self.levels
        firsts = [(row + shift) // side * side - shift for shift in {down for down, _ in SHIFTS}]
        return self.unet.spread(min(firsts) - (side - 1), max(firsts) + 2 * (side - 1))

    def forward(self, x: Tensor) -> Tensor:
        """Fills the holes of a batch.

        Args:
            x: N×(C+1)×H×W: the image, black in the hole, then the mask, 1 in the hole; of any size from 1×1.

        Returns:
            N×C×H×W, not clamped.
        """
        image, mask = x[:, :-1], x[:, -1:]
        filled = smooth_filling(image, mask, self.levels)
        corrected: Tensor = filled + self.unet(torch.cat([filled, image, mask], dim=1))
        return corrected


def smooth_filling(image: Tensor, mask: Tensor, levels: int) -> Tensor:
    """Averages `pull_push` over shifted grids, which makes its blocks less visible.

    "Cycle spinning", Coifman and Donoho, "Translation-invariant de-noising", 1995.

    Args:
        image: N×C×H×W.
        mask: N×1×H×W, 1 in the hole.
        levels: As in `pull_push`.

    Returns:
        N×C×H×W; equal to the image outside the hole, up to rounding.
    """
    total = torch.zeros_like(image)
    for down, right in SHIFTS:
        shifted, hole = F.pad(image, (right, 0, down, 0)), F.pad(mask, (right, 0, down, 0), value=1.0)
        total = total + pull_push(shifted, hole, levels)[..., down:, right:]
    return total / len(SHIFTS)


def pull_push(image: Tensor, mask: Tensor, levels: int) -> Tensor:
    """Fills holes smoothly from their border, by averaging known pixels to coarser levels and interpolating back.

    Gortler et al., "The Lumigraph", SIGGRAPH 1996, section 3.4.

    Args:
        image: N×C×H×W.
        mask: N×1×H×W, 1 in the hole.
        levels: Number of halvings; pixels that are still not filled become 0.5.

    Returns:
        N×C×H×W; equal to the image outside the hole.
    """
    height, width = image.shape[-2:]
    side = 2**levels
    known = F.pad(1 - mask, (0, -width % side, 0, -height % side))  # padding is a hole too
    image = F.pad(image, (0, -width % side, 0, -height % side))
    pyramid = [(image, known)]
    for _ in range(levels):
        weight = F.avg_pool2d(known, 2)
        image = F.avg_pool2d(image * known, 2) / weight.clamp_min(1e-6)
        known = (4 * weight).clamp(max=1)  # one known pixel of four makes the cell known
        pyramid.append((image, known))
    filled = torch.full_like(image, 0.5)
    for image, known in reversed(pyramid):
        if filled.shape[-2:] != image.shape[-2:]:
            filled = F.interpolate(filled, scale_factor=2, mode="bilinear")
        filled = known * image + (1 - known) * filled
    return filled[..., :height, :width]
