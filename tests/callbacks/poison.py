"""A callback that spoils given samples, weights or validations of a run."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer


class Poison(Callback):
    """Puts a value into the inputs of given samples, into a weight after a step, or into all validation images."""

    def __init__(
        self,
        samples: list[int] | None = None,
        value: float = float("nan"),
        after_step: int = -1,
        validation: bool = False,
    ) -> None:
        self.samples, self.value, self.after_step, self.validation = samples or [], value, after_step, validation

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        batch["input"][[int(n) in self.samples for n in batch["n"]]] = self.value

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if trainer.global_step == self.after_step:
            with torch.no_grad():
                next(pl_module.parameters())[:] = self.value

    def on_validation_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, *_: Any) -> None:
        if self.validation:
            batch["input"][:] = self.value
