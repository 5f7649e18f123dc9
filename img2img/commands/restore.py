"""`img2img restore`: a folder of images, or one, through a trained model."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from img2img.errors import UserError
from img2img.imaging.folders import SUFFIXES

if TYPE_CHECKING:
    from img2img.tasks import Task


def run(command: str, arguments: Sequence[str]) -> None:
    """Parses the command line, checks what is cheap to check, and restores.

    Raises:
        SystemExit: With code 1 if some file was not restored.
    """
    parser = argparse.ArgumentParser(f"img2img {command}", description="Restore a folder of images, or one image.")
    parser.add_argument("input", help="folder (searched recursively) or image")
    parser.add_argument("output", help="folder, which gets the same tree and names, or image")
    parser.add_argument("--model", required=True, help="checkpoint, such as runs/denoise/0/best.ckpt")
    parser.add_argument(
        "--mask", help="what to fill: a folder of masks (white is hole), a mask, alpha, or a colour such as '#ff00ff'"
    )
    parser.add_argument("--accelerator", default="auto", help="cpu, gpu, auto … as in Lightning (default: auto)")
    parser.add_argument("--devices", default="auto", help="how many devices share the images (default: auto)")
    parser.add_argument("--precision", default="auto", help="auto, or Lightning's names, such as 32-true")
    parser.add_argument("--trust", action="append", default=[], metavar="PACKAGE", help="further package of networks")
    options = vars(parser.parse_args(arguments))
    devices = options.pop("devices")
    check_folders(Path(options["input"]), Path(options["output"]), options["mask"])
    if not Path(options["model"]).is_file():
        raise UserError(f"--model {options['model']} does not exist; give a checkpoint that `img2img fit` wrote")
    sys.path.append(os.getcwd())  # networks of one's own, beside the images
    restore(**options, num_workers=1, devices=int(devices) if devices.isdigit() else devices)


def check_folders(source: Path, destination: Path, mask: str | Path | None = None) -> None:
    """Refuses what could never work or would write among the originals or their masks.

    Raises:
        UserError: If the source does not exist, or the destination lies in it or among the masks.
    """
    if not source.exists():
        raise UserError(f"{source} does not exist; give a folder of images or an image")
    if source.is_dir() and destination.resolve().is_relative_to(source.resolve()):
        raise UserError(
            f"the output {destination} lies in the input {source}; originals are never written among: choose another"
        )
    if mask is not None and destination.resolve().is_relative_to(Path(mask).expanduser().resolve()):
        raise UserError(f"the output {destination} would be written over the masks {mask}; choose another")
    if source.is_file() and destination.suffix and destination.suffix.lower() not in SUFFIXES:
        raise UserError(f"{destination}: the formats are {', '.join(sorted(SUFFIXES))}; or give a folder")
    if source.is_file() and destination.exists() and destination.samefile(source):
        raise UserError(f"{destination} is the input itself; choose another output")


def check_mask(task: Task, mask: str | Path | None, option: str) -> None:
    """Refuses a model that fills holes without knowing where they are, and a mask that nobody would look at.

    Raises:
        UserError: If so.
    """
    needed = getattr(task, "needs_mask", False)
    if needed and mask is None:
        raise UserError(f"this model fills holes: say where with {option}, a folder of masks, alpha or a colour")
    if mask is not None and not needed:
        raise UserError(f"this model restores whole images and looks at no mask; leave out {option}")


def restore(
    input: str | Path,
    output: str | Path,
    model: str | Path | Task,
    mask: str | Path | None = None,
    accelerator: str = "auto",
    devices: int | str = "auto",
    precision: Any = "auto",
    trust: Sequence[str] = (),
    num_workers: int = 0,
) -> None:
    """Restores every image under a folder, or one image; outputs keep name, tree, size, depth and metadata.

    Args:
        input: Folder, searched recursively, or image.
        output: Folder, or image if the input is one.
        model: Checkpoint, or a task from `img2img.load`.
        mask: For models that fill holes, where these are: a folder of masks with the images' relative paths, or the
            mask of the one image (white is the hole); `alpha`, for what is not opaque; or a colour, `#rrggbb`.
        accelerator: Lightning's accelerator.
        devices: How many devices share the images.
        precision: `auto` or one of Lightning's.
        trust: Further packages whose classes the checkpoint may name.
        num_workers: Processes that read ahead; with any, a script needs the guard `if __name__ == "__main__":`.

    Raises:
        UserError: If the input does not exist, the output lies in it, or a mask is missing or has no use.
        CheckpointError: If the model is no such checkpoint.
        SystemExit: With code 1 if some file was not restored; its reason is printed.
    """
    source, destination = Path(input), Path(output)
    check_folders(source, destination, mask)
    from img2img.callbacks import ImageWriter, Progress
    from img2img.commands.trainer import Trainer
    from img2img.data import ImageFolder
    from img2img.tasks.recipe import load

    task = load(model, trust) if isinstance(model, str | Path) else model
    check_mask(task, mask, "--mask")
    images = ImageFolder(str(source), num_workers, None if mask is None else str(mask))
    one_file = source.is_file() and destination.suffix.lower() in SUFFIXES and not destination.is_dir()
    writer = ImageWriter(str(destination), str(destination) if one_file else None)
    trainer = Trainer(
        accelerator=accelerator,
        devices=devices,
        precision=precision,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        callbacks=[writer, Progress()],
    )
    trainer.predict(task, datamodule=images, return_predictions=False)
    writer.conclude(trainer.is_global_zero)
