"""What the commands of autoencoders share: a model over a folder of images, on one or many devices."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from img2img.errors import UserError, printable

if TYPE_CHECKING:
    from lightning.pytorch import Callback, LightningDataModule

    from img2img.tasks import Autoencoder

Batch = dict[str, Any]
Function = Callable[["Autoencoder", Batch], dict[str, Any]]
"""What to ask of the model for a batch; returns tensors (or lists) with one row for each image."""


@dataclass(frozen=True)
class Devices:
    """Where a command computes; Lightning's options of the same names."""

    accelerator: str = "auto"
    devices: int | str = "auto"
    num_nodes: int = 1
    precision: str = "32-true"
    batch_size: int = 32


def parse(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> dict[str, Any]:
    """Returns what a command line asks for, by the names of the command's function, and lets it name one's own classes.

    Args:
        parser: The command's, which gets `--model`, `--trust` and the options of `Devices`.
        arguments: The command line.

    Raises:
        UserError: If a number is below 1.
    """
    _add_options(parser)
    options = parser.parse_args(arguments)
    sys.path.append(os.getcwd())  # networks of one's own
    return vars(options) | asdict(_devices_of(options))


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, help="the checkpoint, such as runs/vae/0/best.ckpt")
    parser.add_argument("--trust", action="append", default=[], help="a package whose classes the checkpoint may name")
    parser.add_argument("--accelerator", default="auto", help="cpu, gpu, … (default: auto)")
    parser.add_argument("--devices", default="auto", help="how many (default: auto)")
    parser.add_argument("--num_nodes", type=int, default=1, help="how many machines (default: 1)")
    parser.add_argument("--precision", default="32-true", help="Lightning's names, or auto (default: 32-true)")
    parser.add_argument("--batch_size", type=int, default=32, help="images at a time (default: 32)")


def _devices_of(options: argparse.Namespace) -> Devices:
    if options.batch_size < 1 or options.num_nodes < 1:
        raise UserError("--batch_size and --num_nodes must be at least 1")
    devices = int(options.devices) if options.devices.isdigit() else options.devices
    return Devices(options.accelerator, devices, options.num_nodes, options.precision, options.batch_size)


def open_autoencoder(model: str | Path | Autoencoder, trust: Sequence[str] = ()) -> Autoencoder:
    """Returns an autoencoder from a checkpoint, or as given.

    Raises:
        UserError: If the model is none.
    """
    from img2img.tasks import Autoencoder
    from img2img.tasks.recipe import load

    task = load(model, trust) if isinstance(model, str | Path) else model
    if not isinstance(task, Autoencoder):
        what = str(model) if isinstance(model, str | Path) else "the model"
        kind = type(task).__name__
        raise UserError(f"{what} is a {kind}, not an autoencoder: train one with autoencode.yaml or vae.yaml")
    return task.eval()


def apply(
    task: Autoencoder,
    data: LightningDataModule,
    function: Function,
    where: Devices | None = None,
    callbacks: Sequence[Callback] = (),
    progress: bool = True,
) -> list[dict[str, Any]]:
    """Asks the model something of every image.

    Args:
        task: The model.
        data: The images: `LabelledImages`, or what gives batches alike.
        function: What to ask, called with the model and a batch on its device, under inference mode.
        where: Where to compute.
        callbacks: Further ones, such as what writes images.
        progress: Whether to show a bar.

    Returns:
        A row for each image, in their order, on every process; see `Collect`.
    """
    from img2img.callbacks.collect import Collect
    from img2img.callbacks.progress import Progress
    from img2img.commands.trainer import Trainer, quieten
    from img2img.tasks.applied import Applied

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
    """Returns whether this process is the one that writes the results; after `apply`."""
    from lightning.pytorch.utilities import rank_zero_only

    return getattr(rank_zero_only, "rank", 0) == 0


def without_problems(rows: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], int]:
    """Returns the rows of images that could be read, and how many could not; names those on stderr.

    Raises:
        UserError: If none could be read.
    """
    good = [row for row in rows if not row["problem"]]
    bad = [row for row in rows if row["problem"]]
    if first_process():
        for row in bad:
            print(printable(f"skipped: {row['problem']}"), file=sys.stderr)
    if not good:
        raise UserError(f"none of the {len(bad)} image file(s) can be read")
    return good, len(bad)
