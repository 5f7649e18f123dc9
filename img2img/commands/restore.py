"""`img2img restore`: a folder of images, or one, through a trained model."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from img2img.commands.checks import check_folders, check_mask
from img2img.commands.output import Output
from img2img.commands.restoring import Restoring
from img2img.errors import UserError
from img2img.shipped import find_model

if TYPE_CHECKING:
    from img2img.tasks import Task


def run(command: str, arguments: Sequence[str]) -> None:
    """Parses the command line, checks what is cheap to check, and restores.

    Raises:
        SystemExit: With code 1 if some file was not restored, 130 if the run was interrupted.
    """
    options = vars(_parser(command).parse_args(arguments))
    devices = options.pop("devices")
    check_folders(Path(options["input"]), Path(options["output"]), options["mask"])
    sys.path.append(os.getcwd())  # networks of one's own, beside the images
    restore(**options, devices=int(devices) if devices.isdigit() else devices)


def _parser(command: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(f"img2img {command}", description="Restore a folder of images, or one image.")
    add = parser.add_argument
    add("input", help="folder (searched recursively) or image")
    add("output", help="folder, which gets the same tree and names, or image")
    models = "a shipped model's name (`img2img models`), a checkpoint, or weights of a published model"
    add("--model", required=True, help=models)
    add("--mask", help="what to fill: a folder of masks (white is hole), a mask, alpha, or a colour such as '#ff00ff'")
    add("--format", default="keep", help="keep (default), png, jpeg, webp, tiff or avif")
    add("--quality", type=int, default=95, help="1 to 100, of JPEG, WebP and AVIF (default: 95)")
    add("--skip-existing", action="store_true", help="leave outputs that are there, whoever made them")
    add("--overwrite", action="store_true", help="replace outputs that are there, whoever made them")
    add("--html", action="store_true", help="also write a page to compare before and after")
    add("--reference", metavar="DIR", help="folder of what the outputs should be: prints PSNR and SSIM")
    add("--uncertainty", metavar="DIR", help="folder of maps: how sure the model is of each pixel, in 16 bits")
    add("--self-ensemble", action="store_true", help="mean over 8 turned and mirrored versions: better, 8 times slower")
    add("--memory", help="what the program may take, such as 2GB (default: half of what is free, at most 2 GB)")
    add("--tile", type=int, help="side of the tiles in pixels (default: chosen by memory)")
    add("--dry-run", action="store_true", help="say what would be done, and how much memory it takes")
    add("--accelerator", default="auto", help="cpu, gpu, auto … as in Lightning (default: auto)")
    add("--devices", default="auto", help="how many devices share the images (default: auto)")
    add("--num_nodes", "--num-nodes", type=int, default=1, help="how many machines share the images (default: 1)")
    add("--precision", default="auto", help="auto, or Lightning's names, such as 32-true")
    add("--trust", action="append", default=[], metavar="PACKAGE", help="further package of networks")
    return parser


def restore(
    input: str | Path,
    output: str | Path,
    model: str | Path | Task,
    mask: str | Path | None = None,
    accelerator: str = "auto",
    devices: int | str = "auto",
    num_nodes: int = 1,
    precision: Any = "auto",
    trust: Sequence[str] = (),
    dry_run: bool = False,
    **options: Any,
) -> None:
    """Restores every image under a folder, or one image; outputs keep name, tree, size, depth and metadata.

    An interrupted run goes on where it was when the same call is made again.

    Args:
        input: Folder, searched recursively, or image.
        output: Folder, or image if the input is one.
        model: Shipped model's name, checkpoint, or a task from `img2img.load`.
        mask: For models that fill holes, where these are: a folder of masks with the images' relative paths, or the
            mask of the one image (white is the hole); `alpha`, for what is not opaque; or a colour, `#rrggbb`.
        accelerator: Lightning's accelerator.
        devices: How many devices share the images.
        num_nodes: How many machines share them.
        precision: `auto` or one of Lightning's.
        trust: Further packages whose classes the checkpoint may name.
        dry_run: Only print what would be done.
        options: format, quality, overwrite, skip_existing, html, reference, self_ensemble, memory, tile and
            uncertainty, see `img2img.commands.output.Output`.

    Raises:
        UserError: If the input does not exist, the output lies in it, outputs are there, or a mask is missing.
        CheckpointError: If the model is no such checkpoint.
        SystemExit: With code 1 if some file was not restored, its reason being printed; 130 if the run was interrupted.
    """
    source, destination = Path(input), Path(output)
    check_folders(source, destination, mask)
    file = find_model(model) if isinstance(model, str | Path) else None
    unknown = set(options) - {field.name for field in fields(Output)}
    if unknown:
        raise TypeError(f"restore() has no argument {sorted(unknown)[0]!r}")
    from img2img.commands.trainer import Trainer, best_precision, quieten
    from img2img.tasks.recipe import load
    from img2img.tasks.restorer import Restorer

    task = model if file is None else load(file, trust)
    if not isinstance(task, Restorer):
        raise UserError(f"{model} restores no images: it is a {type(task).__name__}")
    check_mask(task, mask, "--mask")
    restoring = Restoring(
        task,
        source,
        Output(str(destination), **options),
        mask=None if mask is None else str(mask),
        model=str(model) if file is not None else type(task).__name__,
        precision=best_precision(accelerator) if precision == "auto" else precision,
        weights=file,
    )
    if dry_run:
        print(restoring.describe())
        return
    quieten()
    trainer = Trainer(
        accelerator=accelerator,
        devices=devices,
        num_nodes=num_nodes,
        precision=precision,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
    )
    restoring.run_with(trainer)
