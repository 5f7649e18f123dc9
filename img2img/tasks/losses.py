"""Losses that `torch.nn` lacks; its own (`L1Loss`, `MSELoss`) work in YAML just as well."""

from __future__ import annotations

import math
from itertools import product

import torch
from torch import Tensor, nn
from torchvision.ops import sigmoid_focal_loss

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


class PSNRLoss(nn.Module):
    """Mean of the negative PSNRs of a batch's images, in dB (Chen et al., "HINet", CVPR Workshops 2021).

    Every image counts alike, however noisy it is: halving its squared error gains 3 dB. Under other losses the noisiest
    images decide, and weak noise is hardly learned.

    Args:
        floor: Mean squared error below which nothing more is gained, for targets in [0, 1]: 1e-5 is 50 dB.

    Raises:
        ValueError: If the floor is not positive.
    """

    def __init__(self, floor: float = 1e-5) -> None:
        super().__init__()
        if floor <= 0:
            raise ValueError(f"floor must be positive, not {floor}")
        self.floor = floor

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Returns the scalar loss of two tensors N×C×H×W."""
        errors = (output - target).float().square().flatten(1).mean(1)
        return 10 * torch.log10(errors + self.floor).mean()


class FocalDice(nn.Module):
    """Focal loss plus Dice loss of a mask's logits: few pixels are masked, and most of the others are easy.

    The focal loss (Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017) weighs each pixel down that is right
    already. The Dice loss (Milletari et al., "V-Net", 3DV 2016, eq. 3) compares areas, over the whole batch, so that
    images without a mask do no harm.

    Args:
        alpha: Weight of masked pixels in the focal loss, in [0, 1]; others have 1 - alpha. None for 1 everywhere.
        gamma: Exponent of the focal loss; 0 for cross-entropy.
        dice: Factor on the Dice loss.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(self, alpha: float | None = None, gamma: float = 2.0, dice: float = 1.0) -> None:
        super().__init__()
        if (alpha is not None and not 0 <= alpha <= 1) or gamma < 0 or dice < 0:
            raise ValueError(f"alpha must be in [0, 1], gamma and dice at least 0, not {alpha}, {gamma} and {dice}")
        self.alpha, self.gamma, self.dice = alpha, gamma, dice

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Returns the scalar loss of logits and a mask in [0, 1], of the same shape."""
        logits, mask = output.float(), target.float()
        weight = -1 if self.alpha is None else self.alpha  # -1 is torchvision's word for none
        focal: Tensor = sigmoid_focal_loss(logits, mask, weight, self.gamma, reduction="mean")
        found = logits.sigmoid()
        both, either = 2 * (found * mask).sum(), found.square().sum() + mask.square().sum()
        return focal + self.dice * (1 - (both + 1) / (either + 1))


class ChromaLoss(nn.Module):
    """Mean distance in the plane of Cb and Cr, optionally with more or less weight on vivid pixels.

    Most pixels of photographs are nearly gray, and a distance averages several likely colours to brown. For that
    reason Zhang et al., "Colorful image colorization", ECCV 2016, give rare colours more weight; a positive
    `saturation` is a simpler way. At -1 the weight is about that of CIE94 for differences of chroma,
    1 / (1 + 0.045 C*): the eye distinguishes near-grays better than vivid colours, as CIEDE2000 reflects.

    Args:
        saturation: The weight of a pixel is (1 + |chroma of the target| / 0.1) ^ saturation; 0 weights all equally.
            Skin has a chroma of about 0.1, the most vivid colours 0.5.
    """

    def __init__(self, saturation: float = 0.0) -> None:
        super().__init__()
        self.saturation = saturation

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Returns the scalar loss of N×2×H×W, the weighted mean of |output - target|."""
        weight = saturation_weight(target, self.saturation)
        # The norm has no gradient at 0; 1e-3, a quarter of a level, rounds the tip.
        distance = ((output - target).square().sum(1, keepdim=True) + 1e-6).sqrt()
        return (weight * distance).mean()  # not over the weights' sum: an image's loss must not depend on its batch


class ChromaClasses(nn.Module):
    """Colour as classification: a distribution over cells of the chroma plane, which need not average colours.

    After Zhang et al., "Colorful image colorization", ECCV 2016: cross-entropy over quantised chroma; the colour is the
    annealed mean of the distribution. Here the plane is Rec. 601's Cb and Cr, the target is distributed bilinearly over
    the four nearest cells, and vivid colours, which are rare, get more weight.

    Args:
        step: Side of a cell, in units of chroma, which ranges from -0.5 to 0.5.
        temperature: Temperature of the annealed mean: 1 gives the mean; towards 0, the likeliest cell.
        saturation: As in `ChromaLoss`.

    Attributes:
        channels: Number of cells, which the network needs as output channels.
    """

    centres: Tensor
    cell_of: Tensor

    def __init__(self, step: float = 0.1, temperature: float = 0.38, saturation: float = 1.0) -> None:
        super().__init__()
        if not 0 < step <= 0.5 or temperature <= 0:
            raise ValueError(f"step must lie in (0, 0.5] and temperature above 0, not {step} and {temperature}")
        self.step, self.temperature, self.saturation = step, temperature, saturation
        self._radius = math.ceil(0.5 / step)  # cells to each side of gray
        side = 2 * self._radius + 1
        axis = torch.arange(-self._radius, self._radius + 1) * step
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
        log_probability = output.float().log_softmax(1)
        entropy = torch.zeros_like(target[:, :1])
        for cell, fraction in self._corners(target):
            index = self.cell_of[cell].clamp_min(0)[:, None]
            entropy = entropy - fraction[:, None] * log_probability.gather(1, index)
        weight = saturation_weight(target, self.saturation)
        return (weight * entropy).mean()  # as in `ChromaLoss`

    def decode(self, output: Tensor) -> Tensor:
        """Returns the annealed mean of logits N×channels×H×W: chroma N×2×H×W."""
        with torch.autocast(output.device.type, enabled=False):  # bfloat16's 8 bits of precision would be visible
            probabilities = (output.float() / self.temperature).softmax(1)
            mean: Tensor = torch.einsum("nchw,cd->ndhw", probabilities, self.centres.float())
        return mean

    def _corners(self, colour: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Returns the four nearest cells of chroma N×2×H×W, each with its bilinear weight, both N×H×W."""
        place = (colour / self.step + self._radius).clamp(0, 2 * self._radius - 1e-4)
        low = place.floor()
        part = place - low
        cb, cr = low.long().unbind(1)
        right_cb, right_cr = part.unbind(1)
        side = 2 * self._radius + 1
        corners = []
        for up, right in product((0, 1), repeat=2):
            fraction = (right_cb if up else 1 - right_cb) * (right_cr if right else 1 - right_cr)
            corners.append(((cb + up) * side + cr + right, fraction))
        return corners


def saturation_weight(target: Tensor, exponent: float) -> Tensor:
    """Returns the weight of each pixel of chroma N×2×H×W, 1 for gray; N×1×H×W."""
    weight: Tensor = (1 + target.norm(dim=1, keepdim=True) / 0.1) ** exponent
    return weight
