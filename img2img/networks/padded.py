"""Any image size for networks that know only some."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn

from img2img.networks.reach import analytic_reach


class Padded(nn.Module):
    """Pads images at the right and at the bottom to what a network can take, and cuts its output to size.

    For networks from elsewhere; ours do so themselves.

    Args:
        network: Any module that maps N×C×H×W to N×C'×H×W for sizes divisible by `multiple`.
        multiple: What height and width have to be divisible by.

    Raises:
        ValueError: If `multiple` is less than 1.
    """

    def __init__(self, network: nn.Module, multiple: int = 32) -> None:
        super().__init__()
        if multiple < 1:
            raise ValueError(f"multiple must be at least 1, not {multiple}")
        self.network, self.multiple = network, multiple
        inner = analytic_reach(network)
        self.stride = math.lcm(multiple, inner.stride if inner else 1)
        self.receptive_field = inner.radius if inner else None
        self.in_channels = getattr(network, "in_channels", None)  # for the task, which asks

    def forward(self, x: Tensor) -> Tensor:
        """Maps N×C×H×W of any size from 1×1 to N×C'×H×W."""
        height, width = x.shape[-2:]
        padded: Tensor = self.network(F.pad(x, (0, -width % self.multiple, 0, -height % self.multiple), "replicate"))
        return padded[..., :height, :width]
