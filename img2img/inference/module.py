"""The LightningModule for `Trainer.predict`: tiles in, restored tiles out."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from img2img.tasks import Restoration


class TileRestorer(LightningModule):
    """Restores batches of tiles with a task, without changing it.

    Args:
        task: The task.
        self_ensemble: Whether to average over eight symmetries.
        uncertainty: Whether to return σ of the error as one more channel.
    """

    def __init__(self, task: Restoration, self_ensemble: bool = False, uncertainty: bool = False) -> None:
        super().__init__()
        self.task, self.self_ensemble, self.uncertainty = task, self_ensemble, uncertainty

    @property
    def scale(self) -> int:
        """Output pixels per input pixel, on each axis."""
        return self.task.scale

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Returns the restored tiles, N×C×H×W in [0, 1]; an empty tensor for a file that cannot be read."""
        if "input" not in batch:
            return torch.empty(0)  # not None, about which Lightning would warn
        return self.task.restore_tile(batch["input"], batch.get("mask"), self.self_ensemble, self.uncertainty)
