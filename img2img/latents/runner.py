"""Runs a trained task over images, on one or many devices, and says which could not be read."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from img2img.errors import UserError, printable

if TYPE_CHECKING:
    from lightning.pytorch import Callback, LightningDataModule

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


def open_autoencoder(model: str | Path | Autoencoder, trust: Sequence[str] = ()) -> Autoencoder:
    """Returns an autoencoder from a checkpoint, or a copy of the given one, in evaluation mode.

    Args:
        model: Checkpoint, or a task. What is done with the copy (other devices, another precision) leaves it alone.
        trust: Further packages whose classes the checkpoint may name.

    Raises:
        UserError: If the model is not an autoencoder.
        FileNotFoundError: If the checkpoint does not exist.
    """
    from img2img.tasks import Autoencoder
    from img2img.tasks.recipe import load

    task = load(model, trust) if isinstance(model, str | Path) else model
    if not isinstance(task, Autoencoder):
        what = str(model) if isinstance(model, str | Path) else "the model"
        kind = type(task).__name__
        raise UserError(f"{what} ({kind}) is not an autoencoder: train one with autoencode.yaml or vae.yaml")
    return (copy.deepcopy(task) if task is model else task).eval()


def run_over(
    task: AnyTask,
    data: LightningDataModule,
    function: Callable[[AnyTask, Batch], dict[str, Any]],
    where: Devices | None = None,
    callbacks: Sequence[Callback] = (),
    progress: bool = False,
) -> list[Row]:
    """Runs a function of the model over all images.

    Args:
        task: The model; it is moved to the devices, and back to the CPU.
        data: The images: `LabelledImages`, or a data module whose batches are alike.
        function: Called with the model and a batch on its device, under inference mode; returns tensors (or lists)
            with one row for each image.
        where: Where to compute; None for `Devices()`.
        callbacks: Further callbacks, such as one that writes images.
        progress: Whether to show a bar.

    Returns:
        A row for each image, in the order of the images, on every process; see `img2img.latents.prediction.Collect`.
    """
    from img2img.callbacks.progress import Progress
    from img2img.latents.prediction import Applied, Collect
    from img2img.trainer import Trainer, quieten

    quieten()
    where = Devices() if where is None else where
    collect = Collect()
    trainer = Trainer(
        accelerator=where.accelerator,
        devices=where.devices,
        num_nodes=where.num_nodes,
        precision=where.precision,  # type: ignore[arg-type]
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=progress,
        callbacks=[*callbacks, collect, *([Progress()] if progress else [])],
    )
    trainer.predict(Applied(task, function), datamodule=data, return_predictions=False)
    return collect.rows


def first_process() -> bool:
    """Returns whether this process is the one that prints and writes results; after `run_over`."""
    from img2img import trainer

    return trainer.first_process()


def split_problems(rows: Sequence[Row]) -> tuple[list[Row], list[str]]:
    """Splits rows into those of the images that could be read and the problems of the others.

    Returns:
        The rows without a problem, and a line for each image that has one.

    Raises:
        UserError: If no image could be read.
    """
    good = [row for row in rows if not row["problem"]]
    problems = [str(row["problem"]) for row in rows if row["problem"]]
    if not good:
        one = f", for one: {printable(problems[0])}" if problems else ""
        raise UserError(f"none of the {len(problems)} image file(s) can be read{one}")
    return good, problems
