"""What runs inside `Trainer.predict`: a function of every batch, its rows from all processes, files of its images.

Apart from `img2img.latents.runner`, which commands import for their options: Lightning takes a second to import.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from numpy.typing import NDArray
from torch import Tensor

from img2img.tasks.base import Batch, Task
from img2img.tasks.gather import gather

AnyTask = TypeVar("AnyTask", bound=Task)
Write = Callable[[int, NDArray[np.float32]], None]
"""Called with the number of an image and its H×W×C; what it raises is noted against that image alone."""


class Applied(LightningModule, Generic[AnyTask]):
    """Runs a function of a task and a batch as the Trainer's prediction, on one or many devices.

    Args:
        task: The model.
        function: Called with the model and each batch; returns a row for each image.
    """

    def __init__(self, task: AnyTask, function: Callable[[AnyTask, Batch], dict[str, Any]]) -> None:
        super().__init__()
        self.task, self.function = task, function

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Returns what the function returns."""
        return self.function(self.task, batch)


class Collect(Callback):
    """Gathers the rows of prediction from all processes, in the order of the images.

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


class EachImage(Callback):
    """Hands each image of prediction's `output` (N×C×H×W) once to a function that writes it, on its own process.

    Stands before `Collect`: it takes the images out of what that gathers, and puts in as `problem` why an image could
    not be written.

    Args:
        write: Writes an image. OSError and ValueError are the image's problem, anything else ends the run.
    """

    def __init__(self, write: Write) -> None:
        self.write = write

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Writes a batch, without what only fills up a process's share and what could not be read."""
        images = outputs.pop("output").float().cpu().permute(0, 2, 3, 1).numpy()
        for i, (n, counted) in enumerate(zip(batch["n"].tolist(), batch["counted"].tolist(), strict=True)):
            if not counted or batch["problem"][i]:
                continue
            try:
                self.write(n, images[i])
            except (OSError, ValueError) as error:
                batch["problem"][i] = str(error)


def _plain(value: Any) -> Any:
    """Returns a tensor on the CPU (a copy, for a view would keep the batch), a number for a tensor of one."""
    if not isinstance(value, Tensor):
        return value
    return value.item() if value.ndim == 0 else value.detach().cpu().clone()
