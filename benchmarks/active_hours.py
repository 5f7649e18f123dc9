"""A clock for long training: counts hours of work across interruptions, without the time spent frozen."""

from __future__ import annotations

import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

FROZEN = 120.0  # seconds without a batch, longer than a validation: the process was frozen


class ActiveHours(Callback):
    """Callback that ends training after some hours of work.

    Lightning's own Timer keeps counting while a process is frozen (SIGSTOP).

    Args:
        hours: How many hours.
    """

    state_key = "ActiveHours"

    def __init__(self, hours: float) -> None:
        self.hours, self.seconds, self.since = hours, 0.0, time.monotonic()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts to count."""
        self.since = time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Counts the time since the last batch; ends training after the last hour."""
        now = time.monotonic()
        passed, self.since = now - self.since, now
        self.seconds += passed if passed < FROZEN else 0.0
        if self.seconds >= self.hours * 3600:
            trainer.should_stop = True

    def state_dict(self) -> dict[str, float]:
        """Returns the seconds so far, for the checkpoint."""
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        """Continues from the checkpoint's count."""
        self.seconds = state_dict["seconds"]
