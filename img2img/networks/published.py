"""Networks from elsewhere, as the package `spandrel` describes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from spandrel import ModelDescriptor


class PublishedNetwork(nn.Module):
    """A published network, for restoring only: its weights are frozen.

    Padding to sizes that the network can take, and cutting to size, is the descriptor's work.

    Args:
        descriptor: What `spandrel.ModelLoader` returns: the network, and how to call it.

    Attributes:
        in_channels: Channels of the image, and one more for the mask of networks that fill holes.
        scale: Output pixels per input pixel, on each axis.
    """

    def __init__(self, descriptor: ModelDescriptor) -> None:
        super().__init__()
        self.masked = descriptor.purpose == "Inpainting"
        self.in_channels, self.scale = descriptor.input_channels + self.masked, descriptor.scale
        self.network: nn.Module = descriptor.model.requires_grad_(False)
        self._descriptor = descriptor  # calls the same module, wherever Lightning moves it

    def forward(self, x: Tensor) -> Tensor:
        """Maps N×C×H×W of any size from 1×1, nominally in [0, 1], to N×C'×(scale·H)×(scale·W) in [0, 1].

        Under autocast the network still computes in the type of its weights: many a last layer gives the picture
        itself, and in bfloat16 that has 128 levels between one half and one.
        """
        # One at a time, as descriptors are made for: some join the image with planes of their own, such as DRUNet's.
        x = x.to(self._descriptor.dtype)
        images = [x[i : i + 1] for i in range(len(x))]
        device = x.device.type
        # Asked first, for devices without autocast (torch's "meta") know no such context either.
        if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
            with torch.autocast(device, enabled=False):
                return torch.cat([self._call(image) for image in images])
        return torch.cat([self._call(image) for image in images])

    def _call(self, image: Tensor) -> Tensor:
        parts = (image[:, :-1], image[:, -1:]) if self.masked else (image,)
        output: Tensor = self._descriptor(*parts)
        return output
