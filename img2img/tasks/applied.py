"""A trained task, asked something of every batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from lightning.pytorch import LightningModule

from img2img.tasks.base import Batch, Task

AnyTask = TypeVar("AnyTask", bound=Task)


class Applied(LightningModule, Generic[AnyTask]):
    """Lets the Trainer's prediction ask what it likes, on one or many devices.

    Args:
        task: The model.
        function: What is asked of it for each batch.
    """

    def __init__(self, task: AnyTask, function: Callable[[AnyTask, Batch], dict[str, Any]]) -> None:
        super().__init__()
        self.task, self.function = task, function

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Returns the function's answer: a row for each image."""
        return self.function(self.task, batch)
