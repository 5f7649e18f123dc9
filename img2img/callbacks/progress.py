"""The progress bar: one line for the whole run, with step, time left, loss and validation PSNR."""

from __future__ import annotations

import time
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm


class Progress(TQDMProgressBar):
    """Lightning's bar without details that mean nothing here: version number, data loader, epoch of one-epoch runs."""

    def __init__(self) -> None:
        super().__init__(leave=True)
        self._shown = 0.0

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        """Moves the bar at most ten times a second, because preparing what it shows takes time."""
        now = time.monotonic()
        if now - self._shown >= 0.1 or trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            super().on_train_batch_end(trainer, *args)
            self._shown = now

    def get_metrics(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """Leaves out the run's version number."""
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        return metrics

    def on_train_epoch_start(self, trainer: Trainer, *args: Any) -> None:
        """Names the epoch only if there may be several."""
        super().on_train_epoch_start(trainer, *args)
        if trainer.max_epochs == -1:
            self.train_progress_bar.set_description("Training")

    def init_validation_tqdm(self) -> Tqdm:
        """Returns the bar of validation."""
        return _plain(super().init_validation_tqdm())

    def init_test_tqdm(self) -> Tqdm:
        """Returns the bar of test."""
        return _plain(super().init_test_tqdm())

    def init_predict_tqdm(self) -> Tqdm:
        """Returns the bar of predict."""
        return _plain(super().init_predict_tqdm())


def _plain(bar: Tqdm) -> Tqdm:
    """Removes the data loader's number from a bar, as there is only one loader."""
    describe = bar.set_description

    def describe_plainly(desc: str | None = None, refresh: bool | None = True) -> None:
        describe(desc and desc.removesuffix(" DataLoader 0"), refresh)

    bar.set_description = describe_plainly  # type: ignore[method-assign]
    return bar
