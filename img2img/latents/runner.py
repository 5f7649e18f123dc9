"""Runs a trained task over images, on one or many devices, and says which could not be read."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from img2img.errors import UserError, printable

if TYPE_CHECKING:
    from lightning.pytorch import LightningDataModule

    from img2img.latents.prediction import Write
    from img2img.tasks import Autoencoder, Task

AnyTask = TypeVar("AnyTask", bound="Task")
Batch = dict[str, Any]
Row = dict[str, Any]


@dataclass(frozen=True)
class Devices:
    """Where a command computes, and in what precision.

    Args:
        accelerator: cpu, gpu, auto … as in Lightning (default: auto).
        devices: How many devices share the images (default: auto).
        num_nodes: How many machines share the images (default: 1).
        precision: Lightning's names, such as 32-true (default), or auto.
        batch_size: Images that go through the network together (default: 32).

    Raises:
        UserError: If num_nodes or batch_size is below 1.
    """

    accelerator: str = "auto"
    devices: int | str = "auto"
    num_nodes: int = 1
    precision: str = "32-true"
    batch_size: int = 32

    def __post_init__(self) -> None:
        """Checks the numbers."""
        if self.batch_size < 1 or self.num_nodes < 1:
            raise UserError("--batch_size and --num_nodes must be at least 1")


def open_task(model: str | Path | Task, trust: Sequence[str] = ()) -> Task:
    """Returns a task from a checkpoint, or a copy of the given one, which stays as it is, in evaluation mode.

    `trust` names further packages whose classes the checkpoint may name.

    Raises:
        FileNotFoundError: If the checkpoint does not exist.
    """
    from img2img.tasks.recipe import load

    return (load(model, trust) if isinstance(model, str | Path) else copy.deepcopy(model)).eval()


def name_of(model: str | Path | Task) -> str:
    """Returns what messages call a model."""
    return str(model) if isinstance(model, str | Path) else "the model"


def open_autoencoder(model: str | Path | Task, trust: Sequence[str] = ()) -> Autoencoder:
    """Opens an autoencoder with `open_task`.

    Raises:
        UserError: If the model is not an autoencoder.
        FileNotFoundError: If the checkpoint does not exist.
    """
    from img2img.tasks import Autoencoder

    task = open_task(model, trust)
    if not isinstance(task, Autoencoder):
        what = f"{name_of(model)} ({type(task).__name__})"
        raise UserError(f"{what} is not an autoencoder: train one with autoencode.yaml or vae.yaml")
    return task


def run_over(
    task: AnyTask,
    data: LightningDataModule,
    function: Callable[[AnyTask, Batch], dict[str, Any]],
    where: Devices | None = None,
    write: Write | None = None,
    progress: bool = False,
) -> list[Row]:
    """Runs a function of the model over all images; returns the rows of `img2img.latents.prediction.Applied`.

    Args:
        task: The model; it is moved to the devices, and back to the CPU.
        data: The images: `LabelledImages`, or a data module whose batches are alike.
        function: Called with the model and a batch on its device, under inference mode; returns tensors (or lists)
            with one row for each image.
        where: Where to compute; None for `Devices()`.
        write: Writes the `output` of the function, see `Applied`.
        progress: Whether to show a bar.
    """
    from img2img.callbacks.progress import Progress
    from img2img.latents.prediction import Applied
    from img2img.trainer import Trainer, quieten

    quieten()
    where = where or Devices()
    trainer = Trainer(
        accelerator=where.accelerator,
        devices=where.devices,
        num_nodes=where.num_nodes,
        precision=where.precision,  # type: ignore[arg-type]
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=progress,
        callbacks=[Progress()] if progress else [],
    )
    applied = Applied(task, function, write)
    trainer.predict(applied, datamodule=data, return_predictions=False)
    return applied.rows


def first_process() -> bool:
    """Returns whether this process is the one that prints and writes results; valid after `run_over`."""
    from img2img import trainer

    return trainer.first_process()


def split_problems(rows: Sequence[Row]) -> tuple[list[Row], list[str]]:
    """Returns the rows of the images that could be read, and a line for each of the others.

    Raises:
        UserError: If no image could be read.
    """
    good = [row for row in rows if not row["problem"]]
    problems = [str(row["problem"]) for row in rows if row["problem"]]
    if not good:
        first = f"; the first: {printable(problems[0])}" if problems else ""
        raise UserError(f"none of the {len(problems)} image file(s) can be read{first}")
    return good, problems
