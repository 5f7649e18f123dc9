"""Restoration: the network sees the corrupted input, the loss compares its output with the clean target."""

from __future__ import annotations

from typing import Any

from torch import nn

from img2img.networks import RestorationUNet
from img2img.tasks.losses import Charbonnier
from img2img.tasks.metrics import Metric
from img2img.tasks.paired import PairedTask
from img2img.tasks.restorer import Restorer


class Restoration(PairedTask, Restorer):
    """Trains a network to undo the corruption of its input; see `PairedTask` for what is measured.

    Args:
        network: Any module that maps N×C×H×W to the same shape; None for `RestorationUNet()`.
        loss: Any module that maps (output, target) to a scalar; None for `Charbonnier()`.
        metrics: What is measured beside PSNR and SSIM. The first, if any, stands in captions and in the last line.
        hole_loss: Takes the loss over the masked pixels alone. With `BlindSpots` as the corruption of noisy images this
            is Noise2Void (Krull et al., CVPR 2019), whose loss is `MSELoss`. It must compare pixel by pixel.
        kwargs: What every `Task` takes: lr, betas, weight_decay, warmup_steps, final_lr_share, weights, optimizer,
            decay_steps.
    """

    def __init__(
        self,
        network: nn.Module | None = None,
        loss: nn.Module | None = None,
        metrics: list[Metric] | None = None,
        hole_loss: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            RestorationUNet() if network is None else network,
            Charbonnier() if loss is None else loss,
            metrics,
            hole_loss,
            **kwargs,
        )
