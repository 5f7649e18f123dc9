"""Restoration with uncertainty: an image, and for each of its values the σ of its error."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from img2img.errors import UserError
from img2img.networks import RestorationUNet
from img2img.tasks.base import Batch
from img2img.tasks.metrics import Metric
from img2img.tasks.restoration import Restoration, through_channels

LOG_SIGMA = (-6.0, 0.0)
"""Bounds of log σ: σ from 0.63 levels of 255 to the whole range."""


class GaussianNLL(nn.Module):
    """Gaussian negative log-likelihood in nats per value, with the gradient of log σ scaled down.

    Kendall & Gal, "What uncertainties do we need in Bayesian deep learning for computer vision?", NeurIPS 2017, eq. 5.
    Unscaled, it trains the image badly: σ is wrong in the same direction everywhere, the image in all directions, so σ
    dominates the gradient of the layers that both share. Scaling down leaves these layers to the image; weights of σ
    alone learn no slower, because AdamW divides each gradient by its own size. In short trials a tenth was as good for
    the image as plain squared errors; the weights of Seitzer et al. (β-NLL, ICLR 2022) did not help.

    Args:
        share: Factor on the gradient of log σ, in (0, 1].

    Raises:
        ValueError: If `share` is not in (0, 1].
    """

    def __init__(self, share: float = 0.1) -> None:
        super().__init__()
        if not 0 < share <= 1:
            raise ValueError(f"sigma_share must lie in (0, 1], such as 0.1, not {share}")
        self.share = share

    def forward(self, raw: Tensor, target: Tensor) -> Tensor:
        """Returns the scalar loss of a network's output N×2C×H×W, see `split`, and a target N×C×H×W."""
        mean, log_sigma = split(raw)
        fixed = log_sigma.detach()
        log_sigma = fixed + self.share * (log_sigma - fixed)  # same value, smaller gradient
        error = (target - mean) * (-log_sigma).exp()
        return (0.5 * error.square() + log_sigma).mean() + 0.5 * math.log(2 * math.pi)


class UncertainRestoration(Restoration):
    """Trains a network to restore images and to estimate, for each value, the σ of its error.

    The loss is always `GaussianNLL`; there is no argument `loss`. Beside what `Restoration` logs, it logs how well σ is
    calibrated, on the output before rounding: `val/within_1_sigma` and `val/within_2_sigma`, the fractions of values
    with an error within 1 and 2 σ (0.683 and 0.954 if errors are Gaussian and σ is right), and `val/sigma`, the mean σ
    in units of the pixel range; likewise `test/…`. `val/loss` is lowest if image and σ are both right.

    Args:
        network: Any module that maps N×C×H×W to N×2C×H×W, which `split` turns into image and log σ; None for a
            `RestorationUNet` of 3 and 6 channels with biases: without them, log σ would change with brightness.
        metrics: As in `Restoration`.
        sigma_share: Factor on the gradient of log σ, see `GaussianNLL`.
        kwargs: Arguments of every `Task`.
    """

    estimates_sigma: bool = True

    def __init__(
        self,
        network: nn.Module | None = None,
        metrics: list[Metric] | None = None,
        sigma_share: float = 0.1,
        **kwargs: Any,
    ) -> None:
        network = RestorationUNet(3, 6, bias=True) if network is None else network
        super().__init__(network, loss=GaussianNLL(sigma_share), metrics=metrics, hole_loss=False, **kwargs)

    def forward_batch(self, batch: Batch) -> Tensor:
        """Returns image and log σ as `split` takes them.

        Raises:
            UserError: If the network's output does not have twice the input's channels.
        """
        image = batch["input"].contiguous(memory_format=torch.channels_last)
        raw: Tensor = self.network(image)
        if raw.shape[1] != 2 * image.shape[1]:
            raise UserError(
                f"UncertainRestoration needs a network with {2 * image.shape[1]} output channels, for image and σ, "
                f"not {raw.shape[1]}: set network.init_args.out_channels to {2 * image.shape[1]}"
            )
        return raw

    def finish(self, raw: Tensor, batch: Batch) -> Tensor:
        """Returns the image, N×C×H×W in [0, 1]."""
        return split(raw)[0].clamp(0, 1)

    def sigma_of(self, raw: Tensor) -> Tensor:
        """Returns σ, N×C×H×W."""
        return split(raw)[1].exp()

    def measure(self, item: Batch, raw: Tensor, output: Tensor) -> dict[str, float]:
        """Adds the calibration of σ to what `Restoration` measures."""
        calibrated = calibration(output.float() - item["target"], self.sigma_of(raw))
        return super().measure(item, raw, output) | calibrated

    def forward(self, image: Tensor) -> Tensor:
        """Restores an image, N×C×H×W float32 nominally in [0, 1], to the same shape in [0, 1]."""
        return self.estimate(image)[0]

    def estimate(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the restored image, in [0, 1], and the σ of its error, in (0, 1), both N×C×H×W like the image.

        The image is float32, nominally in [0, 1], of any size from 1×1, with the network's number of channels.
        """
        mean, log_sigma = split(self.forward_batch({"input": image}))
        return mean.clamp(0, 1), log_sigma.exp()

    def restore_once(self, image: Tensor, mask: Tensor | None = None, uncertainty: bool = False) -> Tensor:
        """As in `Restoration`; with `uncertainty`, σ is one more channel: the mean over the image's channels.

        For a gray image, a colour network gives the luma of the three σ: an upper bound of the σ of their luma, reached
        if their errors are fully correlated. A self-ensemble returns the mean of eight σ; the error of its mean image
        is rather smaller.
        """
        if not uncertainty:
            return super().restore_once(image, mask)
        return estimated_through_channels(self.estimate, image, self.in_channels)


def estimated_through_channels(
    estimate: Callable[[Tensor], tuple[Tensor, Tensor]], image: Tensor, channels: int
) -> Tensor:
    """Returns restored images N×C×H×W with σ as one more channel, by an estimate for `channels` channels.

    See `through_channels`.
    """
    both = through_channels(lambda seen: torch.cat(estimate(seen)), image, None, channels)
    restored, sigma = both.chunk(2)
    return torch.cat([restored, sigma.mean(1, keepdim=True)], dim=1)


def split(raw: Tensor) -> tuple[Tensor, Tensor]:
    """Splits a network's N×2C×H×W into an image, not clamped, and its log σ within `LOG_SIGMA`; float32.

    Without bounds on σ, the loss of one pixel could dominate the batch. The bounds are soft, because hard ones have no
    gradient; in the middle, at σ = 0.05, where new networks start, log σ is the network's output minus 3.
    """
    image, free = raw.float().chunk(2, 1)
    low, high = LOG_SIGMA
    middle, room = (low + high) / 2, (high - low) / 2
    return image, middle + room * torch.tanh(free / room)


def calibration(error: Tensor, sigma: Tensor) -> dict[str, float]:
    """Returns the fractions of errors within 1 and 2 σ, and the mean σ; both tensors have the same shape.

    Restored photographs have many small errors and few large ones, more of both than a Gaussian of the same σ.
    """
    within = {f"within_{k}_sigma": float((error.abs() <= k * sigma).float().mean()) for k in (1, 2)}
    return within | {"sigma": float(sigma.mean())}
