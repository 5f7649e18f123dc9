"""Padding for networks that accept only some image sizes."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn

from img2img.networks.receptive_field import declared_receptive_field


class Padded(nn.Module):
    """Pads images at the right and the bottom to a size that a network accepts, and crops its output.

    For third-party networks; ours pad images themselves.

    Args:
        network: Any module that maps N×C×H×W to N×C'×H×W for sizes divisible by `multiple`.
        multiple: Number by which height and width must be divisible.

    Raises:
        ValueError: If `multiple` is less than 1.
    """

    def __init__(self, network: nn.Module, multiple: int = 32) -> None:
        super().__init__()
        if multiple < 1:
            raise ValueError(f"multiple must be at least 1, not {multiple}")
        self.network, self.multiple = network, multiple
        inner = declared_receptive_field(network)
        self.stride = math.lcm(multiple, inner.stride if inner else 1)
        self.receptive_field = inner.radius if inner else None
        self.in_channels = getattr(network, "in_channels", None)  # the task reads it

    def forward(self, x: Tensor) -> Tensor:
        """Maps N×C×H×W of any size from 1×1 to N×C'×H×W."""
        height, width = x.shape[-2:]
        padded: Tensor = self.network(F.pad(x, (0, -width % self.multiple, 0, -height % self.multiple), "replicate"))
        return padded[..., :height, :width]
