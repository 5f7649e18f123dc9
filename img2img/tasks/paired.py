"""The base class of tasks trained on (input, target) pairs: loss, metrics, and their means over all ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn

from img2img.errors import UserError
from img2img.tasks.base import Batch, Task
from img2img.tasks.colour import luma
from img2img.tasks.gather import gather
from img2img.tasks.metrics import PSNR, SSIM, Images, Metric, as_8_bit


@dataclass(frozen=True)
class Score:
    """The metrics of one image, which are gathered over ranks and averaged."""

    n: int
    corruption: str
    values: dict[str, float]


class Evaluated(TypedDict):
    """Result of a validation or test step.

    It holds the output, N×C×H×W in [0, 1], a caption for each image, and what `sigma_of` and `mask_of` return.
    """

    output: Tensor
    captions: list[str]
    sigma: Tensor | None
    mask: Tensor | None


class PairedTask(Task):
    """Trains a network on (input, target) pairs, and measures it by the protocol that papers use.

    Outputs (and, for comparison, inputs) are clamped to [0, 1] and rounded to 8 bits; metrics are computed per image,
    then averaged. Logs `val/psnr/<corruption>` for each corruption of `data.evaluation`, their mean `val/psnr`, the
    same of the input as `val/psnr_input`, `val/ssim`, `val/loss`, and what `metrics` adds; likewise `test/…`.

    Args:
        network: Any module that maps N×C×H×W to the same shape.
        loss: Any module that maps (output, target) to a scalar.
        metrics: Metrics beside PSNR and SSIM. The first, if any, is shown in captions and in the last line.
        hole_loss: Computes the loss over the masked pixels only.
        kwargs: Arguments of every `Task`.
    """

    def __init__(
        self,
        network: nn.Module,
        loss: nn.Module,
        metrics: list[Metric] | None = None,
        hole_loss: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(network, **kwargs)
        self.loss = loss
        self.metrics = nn.ModuleList([*(metrics or []), PSNR(), SSIM()])
        self.hole_loss = hole_loss
        self._scores: list[Score] = []

    @property
    def headline(self) -> Metric:
        """The metric shown in captions, progress bar and last line."""
        first = self.metrics[0]
        assert isinstance(first, Metric)
        return first

    # Methods that tasks may override -----------------------------------------------------------------------------

    def forward_batch(self, batch: Batch) -> Tensor:
        """Returns the network's output for a batch, as the loss takes it."""
        raw: Tensor = self.network(batch["input"])
        return raw

    def channels_given(self, batch: Batch) -> int:
        """Returns the number of channels that `forward_batch` gives the network."""
        channels: int = batch["input"].shape[1]
        return channels

    def loss_of(self, raw: Tensor, batch: Batch) -> Tensor:
        """Returns the scalar loss of `forward_batch`'s result."""
        return self.compare(raw, batch["target"], batch["mask"]) if self.hole_loss else self.loss(raw, batch["target"])

    def finish(self, raw: Tensor, batch: Batch) -> Tensor:
        """Converts `forward_batch`'s result to images N×C×H×W in [0, 1]."""
        return raw.float().clamp(0, 1)

    def sigma_of(self, raw: Tensor) -> Tensor | None:
        """Returns the σ of the output's error, N×C×H×W, if `forward_batch`'s result holds one."""
        return None

    def mask_of(self, raw: Tensor) -> Tensor | None:
        """Returns an estimate of the mask, N×1×H×W in [0, 1], if `forward_batch`'s result holds one."""
        return None

    def compare(self, raw: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        """Returns the loss over the hole of each image, its mean over the images; without a hole, over the whole image.

        Each image by itself, so that it does not matter which others its batch, or its process, holds.
        """
        holes = mask.bool().expand_as(target)
        losses = [
            self.loss(r[hole], t[hole]) if hole.any() else self.loss(r[None], t[None])  # a mean over no pixel is NaN
            for r, t, hole in zip(raw, target, holes, strict=True)
        ]
        loss: Tensor = torch.stack(losses).mean()
        return loss

    def measure(self, item: Batch, raw: Tensor, output: Tensor) -> dict[str, float]:
        """Returns the values to log by name, given one image's batch, `forward_batch`'s result and `finish`'s."""
        seen, channels = as_8_bit(item["input"]), item["target"].shape[1]
        seen = luma(seen) if seen.shape[1] > channels else seen.expand_as(item["target"])
        images = Images(seen, as_8_bit(output.float()), item["target"], item["mask"], self.mask_of(raw))
        return {name: value for metric in self.metrics for name, value in metric(images).items()}

    # Training and evaluation -------------------------------------------------------------------------------------

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Returns the loss of a batch."""
        if batch_idx == 0:
            self._check(batch)
        raw = self.forward_batch(batch)
        loss = self.loss_of(raw, self._as_far_as_known(batch, raw))
        self.log_step({"train/loss": loss})
        return loss

    def _as_far_as_known(self, batch: Batch, raw: Tensor) -> Batch:
        """Returns the batch with the output itself as target where a real defect hides the image: no loss, no gradient.

        The first channels of `raw` must be the image. Losses over windows still see the output there.
        """
        if "real" not in batch:
            return batch
        target, hidden = batch["target"], batch["mask"].bool() & batch["real"].view(-1, 1, 1, 1)
        return {**batch, "target": target.where(~hidden, raw[:, : target.shape[1]].detach().to(target.dtype))}

    def _check(self, batch: Batch) -> None:
        """Checks the channels and that real defects are of use, and warns if the loss has no masked pixels."""
        if "real" in batch and type(self).mask_of is PairedTask.mask_of:
            raise UserError(
                f"{type(self).__name__} cannot learn from data.defects, because it has no mask to learn: leave them "
                "out, or train AnomalySegmentation (anomaly.yaml)"
            )
        given, wanted = self.channels_given(batch), self.network_channels
        if wanted is not None and wanted != given:
            raise UserError(
                f"the network takes {wanted} channel(s) and {type(self).__name__} gives it {given}: "
                "set network.init_args.in_channels, or data.channels"
            )
        if self.hole_loss and not batch["mask"].any():
            rank_zero_warn("nothing is masked in the first batch: does the corruption make holes (fill_mask: 1)?")

    def validation_step(self, batch: Batch, batch_idx: int) -> Evaluated:
        """Scores a batch and returns its output for the callbacks that show it."""
        raw = self.forward_batch(batch)
        output = self.finish(raw, batch)
        captions = []
        with torch.autocast(output.device.type, enabled=False):  # bfloat16 is too coarse for SSIM
            more = self.measure_batch(batch)
            for i in range(len(output)):
                item = {key: batch[key][i : i + 1].float() for key in ("input", "target", "mask")}
                item_raw = raw[i : i + 1].float()
                values = self.measure(item, item_raw, output[i : i + 1])
                values |= {"loss": float(self.loss_of(item_raw, item))} | more[i]
                captions.append(self.headline.caption(values))
                if batch["counted"][i]:
                    self._scores.append(Score(int(batch["n"][i]), batch["corruption"][i], values))
        return {"output": output, "captions": captions, "sigma": self.sigma_of(raw), "mask": self.mask_of(raw)}

    test_step = validation_step

    def on_validation_epoch_end(self) -> None:
        """Logs the means over all ranks' images."""
        self._log_scores("val")

    def on_test_epoch_end(self) -> None:
        """Logs the means over all ranks' images."""
        self._log_scores("test")

    def measure_batch(self, batch: Batch) -> list[dict[str, float]]:
        """Returns a task's additional values of each image, computed for a whole batch at once."""
        return [{} for _ in batch["path"]]

    def measure_all(self, values: Sequence[Mapping[str, float]]) -> dict[str, float]:
        """Returns what only all images of a corruption together have, such as an AUROC, given each one's values."""
        return {}

    def _log_scores(self, stage: str) -> None:
        # Sorted, so that the sums do not depend on the number of ranks.
        scores = sorted(gather(self._scores), key=lambda score: score.n)
        self._scores.clear()
        corruptions = dict.fromkeys(score.corruption for score in scores)
        found: dict[str, dict[str, list[float]]] = {}  # by metric and corruption
        for score in scores:
            for name, value in score.values.items():
                found.setdefault(name, {each: [] for each in corruptions})[score.corruption].append(value)
        for corruption in corruptions:
            together = self.measure_all([score.values for score in scores if score.corruption == corruption])
            for name, value in together.items():
                found.setdefault(name, {each: [] for each in corruptions})[corruption].append(value)
        for name, by_corruption in found.items():
            means = {corruption: sum(values) / len(values) for corruption, values in by_corruption.items() if values}
            if len(means) > 1 and name != "loss":
                for corruption, mean in means.items():
                    self.log(f"{stage}/{name}/{corruption}", mean, sync_dist=True)
            overall = sum(means.values()) / len(means)
            self.log(f"{stage}/{name}", overall, prog_bar=name == self.headline.name, sync_dist=True)
