"""Losses beside those of `torch.nn`, which may stand in YAML just as well (`L1Loss`, `MSELoss`)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


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
