"""Checkpoint callbacks: every `fit`, however short, ends with a validation, `best.ckpt` and `last.ckpt`."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from img2img.callbacks.interruption import Interruption, Stopped
from img2img.tasks.checkpoint import CheckpointError, read_checkpoint

_DUE = "validation_due"
"""Key in a checkpoint that was saved before the validation of its step."""


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

    def __init__(self, filename: str, **kwargs: Any) -> None:
        super().__init__(filename=filename, auto_insert_metric_name=False, enable_version_counter=False, **kwargs)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Sets the run's folder."""
        self.dirpath = run_folder(trainer)
        super().setup(trainer, pl_module, stage)

    def state_dict(self) -> dict[str, Any]:
        """Returns Lightning's state without folders, which are nobody else's business and change when a run moves."""
        state = super().state_dict() | {"dirpath": None}
        for name in ("best_model_path", "kth_best_model_path", "last_model_path"):
            state[name] = os.path.basename(state[name])
        state["best_k_models"] = {os.path.basename(path): score for path, score in state["best_k_models"].items()}
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Ignores the saved state: it may name any file, and what this run has written is in its folder."""


class BestCheckpoint(_RunCheckpoint):
    """Keeps the checkpoint with the best validation as `best.ckpt`.

    Args:
        monitor: Name of a metric that the task logs.
        mode: `max` if higher is better, `min` if lower is.
    """

    def __init__(self, monitor: str = "val/psnr", mode: str = "max") -> None:
        super().__init__("best", monitor=monitor, mode=mode)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """On resume, takes the best score from `best.ckpt` itself: the resumed checkpoint may know only an older one.

        If that file is missing, damaged, or the best by another measure, the next validation writes a new one.
        """
        super().on_train_start(trainer, pl_module)
        if trainer.ckpt_path is None:
            return
        path = os.path.join(str(self.dirpath), f"{self.filename}{self.FILE_EXTENSION}")
        state: Any = None
        if trainer.is_global_zero:
            with suppress(FileNotFoundError, CheckpointError):
                callbacks = read_checkpoint(Path(path)).get("callbacks")
                state = (callbacks if isinstance(callbacks, dict) else {}).get(self.state_key)
        score = state.get("best_model_score") if isinstance(state, dict) else None
        score = trainer.strategy.broadcast(score if isinstance(score, Tensor) and score.numel() == 1 else None)
        self.best_k_models, self.best_model_path, self.best_model_score = {}, "", score
        if score is not None:
            self.best_k_models, self.best_model_path, self.kth_value = {path: score}, path, score
        self.kth_best_model_path = self.best_model_path


class LastCheckpoint(_RunCheckpoint):
    """Keeps the latest checkpoint as `last.ckpt`: every few steps, at the end, and when a signal stops the run.

    Separate from `BestCheckpoint`, whose `save_last` would wait for the metric to improve. The last step is saved after
    its validation, so that a run that was killed in the validation makes it when continued. Another step is saved
    before its validation; a run that continues there begins with the validation, as if it had not been killed.

    Args:
        every_n_steps: Optimizer steps between two checkpoints.
    """

    def __init__(self, every_n_steps: int = 100) -> None:
        super().__init__("last", every_n_train_steps=every_n_steps)
        self._due = self._missed = False

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Notes that a validation follows."""
        if self._due:
            checkpoint[_DUE] = True

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Remembers that a validation is missing."""
        self._missed = checkpoint.get(_DUE, False)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Makes the validation that the resumed run was killed in."""
        super().on_train_start(trainer, pl_module)
        if self._missed and trainer.enable_validation:
            trainer.validating = True
            validation = trainer.fit_loop.epoch_loop.val_loop
            validation.restarting = False  # it would go on where the validation before had ended
            validation.run()
            trainer.training = True
        self._missed = False

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves every few steps; if a signal has come, saves and stops.

        Raises:
            Stopped: If a signal has come; all processes raise it after the same step.
        """
        loop = trainer.fit_loop.epoch_loop
        fetcher = trainer.fit_loop._data_fetcher
        self._due = fetcher is not None and loop._should_check_val_fx(fetcher)
        if trainer.should_stop and self._due:  # saved after the validation
            self._due = False
            return
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        if not loop._should_accumulate():  # gradients are not saved
            self._stop_if_asked(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forgets that a validation is due, so that `best.ckpt`, saved after it, does not ask for another."""
        self._due = False

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Stops within a validation if a signal has come and `last.ckpt` holds this step already.

        Raises:
            Stopped: If a signal has come and the step is saved.
        """
        if trainer.state.fn == "fit" and self._last_global_step_saved == trainer.global_step:
            self._stop_if_asked(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves after the final validation, so that `last` holds the last step."""
        fitting = trainer.state.fn == "fit" and not trainer.sanity_checking and not trainer.fast_dev_run  # type: ignore[attr-defined]
        if trainer.should_stop and fitting and self._last_global_step_saved != trainer.global_step:
            self._save(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves the last step of a run without validation, before the average replaces the weights."""
        self.on_validation_end(trainer, pl_module)

    def _save(self, trainer: Trainer) -> None:
        self._save_none_monitor_checkpoint(trainer, self._monitor_candidates(trainer))

    def _stop_if_asked(self, trainer: Trainer) -> None:
        callbacks = (callback for callback in trainer.callbacks if isinstance(callback, Interruption))  # type: ignore[attr-defined]
        interruption = next(callbacks, None)
        number = 0 if interruption is None else interruption.received(trainer)
        if number == 0 or trainer.should_stop:
            return
        if self._last_global_step_saved != trainer.global_step and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            self._save(trainer)
        raise Stopped(number, trainer.global_step)


def run_folder(trainer: Trainer) -> str:
    """Returns the folder of a run, the same on every rank; every rank must call it.

    It is the trainer's root, not `trainer.log_dir`: that is the logger's folder, which most loggers put elsewhere.
    """
    folder: str = trainer.strategy.broadcast(trainer.default_root_dir)
    return folder
