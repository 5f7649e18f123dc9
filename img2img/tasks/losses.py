"""Losses beside those of `torch.nn`, which may stand in YAML just as well (`L1Loss`, `MSELoss`)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from img2img.tasks.colour import chroma


class Charbonnier(nn.Module):
    """Mean of sqrt((output - target)² + eps²): L1 with a rounded tip (Charbonnier et al. 1994; Lai et al. 2017).

    Args:
        eps: Radius of the rounding, in units of the pixel range [0, 1].
    """

    def __init__(self, eps: float = 1e-3) -> None:
        super().__init__()
        self.eps = eps

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Returns the scalar loss of two tensors of the same shape."""
        return torch.sqrt((output - target) ** 2 + self.eps**2).mean()


class ChromaLoss(nn.Module):
    """Mean distance in the plane of Cb and Cr, in which vivid pixels may weigh more, or less.

    Most pixels of photographs are nearly gray, and of several likely colours a distance takes the middle: brown. Zhang
    et al., "Colorful image colorization", ECCV 2016, weigh rare colours up for that reason; a positive `saturation`
    does so more simply. At -1 the weight is about the one of CIE94 for differences of chroma, 1 / (1 + 0.045 C*): an
    eye tells near-grays better than vivid colours, and CIEDE2000 counts like that.

    Args:
        saturation: A pixel weighs (1 + |chroma of the target| / 0.1) ^ saturation; 0 weighs all alike. Skin has a
            chroma of about 0.1, the most vivid colours have 0.5.
    """

    def __init__(self, saturation: float = 0.0) -> None:
        super().__init__()
        self.saturation = saturation

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Returns the scalar loss of N×2×H×W, the weighted mean of |output - target|."""
        weight = saturation_weight(target, self.saturation)
        # The length's gradient has no value at 0; 1e-3, a quarter of a level, rounds the tip.
        distance = ((output - target).square().sum(1, keepdim=True) + 1e-6).sqrt()
        return (weight * distance).mean() / weight.mean()


class ChromaClasses(nn.Module):
    """Colour as classification: a distribution over cells of the chroma plane, so that it need not be the middle.

    After Zhang et al., "Colorful image colorization", ECCV 2016: cross-entropy over quantised chroma, the colour then
    being the annealed mean of the distribution. Here the plane is Rec. 601's Cb and Cr, the target is shared out to the
    four nearest cells (bilinearly), and rare colours weigh up by their saturation.

    Args:
        step: Side of a cell, in units of chroma, which reaches from -0.5 to 0.5.
        temperature: Of the annealed mean: 1 takes the mean, towards 0 the likeliest cell.
        saturation: As in `ChromaLoss`.

    Attributes:
        channels: How many cells, and so channels of the network, there are.
    """

    centres: Tensor
    cell_of: Tensor

    def __init__(self, step: float = 0.1, temperature: float = 0.38, saturation: float = 1.0) -> None:
        super().__init__()
        if not 0 < step <= 0.5 or temperature <= 0:
            raise ValueError(f"step must lie in (0, 0.5] and temperature above 0, not {step} and {temperature}")
        self.step, self.temperature, self.saturation = step, temperature, saturation
        self.reach = math.ceil(0.5 / step)  # cells to each side of gray
        side = 2 * self.reach + 1
        axis = torch.arange(-self.reach, self.reach + 1) * step
        plane = torch.cartesian_prod(axis, axis)  # row: Cb, column: Cr
        used = torch.zeros(side * side, dtype=torch.bool)
        cube = torch.cartesian_prod(*[torch.linspace(0, 1, 33)] * 3)[:, :, None, None]
        used[torch.cat([cell for cell, _ in self._corners(chroma(cube))]).flatten()] = True
        cell_of = torch.full((side * side,), -1)
        cell_of[used] = torch.arange(int(used.sum()))
        # Not part of a checkpoint: they follow from the arguments.
        self.register_buffer("centres", plane[used].contiguous(), persistent=False)
        self.register_buffer("cell_of", cell_of, persistent=False)
        self.channels = int(used.sum())

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Returns the weighted cross-entropy in nats of logits N×channels×H×W and chroma N×2×H×W."""
        log_share = output.float().log_softmax(1)
        entropy = torch.zeros_like(target[:, :1])
        for cell, share in self._corners(target):
            index = self.cell_of[cell].clamp_min(0)[:, None]
            entropy = entropy - share[:, None] * log_share.gather(1, index)
        weight = saturation_weight(target, self.saturation)
        loss: Tensor = (weight * entropy).mean() / weight.mean()
        return loss

    def decode(self, output: Tensor) -> Tensor:
        """Returns the annealed mean of logits N×channels×H×W: chroma N×2×H×W."""
        with torch.autocast(output.device.type, enabled=False):  # chroma of 8 bits would show
            shares = (output.float() / self.temperature).softmax(1)
            mean: Tensor = torch.einsum("nchw,cd->ndhw", shares, self.centres.float())
        return mean

    def _corners(self, colour: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Returns the four nearest cells of chroma N×2×H×W, each with its share, both N×H×W."""
        place = (colour / self.step + self.reach).clamp(0, 2 * self.reach - 1e-4)
        low = place.floor()
        part = place - low
        cb, cr = low.long().unbind(1)
        right_cb, right_cr = part.unbind(1)
        side = 2 * self.reach + 1
        corners = []
        for up in (0, 1):
            for right in (0, 1):
                share = (right_cb if up else 1 - right_cb) * (right_cr if right else 1 - right_cr)
                corners.append(((cb + up) * side + cr + right, share))
        return corners


def saturation_weight(target: Tensor, exponent: float) -> Tensor:
    """Returns the weight of each pixel of chroma N×2×H×W, 1 for gray; N×1×H×W."""
    weight: Tensor = (1 + target.norm(dim=1, keepdim=True) / 0.1) ** exponent
    return weight
