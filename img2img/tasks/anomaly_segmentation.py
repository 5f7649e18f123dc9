"""Anomaly segmentation: a network undoes synthetic anomalies and says where they are; real ones then show too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

import cv2
import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_warn
from numpy.typing import NDArray
from torch import Tensor, nn
from torchmetrics.functional.classification import binary_auroc, binary_average_precision

from img2img.errors import UserError
from img2img.networks import RestorationUNet
from img2img.tasks.appearance import Appearance
from img2img.tasks.base import Batch
from img2img.tasks.checkpoint import CHECKPOINT_KEY
from img2img.tasks.losses import FocalDice
from img2img.tasks.metrics import MaskPrecision, Metric
from img2img.tasks.restoration import Restoration
from img2img.tasks.thresholds import Scored, Thresholds
from img2img.tiling.planner import ENOUGH, Planner
from img2img.tiling.stitch import restore_in_tiles

_APPEARANCE = "appearance"  # its key in a checkpoint's statistics
SCORES = ("mask_max", "mask_top", "error_max")
"""Names of the scores; see `AnomalySegmentation`."""
MIRRORED = ((), (-1,), (-2,), (-2, -1))
"""The axes that are flipped for the four mirror images; the first one is the image itself."""


class AnomalySegmentation(Restoration):
    """Trains a network to undo anomalies and to segment them, and scores how abnormal images of any size are.

    The data's corruption puts synthetic anomalies into normal images, and marks them in the mask. Two outputs of one
    network learn from it: the restored image, and the logit of each pixel's probability to be abnormal. After DRAEM
    (Zavrtanik et al., ICCV 2021), which takes two networks in a row, and NSA (Schlüter et al., ECCV 2022), which takes
    only the mask.

    The network gives three scores: `mask_max`, the largest mean probability over a window; `mask_top`, the mean of the
    highest probabilities; `error_max`, the largest mean squared error of the restored image over the same window. They
    are never computed in mixed precision.

    Beside what `Restoration` logs, it logs how well the recommended score tells synthetic anomalies from the same
    images without them (`val/auroc`, and the average precision `val/ap`), its means over both (`val/<score>` and
    `val/<score>_clean`), and the average precision over pixels, `val/pixel_ap`; likewise `test/…`.

    Args:
        network: Any module that maps N×C×H×W to N×(C+1)×H×W; None for a small `RestorationUNet` of 3 and 4 channels
            with biases: without them, the logit would change with brightness.
        loss: Loss of the restored image; None for `Charbonnier()`.
        mask_loss: Any module that maps (logits, mask) to a scalar, both N×1×H×W, the mask in [0, 1]; None for
            `FocalDice()`. `BCEWithLogitsLoss` suits masks that say how far a pixel is replaced, as NSA's do.
        mask_weight: Factor on the mask's loss.
        metrics: As in `Restoration`; None for `MaskPrecision`.
        gain: Factor on the contrast of what the network gets. Surfaces of parts have little contrast, and with 1 its
            first layers learn slowly; the restored image is scaled back.
        level: Brightness that the network gets as 0.
        recommended: The score that decides which images are abnormal; together with their appearance, see
            `img2img.anomaly.segmentation`.
        window: Side of the windows of `mask_max` and `error_max`, in pixels.
        top: Fraction of the pixels that `mask_top` averages.
        mirrored: Whether images are scored in all four mirror images, and what is not seen in each does not count: the
            lowest probability and error of each pixel. It detects better, and takes three to four times as long.
        kwargs: Arguments of every `Task`.

    Attributes:
        thresholds: Thresholds between normal and abnormal images; empty before calibration.
        appearance: What calibration finds of normal images as a whole; None before.

    Raises:
        UserError: If there is no such score, or `gain`, `window` or `top` is out of range.
    """

    image_size = None
    """Images keep their own sizes; see `img2img.anomaly.scorable.Scorable`."""

    def __init__(
        self,
        network: nn.Module | None = None,
        loss: nn.Module | None = None,
        mask_loss: nn.Module | None = None,
        mask_weight: float = 1.0,
        metrics: list[Metric] | None = None,
        gain: float = 6.0,
        level: float = 0.3,
        recommended: str = "mask_top",
        window: int = 21,
        top: float = 0.003,
        mirrored: bool = False,
        **kwargs: Any,
    ) -> None:
        if recommended not in SCORES:
            raise UserError(f"recommended: {recommended} is not a score; there are {', '.join(SCORES)}")
        if gain <= 0:
            raise UserError(f"gain must be above 0, not {gain}; 1 leaves the contrast as it is")
        if window < 1 or window % 2 == 0 or not 0 < top <= 1:
            raise UserError(f"window must be odd and top in (0, 1], such as 21 and 0.003, not {window} and {top}")
        network = RestorationUNet(3, 4, (24, 48, 96), bias=True) if network is None else network
        metrics = [MaskPrecision()] if metrics is None else metrics
        super().__init__(network, loss, metrics, hole_loss=False, **kwargs)
        self.mask_loss = FocalDice() if mask_loss is None else mask_loss
        self.gain, self.level = gain, level
        self.mask_weight, self.recommended, self.window, self.top = mask_weight, recommended, window, top
        self.mirrored = mirrored
        self.thresholds = Thresholds()
        self.appearance: Appearance | None = None

    # Training and validation -------------------------------------------------------------------------------------

    def forward_batch(self, batch: Batch) -> Tensor:
        """Returns the restored image and the logit, N×(C+1)×H×W, not clamped.

        Raises:
            UserError: If the network's output does not have one channel more than its input.
        """
        image = batch["input"]
        seen = (image - self.level) * self.gain
        raw: Tensor = self.network(seen.contiguous(memory_format=torch.channels_last))
        if raw.shape[1] != image.shape[1] + 1:
            raise UserError(
                f"AnomalySegmentation needs a network with {image.shape[1] + 1} output channels, for image and mask, "
                f"not {raw.shape[1]}: set network.init_args.out_channels to {image.shape[1] + 1}"
            )
        return torch.cat([raw[:, :-1] / self.gain + self.level, raw[:, -1:]], 1)

    def loss_of(self, raw: Tensor, batch: Batch) -> Tensor:
        """Returns the loss of the image plus the weighted one of the mask."""
        of_image: Tensor = self.loss(raw[:, :-1], batch["target"])
        of_mask: Tensor = self.mask_loss(raw[:, -1:], batch["mask"])
        return of_image + self.mask_weight * of_mask

    def finish(self, raw: Tensor, batch: Batch) -> Tensor:
        """Returns the restored image, N×C×H×W in [0, 1]."""
        return raw[:, :-1].float().clamp(0, 1)

    def mask_of(self, raw: Tensor) -> Tensor:
        """Returns the probability of each pixel to be abnormal, N×1×H×W."""
        return raw[:, -1:].float().sigmoid()

    def measure(self, item: Batch, raw: Tensor, output: Tensor) -> dict[str, float]:
        """Adds the recommended score, for an image with an anomaly."""
        values = super().measure(item, raw, output)
        if item["mask"].any():
            error = (item["input"] - output.float()).square().mean(1)
            values[self.recommended] = float(self._scores_of(self.mask_of(raw)[:, 0], error)[self.recommended])
        return values

    def measure_batch(self, batch: Batch) -> list[dict[str, float]]:
        """Adds the recommended score of the same images without anomalies, also as they are, not mirrored."""
        probability, error = self._seen(batch["target"].float(), MIRRORED[:1])
        found = self._scores_of(probability, error)[self.recommended]
        return [{f"{self.recommended}_clean": value} for value in found.tolist()]

    def measure_all(self, values: Sequence[Mapping[str, float]]) -> dict[str, float]:
        """Adds how well the recommended score tells images with anomalies from those without."""
        clean = [each[f"{self.recommended}_clean"] for each in values]
        abnormal = [each[self.recommended] for each in values if self.recommended in each]
        if not abnormal:
            return {}
        scores = torch.tensor([*clean, *abnormal], dtype=torch.float64)
        scores /= scores.max().clamp_min(1)  # torchmetrics takes larger numbers for logits, and rounds their sigmoid
        truth = torch.tensor([0] * len(clean) + [1] * len(abnormal))
        return {"auroc": float(binary_auroc(scores, truth)), "ap": float(binary_average_precision(scores, truth))}

    def _check(self, batch: Batch) -> None:
        super()._check(batch)
        if not batch["mask"].any():
            rank_zero_warn("no anomaly is marked in the first batch: does the corruption set the mask (fill_mask: 1)?")

    # Restoring and scoring ---------------------------------------------------------------------------------------

    def forward(self, image: Tensor) -> Tensor:
        """Returns images without their anomalies: N×C×H×W float32, nominally in [0, 1], to the same in [0, 1]."""
        return self.segment(image)[0]

    def segment(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the restored images, N×C×H×W, and the probability of each pixel to be abnormal, N×1×H×W.

        The images are float32 in [0, 1], of any size from 1×1 that fits the memory, with the network's channels.
        """
        raw = self.forward_batch({"input": image})
        return self.finish(raw, {}), self.mask_of(raw)

    def score_batch(self, batch: Batch) -> Scored:
        """Returns the scores of a batch's `image`, N×C×H×W of any size, and as map the probabilities.

        Large images go through the network in tiles.
        """
        probability, error = self._seen(batch["image"], MIRRORED if self.mirrored else MIRRORED[:1])
        marks = _mean_about(probability, self.window // 2 | 1)
        return Scored(self._scores_of(probability, error), {"": probability}, marks=marks)

    @torch.no_grad()
    def _seen(self, image: Tensor, views: Sequence[tuple[int, ...]]) -> tuple[Tensor, Tensor]:
        """Returns the lowest probability and squared error of each pixel, N×H×W, over images flipped along axes."""
        tiling = Planner(self, image.device, ENOUGH)(*image.shape[-2:])

        def of_view(axes: tuple[int, ...]) -> Tensor:
            found = [restore_in_tiles(_Segmented(self), each[None], None, tiling) for each in image.flip(axes)]
            return torch.cat(found).flip(axes)

        with torch.autocast(image.device.type, enabled=False):
            probability, error = reduce(torch.minimum, map(of_view, views)).unbind(1)
        return probability, error

    def _scores_of(self, probability: Tensor, error: Tensor) -> dict[str, Tensor]:
        """Returns the scores, N each, given probabilities and squared errors N×H×W."""
        pixels = probability.flatten(1)
        top = pixels.topk(max(1, round(self.top * pixels.shape[1])), 1).values.mean(1)
        highest = [_mean_about(values, self.window).flatten(1).amax(1) for values in (probability, error)]
        return dict(zip(SCORES, (highest[0], top, highest[1]), strict=True))

    # Checkpoints -------------------------------------------------------------------------------------------------

    def on_fit_start(self) -> None:
        """Forgets the thresholds and the appearance, for the weights change now."""
        super().on_fit_start()
        self.thresholds, self.appearance = Thresholds(), None

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the thresholds and the appearance beside the recipe."""
        super().on_save_checkpoint(checkpoint)
        known = {} if self.appearance is None else {_APPEARANCE: self.appearance.plain()}
        checkpoint[CHECKPOINT_KEY]["statistics"] = self.thresholds.plain() | known

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restores the thresholds and the appearance."""
        super().on_load_checkpoint(checkpoint)
        statistics = dict((checkpoint.get(CHECKPOINT_KEY) or {}).get("statistics") or {})
        appearance = statistics.pop(_APPEARANCE, None)
        self.appearance = None if appearance is None else Appearance.from_plain(appearance)
        self.thresholds = Thresholds.from_plain(statistics)


class _Segmented:
    """A task whose tiles become what scores need: the probability, and the squared error of the restored image."""

    scale = 1

    def __init__(self, task: AnomalySegmentation) -> None:
        self.task, self.receptive_field, self.bytes_per_pixel = task, task.receptive_field, task.bytes_per_pixel

    def restore_tile(
        self, image: Tensor, mask: Tensor | None = None, self_ensemble: bool = False, uncertainty: bool = False
    ) -> Tensor:
        """Returns both for images N×C×H×W, N×2×H×W; the other arguments are not used."""
        restored, probability = self.task.segment(image)
        return torch.cat([probability, (image - restored).square().mean(1, keepdim=True)], 1)


def _mean_about(values: Tensor, window: int) -> Tensor:
    """Returns the mean over a window about each pixel of N×H×W; at borders, over its part within the image."""
    sums = [_summed(image, window) for image in values.float().cpu().numpy()]
    counts = _summed(np.ones(values.shape[1:], np.float32), window)
    return torch.from_numpy(np.stack(sums) / counts).to(values.device)


def _summed(image: NDArray[np.float32], window: int) -> NDArray[np.float32]:
    # OpenCV's takes the same time for any window, a fifteenth of PyTorch's average pooling at 21 pixels.
    found = cv2.boxFilter(image, -1, (window, window), normalize=False, borderType=cv2.BORDER_CONSTANT)
    return np.asarray(found, dtype=np.float32)
