"""Restoration that says how sure it is: an image, and for each of its values the σ of its error."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from img2img.errors import UserError
from img2img.networks import RestorationUNet
from img2img.tasks.base import Batch
from img2img.tasks.metrics import Metric
from img2img.tasks.restoration import Restoration

LOG_SIGMA = (-6.0, 0.0)
"""Between these log σ stays: σ from 0.63 levels of 255 to the whole range."""


class GaussianNLL(nn.Module):
    """Negative log-likelihood of a Gaussian in nats per value, of which σ teaches the network less than the image does.

    Kendall & Gal, "What uncertainties do we need in Bayesian deep learning for computer vision?", NeurIPS 2017, eq. 5.
    As it stands it trains the image badly: σ is wrong in the same direction everywhere, the image in all directions, so
    that the gradient of the layers that both share is mostly σ's. Scaled down it leaves them to the image; weights that
    belong to σ alone learn no slower, for AdamW scales each gradient by its own size. In short trials a tenth was as
    good for the image as plain squared errors; the weights of Seitzer et al. (β-NLL, ICLR 2022) were no cure.

    Args:
        share: What is left of the gradient of log σ, in (0, 1].

    Raises:
        ValueError: If it is not.
    """

    def __init__(self, share: float = 0.1) -> None:
        super().__init__()
        if not 0 < share <= 1:
            raise ValueError(f"sigma_share must lie in (0, 1], 0.1 being usual, not {share}")
        self.share = share

    def forward(self, raw: Tensor, target: Tensor) -> Tensor:
        """Returns the scalar loss of what `split` takes, N×2C×H×W, and a target N×C×H×W."""
        mean, log_sigma = split(raw)
        fixed = log_sigma.detach()
        log_sigma = fixed + self.share * (log_sigma - fixed)  # of the same value
        error = (target - mean) * (-log_sigma).exp()
        return (0.5 * error.square() + log_sigma).mean() + 0.5 * math.log(2 * math.pi)


class UncertainRestoration(Restoration):
    """Trains a network to restore, and to say for each value how large its error is likely to be.

    Its loss is always `GaussianNLL`: `loss` is no argument of it. Beside what `Restoration` logs stands how well σ is
    calibrated, on the output before it is rounded: `val/within_1_sigma` and `val/within_2_sigma`, the shares of values
    that are off by no more (0.683 and 0.954 where errors are Gaussian and σ is right), and `val/sigma`, the mean σ in
    units of the pixel range; `val/loss` is least where image and σ are both right. `test/…` alike.

    Args:
        network: Any module that maps N×C×H×W to N×2C×H×W, the image and what `split` makes log σ of; None for a
            `RestorationUNet` of 3 and 6 channels with biases: without, twice the brightness would be another log σ.
        metrics: As in `Restoration`.
        sigma_share: How much σ teaches the network beside the image, see `GaussianNLL`.
        kwargs: What every `Task` takes.
    """

    estimates_sigma: ClassVar[bool] = True

    def __init__(
        self,
        network: nn.Module | None = None,
        metrics: list[Metric] | None = None,
        sigma_share: float = 0.1,
        **kwargs: Any,
    ) -> None:
        network = RestorationUNet(3, 6, bias=True) if network is None else network
        super().__init__(network, loss=GaussianNLL(sigma_share), metrics=metrics, hole_loss=False, **kwargs)

    def predict(self, batch: Batch) -> Tensor:
        """Returns image and log σ as `split` takes them.

        Raises:
            UserError: If the network gives another number of channels.
        """
        image = batch["input"].contiguous(memory_format=torch.channels_last)
        raw: Tensor = self.network(image)
        if raw.shape[1] != 2 * image.shape[1]:
            raise UserError(
                f"UncertainRestoration needs a network with {2 * image.shape[1]} channels out, for image and σ, not "
                f"{raw.shape[1]}: set network.init_args.out_channels to {2 * image.shape[1]}"
            )
        return raw

    def finish(self, raw: Tensor, batch: Batch) -> Tensor:
        """Returns the image, N×C×H×W in [0, 1]."""
        return split(raw)[0].clamp(0, 1)

    def measure(self, item: Batch, raw: Tensor, output: Tensor) -> dict[str, float]:
        """Adds the calibration to what `Restoration` measures."""
        shares = calibration(output.float() - item["target"], split(raw)[1].exp())
        return super().measure(item, raw, output) | shares

    def forward(self, image: Tensor) -> Tensor:
        """Restores an image, N×C×H×W float32 nominally in [0, 1], to the same shape in [0, 1]."""
        return self.estimate(image)[0]

    def estimate(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Restores an image and says how sure that is.

        Args:
            image: N×C×H×W float32, nominally in [0, 1], of any size from 1×1, with the network's number of channels.

        Returns:
            The restored image, N×C×H×W in [0, 1], and σ of its error, alike, in (0, 1).
        """
        mean, log_sigma = split(self.predict({"input": image}))
        return mean.clamp(0, 1), log_sigma.exp()

    def restore_once(self, image: Tensor, mask: Tensor | None = None) -> Tensor:
        """Restores gray or RGB images with a network for either; σ is the last channel where `uncertainty` is set.

        That is the mean over the image's channels. A gray image through a colour network gets the luma of the three σ:
        the most that the σ of their luma can be, and what it is where their errors go together. Of a self-ensemble
        it is the mean of eight: the error of the mean image is rather less.

        Args:
            image: As in `restore_tile`.
            mask: Is not looked at.

        Returns:
            As `restore_tile`.
        """
        if not self.uncertainty:
            return super().restore_once(image, mask)
        restored, sigma = self.adapt(lambda seen: torch.cat(self.estimate(seen)), image).chunk(2)
        return torch.cat([restored, sigma.mean(1, keepdim=True)], dim=1)


def split(raw: Tensor) -> tuple[Tensor, Tensor]:
    """Returns an image, not clamped, and its log σ within `LOG_SIGMA`, of a network's N×2C×H×W; float32.

    A σ out of bounds would make one pixel's loss the whole batch's. The bounds are soft, for there would be no way
    back from hard ones; in the middle, at σ = 0.05, where new networks begin, log σ is what the network says less 3.
    """
    image, free = raw.float().chunk(2, 1)
    low, high = LOG_SIGMA
    middle, room = (low + high) / 2, (high - low) / 2
    return image, middle + room * torch.tanh(free / room)


def calibration(error: Tensor, sigma: Tensor) -> dict[str, float]:
    """Returns the shares of errors within 1 and 2 of their σ, and the mean σ; both tensors have the same shape.

    Restored photographs have many small errors and few large ones, more of both than a Gaussian of the same σ.
    """
    return {
        **{f"within_{k}_sigma": float((error.abs() <= k * sigma).float().mean()) for k in (1, 2)},
        "sigma": float(sigma.mean()),
    }
