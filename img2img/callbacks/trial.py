"""Reports a run's validations to the sweep that it is a trial of."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import asdict, dataclass
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from img2img.callbacks.checkpoints import BestCheckpoint

_VARIABLE = "IMG2IMG_TRIAL"
STUDY = "sweep"
PRUNED = "pruned"
"""Attribute of a trial that was ended early."""


@dataclass(frozen=True)
class TrialAddress:
    """Where a trial reports to; a sweep gives it to its trials' processes in the environment.

    Attributes:
        storage: Address of the study's storage, as Optuna takes it.
        number: The trial's number.
        pruning: Whether a trial whose validation is below the median of the others' at its step is ended.
        sweep: Process of the sweep.
    """

    storage: str
    number: int
    pruning: bool
    sweep: int

    def as_environment(self) -> dict[str, str]:
        """Returns the variable that tells a process the address."""
        return {_VARIABLE: json.dumps(asdict(self))}


class TrialReport(Callback):
    """Reports each validation's monitored metric, ends a poor trial, and stops when its sweep was killed.

    Args:
        address: Where to report to.
    """

    def __init__(self, address: TrialAddress) -> None:
        self.address = address
        self._trial: Any = None

    @classmethod
    def wanted(cls) -> list[TrialReport]:
        """Returns the callback if this process runs a sweep's trial."""
        given = os.environ.get(_VARIABLE)
        return [] if given is None else [cls(TrialAddress(**json.loads(given)))]

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Saves and stops, as at SIGTERM, if the sweep is gone: another one continues the trial."""
        if trainer.is_global_zero and os.name == "posix" and os.getppid() != self.address.sweep:
            os.kill(os.getpid(), signal.SIGTERM)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reports; a poor trial stops on all processes."""
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        poor = trainer.is_global_zero and self._report(trainer)
        if trainer.strategy.broadcast(poor):
            trainer.should_stop = True

    def _report(self, trainer: Trainer) -> bool:
        """Reports the value, and returns whether the trial should end."""
        best = next(callback for callback in trainer.callbacks if isinstance(callback, BestCheckpoint))  # type: ignore[attr-defined]
        value = trainer.callback_metrics.get(str(best.monitor))
        trial = self._trial = self._trial or self._open()
        if value is None or trainer.global_step in trial.storage.get_trial(trial._trial_id).intermediate_values:
            return False  # a continued run may repeat a validation
        trial.report(float(value), trainer.global_step)
        last = trainer.global_step == trainer.max_steps
        if last or not trial.should_prune():
            return False
        trial.set_user_attr(PRUNED, True)
        return True

    def _open(self) -> Any:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        pruner = optuna.pruners.MedianPruner() if self.address.pruning else optuna.pruners.NopPruner()
        study = optuna.load_study(study_name=STUDY, storage=self.address.storage, pruner=pruner)
        return optuna.trial.Trial(study, study.trials[self.address.number]._trial_id)
