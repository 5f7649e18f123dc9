"""The colourisation task: gray in, colour out, with the luma kept exactly."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from img2img.errors import UserError
from img2img.networks import RestorationUNet
from img2img.tasks.base import Batch
from img2img.tasks.colour import chroma, luma, with_chroma
from img2img.tasks.losses import ChromaLoss
from img2img.tasks.metrics import ChromaPSNR, Colorfulness, DeltaE2000, Metric
from img2img.tasks.restoration import Restoration


class Colorization(Restoration):
    """Trains a network to colourise gray images.

    The network sees the luma, Rec. 601 Y' of the stored values, and predicts the chroma, Cb and Cr. The output has
    exactly the luma of the input, up to the rounding of a lossless file; chroma that would leave the gamut is shrunk.

    Args:
        network: Any module that maps N×1×H×W to N×2×H×W, or to as many channels as the loss needs; None for a
            `RestorationUNet` with a large receptive field, at a quarter of the size.
        loss: Any module that compares chroma with chroma, N×2×H×W, such as `torch.nn.L1Loss`, or one that needs more
            output channels (`ChromaClasses`); None for `ChromaLoss()`.
        metrics: As in `Restoration`; None for `DeltaE2000`, `ChromaPSNR` and `Colorfulness`.
        kwargs: Arguments of every `Task`.
    """

    def __init__(
        self,
        network: nn.Module | None = None,
        loss: nn.Module | None = None,
        metrics: list[Metric] | None = None,
        **kwargs: Any,
    ) -> None:
        if network is None:
            network = RestorationUNet(1, 2, (64, 128, 256, 384), shuffle=4, bias=True, residual=False)
        metrics = [DeltaE2000(), ChromaPSNR(), Colorfulness()] if metrics is None else metrics
        super().__init__(network, ChromaLoss() if loss is None else loss, metrics, hole_loss=False, **kwargs)

    def forward_batch(self, batch: Batch) -> Tensor:
        """Returns the network's prediction of the chroma."""
        gray = to_gray(batch["input"]).contiguous(memory_format=torch.channels_last)
        raw: Tensor = self.network(gray)
        wanted = getattr(self.loss, "channels", 2)
        if raw.shape[1] != wanted:
            raise UserError(
                f"{type(self.loss).__name__} needs a network with {wanted} output channels, not {raw.shape[1]}: "
                f"set network.init_args.out_channels to {wanted}"
            )
        return raw

    def channels_given(self, batch: Batch) -> int:
        """Returns 1: the luma."""
        return 1

    def loss_of(self, raw: Tensor, batch: Batch) -> Tensor:
        """Returns the loss of the chroma.

        Raises:
            UserError: If the targets are gray.
        """
        if batch["target"].shape[1] != 3:
            raise UserError("Colorization learns from colour images: leave data.channels at 3")
        loss: Tensor = self.loss(raw, chroma(batch["target"]))
        return loss

    def finish(self, raw: Tensor, batch: Batch) -> Tensor:
        """Returns the input with the predicted chroma, N×3×H×W."""
        decode = getattr(self.loss, "decode", None)
        colour = raw.float() if decode is None else decode(raw.float())
        return with_chroma(to_gray(batch["input"]).clamp(0, 1), colour)

    def forward(self, image: Tensor) -> Tensor:
        """Colourises images N×C×H×W in [0, 1], C = 1 or 3, of any size from 1×1; returns N×3×H×W with their luma."""
        batch = {"input": image}
        return self.finish(self.forward_batch(batch), batch)

    def restore_once(self, image: Tensor, mask: Tensor | None = None, uncertainty: bool = False) -> Tensor:
        """Colourises gray images and recolours RGB images."""
        return self.forward(image)


def to_gray(image: Tensor) -> Tensor:
    """Returns N×1×H×W: gray images as they are, the luma of RGB images."""
    return image if image.shape[1] == 1 else luma(image)
