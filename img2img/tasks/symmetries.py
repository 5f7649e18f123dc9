"""Self-ensemble: the mean over the eight symmetries of the square."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def mean_over_symmetries(
    restore: Callable[[Tensor, Tensor | None], Tensor], image: Tensor, mask: Tensor | None, stride: int, scale: int
) -> Tensor:
    """Restores eight rotated and mirrored versions of images, and returns the mean of the results, turned back.

    "Geometric self-ensemble", Lim et al., "Enhanced deep residual networks", CVPR workshops 2017.

    Args:
        restore: Takes images N×C×H×W and masks N×1×H×W (or None); returns images `scale` times as high and wide.
        image: N×C×H×W.
        mask: N×1×H×W, or None.
        stride: The network's. Images are first padded to a multiple of it, so that its grid fits all versions alike.
        scale: Output pixels per input pixel.

    Returns:
        The mean, `scale` times as high and wide as the images.
    """
    height, width = image.shape[-2:]
    padding = (0, -width % stride, 0, -height % stride)
    images = F.pad(image, padding, mode="replicate")
    masks = None if mask is None else F.pad(mask, padding, mode="replicate")
    total = torch.zeros((), device=image.device)
    for number in range(8):
        turned = None if masks is None else _turn(masks, number)
        total = total + _turn_back(restore(_turn(images, number), turned), number)
    return (total / 8)[..., : height * scale, : width * scale]


def _turn(image: Tensor, number: int) -> Tensor:
    """Returns N×C×H×W rotated by `number` quarter turns, from 4 on mirrored as well."""
    turned = torch.rot90(image, number % 4, (2, 3))
    return turned.flip(3) if number >= 4 else turned


def _turn_back(image: Tensor, number: int) -> Tensor:
    """Undoes `_turn`."""
    return torch.rot90(image.flip(3) if number >= 4 else image, -(number % 4), (2, 3))
