"""Published networks, as the package `spandrel` loads them."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from spandrel import ModelDescriptor


class PublishedNetwork(nn.Module):
    """A published network, for restoring only: its weights are frozen.

    The descriptor pads images to sizes that the network accepts, and crops the output.

    Args:
        descriptor: What `spandrel.ModelLoader` returns: the network, and how to call it.

    Attributes:
        in_channels: Channels of the image, plus one for the mask if the network fills holes.
        scale: Output pixels per input pixel, on each axis.
        multiple: What sides are padded to multiples of.
    """

    def __init__(self, descriptor: ModelDescriptor) -> None:
        super().__init__()
        self.masked = descriptor.purpose == "Inpainting"
        self.in_channels, self.scale = descriptor.input_channels + self.masked, descriptor.scale
        self.multiple = descriptor.size_requirements.multiple_of
        self.network: nn.Module = descriptor.model.requires_grad_(False)
        self._descriptor = descriptor  # calls the same module, wherever Lightning moves it

    def forward(self, x: Tensor) -> Tensor:
        """Maps N×C×H×W of any size from 1×1, nominally in [0, 1], to N×C'×(scale·H)×(scale·W) in [0, 1].

        Under autocast the network still computes in the type of its weights: the last layer often outputs the image
        itself, and bfloat16 has only 128 levels between one half and one.
        """
        x, device = x.to(self._descriptor.dtype), x.device.type
        # Devices without autocast (torch's "meta") do not accept the context either.
        usable = torch.amp.is_autocast_available(device)
        with torch.autocast(device, enabled=False) if usable else nullcontext():
            # One image at a time, as descriptors expect: some add channels of their own, such as DRUNet's.
            return torch.cat([self._call(x[i : i + 1]) for i in range(len(x))])

    def _call(self, image: Tensor) -> Tensor:
        parts = (image[:, :-1], image[:, -1:]) if self.masked else (image,)
        output: Tensor = self._descriptor(*parts)
        return output
