"""The default inpainting network: a smooth filling first, then the restoration U-Net, which corrects it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from img2img.networks.reach import Span, radius_of
from img2img.networks.unet import RestorationUNet

SHIFTS = ((0, 0), (5, 10), (10, 5), (15, 15))
"""Where the grids of the smooth filling lie, in pixels: at different places in the cells of the four finest levels."""


class InpaintingUNet(nn.Module):
    """A `smooth_filling`, to which is added what a `RestorationUNet` makes of filling, known pixels and mask.

    A new network returns the smooth filling: training starts from there. The known pixels go in by themselves as well,
    black in the hole: convolutions cannot multiply filling and mask, to tell what is seen from what is guessed.

    Args:
        in_channels: Channels of the image and one for the mask: 4 for RGB, 2 for gray.
        channels: Width of each level, see `RestorationUNet`; scattered pixels want width at the finest.
        blocks: Residual blocks of each level.
        levels: Halvings of the smooth filling: holes up to about 2^levels pixels wide are filled from their rim.

    Raises:
        ValueError: If there are fewer than two channels in, or `levels` is negative.
    """

    def __init__(
        self, in_channels: int = 4, channels: Sequence[int] = (64, 96, 128, 128), blocks: int = 2, levels: int = 7
    ) -> None:
        super().__init__()
        if in_channels < 2:
            raise ValueError(f"in_channels counts the image's and the mask, at least 2, not {in_channels}")
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
        """What tiles must be aligned to, in pixels: the cells of the U-Net and those of the filling."""
        return math.lcm(self.unet.stride, 1 << self.levels)

    @property
    def receptive_field(self) -> int:
        """Radius in input pixels, see `RestorationUNet`."""
        return radius_of(self.spread, self.stride)

    def spread(self, row: int) -> Span:
        """The rows of the output that see the input's `row`, far from borders: by the filling, then by the U-Net.

        In each of the shifted grids, the row's cell of the coarsest level, and one cell more at each finer one.
        """
        side = 1 << self.levels
        firsts = [(row + shift) // side * side - shift for shift in {down for down, _ in SHIFTS}]
        return self.unet.spread(min(firsts) - (side - 1), max(firsts) + 2 * (side - 1))

    def forward(self, x: Tensor) -> Tensor:
        """Draws an image from a holed one.

        Args:
            x: N×(C+1)×H×W, the image, black in the hole, and, last, the mask, 1 in the hole; of any size from 1×1.

        Returns:
            N×C×H×W, not clamped.
        """
        image, mask = x[:, :-1], x[:, -1:]
        filled = smooth_filling(image, mask, self.levels)
        corrected: Tensor = filled + self.unet(torch.cat([filled, image, mask], dim=1))
        return corrected


def smooth_filling(image: Tensor, mask: Tensor, levels: int) -> Tensor:
    """Averages `pull_push` over shifted grids, whose blocks then show less.

    "Cycle spinning", Coifman and Donoho, "Translation-invariant de-noising", 1995.

    Args:
        image: N×C×H×W.
        mask: N×1×H×W, 1 in the hole.
        levels: As in `pull_push`.

    Returns:
        N×C×H×W; outside the hole the image, up to rounding.
    """
    total = torch.zeros_like(image)
    for down, right in SHIFTS:
        shifted, hole = F.pad(image, (right, 0, down, 0)), F.pad(mask, (right, 0, down, 0), value=1.0)
        total = total + pull_push(shifted, hole, levels)[..., down:, right:]
    return total / len(SHIFTS)


def pull_push(image: Tensor, mask: Tensor, levels: int) -> Tensor:
    """Fills holes smoothly from their rim, by averaging known pixels to coarser and coarser levels and back.

    Gortler et al., "The Lumigraph", SIGGRAPH 1996, section 3.4.

    Args:
        image: N×C×H×W.
        mask: N×1×H×W, 1 in the hole.
        levels: How often to halve; what is not filled even then becomes 0.5.

    Returns:
        N×C×H×W; outside the hole the image.
    """
    height, width = image.shape[-2:]
    side = 2**levels
    known = F.pad(1 - mask, (0, -width % side, 0, -height % side))  # padding is a hole too
    image = F.pad(image, (0, -width % side, 0, -height % side))
    pyramid = [(image, known)]
    for _ in range(levels):
        weight = F.avg_pool2d(known, 2)
        image = F.avg_pool2d(image * known, 2) / weight.clamp_min(1e-6)
        known = (4 * weight).clamp(max=1)  # one known pixel of four is enough to be known
        pyramid.append((image, known))
    filled = torch.full_like(image, 0.5)
    for image, known in reversed(pyramid):
        if filled.shape[-2:] != image.shape[-2:]:
            filled = F.interpolate(filled, scale_factor=2, mode="bilinear")
        filled = known * image + (1 - known) * filled
    return filled[..., :height, :width]
