"""What a model says of each image, from all processes, in the order of the images."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from img2img.tasks.gather import gather


class Collect(Callback):
    """Gathers the rows of prediction: a batch's outputs are taken apart, each image's go together.

    Attributes:
        rows: After prediction, on every process: for each image that counts a dictionary of `n`, `path`, `label`,
            `size`, `problem`, and of what prediction returned (tensors on the CPU, without the batch's axis).
    """

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Takes a batch apart."""
        known = {name: values for name, values in batch.items() if name not in ("image", "counted")}
        for i, counted in enumerate(batch["counted"].tolist()):
            if counted:
                self.rows.append({name: _plain(values[i]) for name, values in (known | outputs).items()})

    def on_predict_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Gathers the rows of all processes."""
        self.rows = sorted(gather(self.rows), key=lambda row: int(row["n"]))


def _plain(value: Any) -> Any:
    """Returns a tensor on the CPU (a copy, for a view would keep the batch), a number for a tensor of one."""
    if not isinstance(value, Tensor):
        return value
    return value.item() if value.ndim == 0 else value.detach().cpu().clone()
