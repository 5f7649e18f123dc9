"""Restoration: the network sees the corrupted input, the loss compares its output with the clean target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics.functional.image import structural_similarity_index_measure

from img2img.networks import RestorationUNet
from img2img.tasks.base import Task
from img2img.tasks.gather import gather
from img2img.tasks.losses import Charbonnier

_SSIM_WINDOW = 11
MAX_PSNR = 100.0  # dB


@dataclass(frozen=True)
class Score:
    """How one image came out; the unit that is gathered over ranks and averaged."""

    n: int
    corruption: str
    loss: float
    psnr_input: float
    psnr: float
    ssim: float | None  # None for images smaller than SSIM's window


class Restoration(Task):
    """Trains a network to undo the corruption of its input, and measures it by the protocol of the papers.

    Outputs (and, for comparison, inputs) are clamped to [0, 1] and rounded to 8 bits; PSNR and SSIM are taken per
    image over all channels, then averaged. Logged are `val/psnr/<corruption>` for each corruption of
    `data.evaluation`, `val/psnr`, their mean, `val/psnr_input`, the same of the unrestored input, `val/ssim` and
    `val/loss`; `test/…` alike.

    Args:
        network: Any module that maps N×C×H×W to the same shape; None for `RestorationUNet()`.
        loss: Any module that maps (output, target) to a scalar; None for `Charbonnier()`.
        kwargs: What every `Task` takes: lr, betas, weight_decay, warmup_steps, final_lr_share, weights.
    """

    def __init__(self, network: nn.Module | None = None, loss: nn.Module | None = None, **kwargs: Any) -> None:
        super().__init__(RestorationUNet() if network is None else network, **kwargs)
        self.loss = Charbonnier() if loss is None else loss
        self._scores: list[Score] = []

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Returns the loss of a batch."""
        loss: Tensor = self.loss(self.network(batch["input"]), batch["target"])
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Scores a batch and returns its output, N×C×H×W in [0, 1], for the callbacks that show it."""
        return self._evaluate(batch)

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Scores a batch and returns its output."""
        return self._evaluate(batch)

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor | None:
        """Returns the restored image, N×C×H×W in [0, 1], or None for padding and unreadable files."""
        return self.restore(batch["input"]) if "input" in batch else None

    def restore(self, image: Tensor) -> Tensor:
        """Restores gray or RGB images with a network for either.

        A colour network sees a gray image as equal channels, and the luma of its output is taken (Rec. 601); a gray
        network restores each channel of a colour image by itself.

        Args:
            image: N×C×H×W float32 in [0, 1], C = 1 or 3.

        Returns:
            The same shape, in [0, 1].
        """
        channels, wanted = image.shape[1], self.in_channels
        if channels == wanted:
            restored: Tensor = self(image)
            return restored
        if channels == 1:
            luma = image.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
            gray: Tensor = (self(image.expand(-1, wanted, -1, -1)) * luma).sum(1, keepdim=True)
            return gray
        restored = self(image.flatten(0, 1)[:, None])
        return restored.view_as(image)

    def on_validation_epoch_end(self) -> None:
        """Logs the means over all ranks' images."""
        self._log_scores("val")

    def on_test_epoch_end(self) -> None:
        """Logs the means over all ranks' images."""
        self._log_scores("test")

    def _evaluate(self, batch: dict[str, Any]) -> Tensor:
        output: Tensor = self(batch["input"])
        with torch.autocast(output.device.type, enabled=False):  # SSIM in bfloat16 would be noise
            for i in range(len(output)):
                if batch["counted"][i]:
                    self._scores.append(self._score(batch, output, i))
        return output

    def _score(self, batch: dict[str, Any], output: Tensor, i: int) -> Score:
        restored, target, seen = (image[i : i + 1].float() for image in (output, batch["target"], batch["input"]))
        rounded = as_8_bit(restored)
        ssim: float | None = None
        if min(target.shape[-2:]) >= _SSIM_WINDOW:
            ssim = float(structural_similarity_index_measure(rounded, target, data_range=1.0))  # type: ignore[arg-type]
        return Score(
            n=int(batch["n"][i]),
            corruption=batch["corruption"][i],
            loss=float(self.loss(restored, target)),
            psnr_input=psnr(as_8_bit(seen), target),
            psnr=psnr(rounded, target),
            ssim=ssim,
        )

    def _log_scores(self, stage: str) -> None:
        # Sorted, so that the sums do not depend on how many ranks shared the images.
        scores = sorted(gather(self._scores), key=lambda score: score.n)
        self._scores.clear()
        by_corruption: dict[str, list[Score]] = {}
        for score in scores:
            by_corruption.setdefault(score.corruption, []).append(score)
        for metric in ("psnr", "psnr_input", "ssim", "loss"):
            means = {}
            for corruption, group in by_corruption.items():
                values = [value for score in group if (value := getattr(score, metric)) is not None]
                if values:
                    means[corruption] = sum(values) / len(values)
            if len(means) > 1 and metric != "loss":
                for corruption, mean in means.items():
                    self.log(f"{stage}/{metric}/{corruption}", mean, sync_dist=True)
            if means:
                overall = sum(means.values()) / len(means)
                self.log(f"{stage}/{metric}", overall, prog_bar=metric == "psnr", sync_dist=True)


def as_8_bit(image: Tensor) -> Tensor:
    """Clamps to [0, 1] and rounds to the 256 levels of an 8-bit file."""
    return (image.clamp(0, 1) * 255).round() / 255


def psnr(image: Tensor, target: Tensor) -> float:
    """Returns the peak signal-to-noise ratio in dB of images in [0, 1], over all pixels and channels.

    At most 100 dB, which equal images get: one infinite value would make every mean infinite.
    """
    error = torch.mean((image - target).float() ** 2)
    return min(MAX_PSNR, float(-10 * torch.log10(error)))
