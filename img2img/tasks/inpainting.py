"""The inpainting task: fills masked pixels and keeps all others unchanged."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from img2img.errors import UserError
from img2img.networks import InpaintingUNet
from img2img.tasks.base import Batch
from img2img.tasks.metrics import HolePSNR, Metric
from img2img.tasks.restoration import Restoration


class Inpainting(Restoration):
    """Trains a network to fill holes.

    The network gets the image, black in the hole, and the mask as one more channel (1 = hole). The loss covers only the
    hole; outside it the output is the unchanged input. Logs `val/psnr_hole` and `val/psnr_hole_input` too; the metrics
    of `Restoration` are of the whole image, `val/loss` is of the hole.

    Args:
        network: Any module that maps N×(C+1)×H×W to N×C×H×W; None for `InpaintingUNet()`.
        loss: As in `Restoration`; it must compare pixel by pixel, as L1 does.
        metrics: As in `Restoration`; None for `HolePSNR`.
        kwargs: Arguments of every `Task`.
    """

    needs_mask: bool = True

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
        """Channels of the images: the network's without the mask; 3 if these are neither 1 nor 3."""
        channels = self.network_inputs - 1
        return channels if channels in (1, 3) else 3

    def forward_batch(self, batch: Batch) -> Tensor:
        """Returns the network's output, inside and outside the hole."""
        image, mask = batch["input"], batch["mask"]
        seen = torch.cat([image.masked_fill(mask.bool(), 0), mask], dim=1)  # not times 0: holes may hold NaN
        raw: Tensor = self.network(seen.contiguous(memory_format=torch.channels_last))
        return raw

    def channels_given(self, batch: Batch) -> int:
        """Returns the image's channels plus one for the mask."""
        return super().channels_given(batch) + 1

    def finish(self, raw: Tensor, batch: Batch) -> Tensor:
        """Returns the input with its holes filled."""
        return torch.where(batch["mask"].bool(), raw.to(batch["input"].dtype).clamp(0, 1), batch["input"])

    def forward(self, image: Tensor, mask: Tensor | None = None) -> Tensor:
        """Fills the holes of an image.

        Args:
            image: N×C×H×W float32 in [0, 1], of any size from 1×1; the values in the hole do not matter.
            mask: N×1×H×W, 1 in the hole.

        Returns:
            N×C×H×W; outside the hole bit-identical to the image.

        Raises:
            UserError: If there is no mask.
        """
        if mask is None:
            raise UserError("this model fills holes and needs to know where they are: give a mask, 1 in the hole")
        batch = {"input": image, "mask": mask}
        return self.finish(self.forward_batch(batch), batch)

    def restore_tile(
        self, image: Tensor, mask: Tensor | None = None, self_ensemble: bool = False, uncertainty: bool = False
    ) -> Tensor:
        """Fills the holes of gray or RGB images with a network for either, see `Restoration.restore_tile`."""
        filled = super().restore_tile(image, mask, self_ensemble, uncertainty)
        # Again: the luma of equal channels and a mean of eight equal the image only up to float rounding.
        return filled if mask is None else torch.where(mask.bool(), filled, image)
