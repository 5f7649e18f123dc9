"""Inpainting: what a mask says is missing is drawn anew, what is there stays."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from img2img.errors import UserError
from img2img.networks import InpaintingUNet
from img2img.tasks.base import Batch
from img2img.tasks.metrics import HolePSNR, Metric
from img2img.tasks.restoration import Restoration


class Inpainting(Restoration):
    """Trains a network to fill holes.

    The network sees the image, black in the hole, with the mask as one more channel (1 = hole); the loss looks at the
    hole; the output is the input outside the hole, unchanged. Logged beside what `Restoration` logs, which is of the
    whole image: `val/psnr_hole` and `val/psnr_hole_input`, of the hole alone; `val/loss` is of the hole.

    Args:
        network: Any module that maps N×(C+1)×H×W to N×C×H×W; None for `InpaintingUNet()`.
        loss: As in `Restoration`; it must compare pixel by pixel, as L1 does.
        metrics: As in `Restoration`; None for `HolePSNR`.
        kwargs: What every `Task` takes.
    """

    needs_mask: ClassVar[bool] = True

    def __init__(
        self,
        network: nn.Module | None = None,
        loss: nn.Module | None = None,
        metrics: list[Metric] | None = None,
        **kwargs: Any,
    ) -> None:
        network = InpaintingUNet() if network is None else network
        super().__init__(network, loss, [HolePSNR()] if metrics is None else metrics, hole_loss=True, **kwargs)

    @property
    def in_channels(self) -> int:
        """Channels of the images: the network's, less the mask; 3 where nothing tells."""
        channels = (self.network_channels or self._first_channels) - 1
        return channels if channels in (1, 3) else 3

    def predict(self, batch: Batch) -> Tensor:
        """Returns the network's picture of everything."""
        image, mask = batch["input"], batch["mask"]
        seen = torch.cat([image.masked_fill(mask.bool(), 0), mask], dim=1)  # not times 0: holes may hold NaN
        raw: Tensor = self.network(seen.contiguous(memory_format=torch.channels_last))
        return raw

    def channels_given(self, batch: Batch) -> int:
        """Returns the image's channels, and one for the mask."""
        return super().channels_given(batch) + 1

    def finish(self, raw: Tensor, batch: Batch) -> Tensor:
        """Returns the input, filled."""
        return torch.where(batch["mask"].bool(), raw.to(batch["input"].dtype).clamp(0, 1), batch["input"])

    def forward(self, image: Tensor, mask: Tensor | None = None) -> Tensor:
        """Fills the holes of an image.

        Args:
            image: N×C×H×W float32 in [0, 1], of any size from 1×1; what stands in the hole does not matter.
            mask: N×1×H×W, 1 in the hole.

        Returns:
            N×C×H×W; outside the hole the image to the bit.

        Raises:
            UserError: If there is no mask.
        """
        if mask is None:
            raise UserError("this model fills holes and has to be told where they are: give a mask, 1 in the hole")
        batch = {"input": image, "mask": mask}
        return self.finish(self.predict(batch), batch)

    def restore_tile(self, image: Tensor, mask: Tensor | None = None) -> Tensor:
        """Fills the holes of gray or RGB images with a network for either, see `Restoration.restore_tile`."""
        filled = super().restore_tile(image, mask)
        # Once more, for what comes back as luma, or as a mean, is the same only up to float rounding.
        return filled if mask is None else torch.where(mask.bool(), filled, image)
