"""Training speed, data preparation included."""

from __future__ import annotations

import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


class Throughput(Callback):
    """Logs `train/pixels_per_second`: input pixels of all ranks, validation excluded."""

    def __init__(self) -> None:
        self._pixels = 0
        self._since: float | None = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Counts the batch; logs and resets at each of the trainer's log steps."""
        if self._since is None:  # the first batch is a warm-up and is not counted
            self._since = time.perf_counter()
            return
        count, _, height, width = batch["input"].shape
        self._pixels += count * height * width * trainer.world_size
        if (trainer.fit_loop.epoch_loop._batches_that_stepped + 1) % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]  # as log() does
            now = time.perf_counter()
            pl_module.log("train/pixels_per_second", self._pixels / (now - self._since))
            self._pixels, self._since = 0, now

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Resets the count, so that validation is left out."""
        self._pixels, self._since = 0, None
