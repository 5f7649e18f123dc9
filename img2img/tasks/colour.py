"""Luma and chroma of RGB images: Rec. 601 Y'CbCr of the stored (sRGB) values, full range, as in JPEG."""

from __future__ import annotations

import torch
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)  # what Pillow, OpenCV and JPEG compute as gray
_CB_TO_BLUE, _CR_TO_RED = 2 * (1 - LUMA[2]), 2 * (1 - LUMA[0])  # 1.772 and 1.402


def luma(rgb: Tensor) -> Tensor:
    """Returns the luma Y' of N×3×H×W, N×1×H×W in the same range."""
    return (rgb * rgb.new_tensor(LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)


def chroma(rgb: Tensor) -> Tensor:
    """Returns Cb and Cr of N×3×H×W in [0, 1]: N×2×H×W in [-0.5, 0.5], both 0 for gray."""
    red, blue = rgb[:, 0:1], rgb[:, 2:3]
    bright = luma(rgb)
    return torch.cat([(blue - bright) / _CB_TO_BLUE, (red - bright) / _CR_TO_RED], dim=1)


def with_chroma(bright: Tensor, colour: Tensor) -> Tensor:
    """Returns the RGB image of a luma and a chroma: the luma is kept, the chroma shrunk where it leaves the gamut.

    Shrinking multiplies Cb and Cr of a pixel by the largest factor in [0, 1] that brings red, green and blue into
    [0, 1]. The hue stays, and the luma, which is linear in them, stays exactly. Rounding to 8 bits changes each of the
    three by half a level at most, and hence also their luma, whose weights sum to 1.

    Args:
        bright: N×1×H×W in [0, 1].
        colour: N×2×H×W, Cb and Cr.

    Returns:
        N×3×H×W in [0, 1].
    """
    blue, red = _CB_TO_BLUE * colour[:, 0:1], _CR_TO_RED * colour[:, 1:2]
    green = -(LUMA[0] * red + LUMA[2] * blue) / LUMA[1]
    offsets = torch.cat([red, green, blue], dim=1)
    room = torch.where(offsets > 0, 1 - bright, bright)
    shrink = (room / offsets.abs().clamp_min(1e-12)).amin(1, keepdim=True).clamp(0, 1)
    return (bright + shrink * offsets).clamp(0, 1)  # the clamp only corrects float rounding
