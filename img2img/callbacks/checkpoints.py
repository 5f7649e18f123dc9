"""Checkpoint callbacks: every `fit`, however short, ends with a validation, `best.ckpt` and `last.ckpt`."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint


class FinalValidation(Callback):
    """Ends training with a validation, whether it ends by steps or by epochs.

    Lightning validates only every `val_check_interval` batches; the steps after the last of these would be neither
    measured nor saved.
    """

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Asks Lightning to stop (which validates first) at the last batch."""
        last_epoch = trainer.max_epochs is not None and trainer.current_epoch + 1 == trainer.max_epochs
        last_batch = batch_idx + 1 == trainer.num_training_batches
        if trainer.global_step == trainer.max_steps or (last_epoch and last_batch):
            trainer.should_stop = True


class _RunCheckpoint(ModelCheckpoint):
    """A checkpoint directly in the run's folder, always under the same name."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Sets the run's folder."""
        self.dirpath = run_folder(trainer)
        super().setup(trainer, pl_module, stage)


class BestCheckpoint(_RunCheckpoint):
    """Keeps the checkpoint with the best validation as `best.ckpt`.

    Args:
        monitor: Name of a metric that the task logs.
        mode: `max` if higher is better, `min` if lower is.
    """

    def __init__(self, monitor: str = "val/psnr", mode: str = "max") -> None:
        super().__init__(
            monitor=monitor,
            mode=mode,
            filename="best",
            auto_insert_metric_name=False,
            enable_version_counter=False,
        )


class LastCheckpoint(_RunCheckpoint):
    """Keeps the latest checkpoint as `last.ckpt`: every few steps and at the end.

    Separate from `BestCheckpoint`, whose `save_last` would wait for the metric to improve.

    Args:
        every_n_steps: Optimizer steps between two checkpoints.
    """

    def __init__(self, every_n_steps: int = 100) -> None:
        super().__init__(
            filename="last",
            every_n_train_steps=every_n_steps,
            auto_insert_metric_name=False,
            enable_version_counter=False,
        )

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves after the final validation, so that `last` holds the last step."""
        if trainer.should_stop:
            self._save_once(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves the last step of a run without validation, before the average replaces the weights."""
        if trainer.should_stop:
            self._save_once(trainer)

    def _save_once(self, trainer: Trainer) -> None:
        fitting = trainer.state.fn == "fit" and not trainer.sanity_checking and not trainer.fast_dev_run  # type: ignore[attr-defined]
        if fitting and self._last_global_step_saved != trainer.global_step:
            self._save_none_monitor_checkpoint(trainer, self._monitor_candidates(trainer))


def run_folder(trainer: Trainer) -> str:
    """Returns the folder of a run, the same on every rank; every rank must call it.

    It is the trainer's root, not `trainer.log_dir`: that is the logger's folder, which most loggers put elsewhere.
    """
    folder: str = trainer.strategy.broadcast(trainer.default_root_dir)
    return folder
