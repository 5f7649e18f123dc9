"""The base of callbacks that show what a validation gives."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Generic, TypeVar

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

Item = TypeVar("Item")


class ValidationCollector(Callback, Generic[Item]):
    """Collects items of each validation of `fit`, batch by batch: averaged weights are swapped out before its end."""

    def __init__(self) -> None:
        self.items: list[Item] = []

    def collect(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any) -> Iterable[Item]:
        """Returns the items of a batch of this process."""
        raise NotImplementedError

    def on_collected(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Shows the items, on every process; called after the last batch."""

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forgets the items of the validation before."""
        self.items = []

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Collects the items of a batch."""
        if trainer.state.fn != "fit" or trainer.sanity_checking or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        self.items += self.collect(trainer, pl_module, outputs, batch)
        if batch_idx + 1 == trainer.num_val_batches[dataloader_idx]:
            self.on_collected(trainer, pl_module)


def boards(trainer: Trainer) -> list[Any]:
    """Returns the TensorBoard writers of a run."""
    return [logger.experiment for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
