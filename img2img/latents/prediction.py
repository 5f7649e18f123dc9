"""What runs inside `Trainer.predict`; apart from the runner, because Lightning takes a second to import."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from lightning.pytorch import LightningModule
from numpy.typing import NDArray
from torch import Tensor

from img2img.inference.jobs import reason_of
from img2img.tasks.base import Batch, Task
from img2img.tasks.gather import gather

AnyTask = TypeVar("AnyTask", bound=Task)
Write = Callable[[int, NDArray[np.float32]], None]
"""Called with the number of an image and its H×W×C."""


class Applied(LightningModule, Generic[AnyTask]):
    """Runs a function of a task and a batch as the Trainer's prediction, on one or many devices.

    Args:
        task: The model.
        function: Called with the model and each batch; returns a row for each image.
        write: Called once for each image that could be read, with its `output` (the function's, N×C×H×W), on the
            process that computed it. Rows have no output then. OSError and ValueError become the image's `problem`,
            anything else ends the run. None to write nothing.

    Attributes:
        rows: After prediction, on every process and in the order of the images: for each image a dictionary of `n`,
            `path`, `label`, `size`, `problem`, and of what the function returned (tensors on the CPU, without the
            batch's axis).
    """

    def __init__(
        self, task: AnyTask, function: Callable[[AnyTask, Batch], dict[str, Any]], write: Write | None = None
    ) -> None:
        super().__init__()
        self.task, self.function, self.write = task, function, write
        self.rows: list[dict[str, Any]] = []

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Returns what the function returns."""
        return self.function(self.task, batch)

    def on_predict_batch_end(self, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Takes a batch apart, without what only fills up a process's share, and writes its images."""
        images: Any = None if self.write is None else outputs.pop("output").float().cpu().permute(0, 2, 3, 1).numpy()
        known = {name: values for name, values in batch.items() if name not in ("image", "counted")}
        for i, counted in enumerate(batch["counted"].tolist()):
            if not counted:
                continue
            row = {name: _plain(values[i]) for name, values in (known | outputs).items()}
            if self.write is not None and not row["problem"]:
                try:
                    self.write(row["n"], images[i])
                except (OSError, ValueError) as error:
                    row["problem"] = reason_of(error, Path(row["path"]))
            self.rows.append(row)

    def on_predict_epoch_end(self) -> None:
        """Gathers the rows of all processes."""
        self.rows = sorted(gather(self.rows), key=lambda row: int(row["n"]))


def _plain(value: Any) -> Any:
    """Returns a tensor on the CPU (a copy, because a view would keep the batch), or the number of a tensor of one."""
    if not isinstance(value, Tensor):
        return value
    return value.item() if value.ndim == 0 else value.detach().cpu().clone()
