"""`img2img edit`: an attribute put into images, such as a smile, by a direction between two folders' codes."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from img2img.commands.applying import (
    Batch,
    Devices,
    apply,
    first_process,
    open_autoencoder,
    parse,
    without_problems,
)
from img2img.commands.checks import check_folders
from img2img.errors import UserError, printable
from img2img.imaging.folders import lies_in

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from img2img.data.worklist import Job
    from img2img.tasks import Autoencoder

DIRECTIONS = ("mean", "classifier")


def run(command: str, arguments: Sequence[str]) -> None:
    """Edits a folder, and says how far the two others are apart.

    Raises:
        SystemExit: With code 1 if some file could not be read or edited.
    """
    parser = argparse.ArgumentParser(
        f"img2img {command}", description="Move images along the direction from one folder's images to another's."
    )
    add = parser.add_argument
    add("input", help="folder (searched recursively) or image")
    add("output", help="folder, which gets the same tree and names, or image")
    add("--from", dest="start", required=True, metavar="DIR", help="images without the attribute, such as neutral/")
    add("--to", dest="end", required=True, metavar="DIR", help="images with it, such as smile/")
    add("--strength", type=float, default=1.0, help="1 for the way between both folders' means, -1 for the way back")
    add(
        "--direction",
        default="mean",
        choices=DIRECTIONS,
        help="difference of the codes' means, or the normal of a linear classifier",
    )
    add("--plain", action="store_true", help="write what the model draws, instead of adding its change to the original")
    add("--overwrite", action="store_true", help="replace outputs that are there")
    if edit(**parse(parser, arguments)):
        raise SystemExit(1)


def edit(
    input: str | Path,
    output: str | Path,
    model: str | Path | Autoencoder,
    start: str | Path,
    end: str | Path,
    strength: float = 1.0,
    direction: str = "mean",
    plain: bool = False,
    overwrite: bool = False,
    trust: Sequence[str] = (),
    **devices: Any,
) -> int:
    """Moves images along the direction between two folders' codes; outputs keep tree, name, size, depth and metadata.

    The change that the model draws, decode(z + strength · d) - decode(z), is scaled to the image's size and added to
    it, so that detail stays which the model cannot draw.

    Args:
        input: Folder, searched recursively, or image.
        output: Folder, or image if the input is one.
        model: Checkpoint, or an autoencoder from `img2img.load`.
        start: Folder of images without the attribute, such as neutral faces.
        end: Folder of images with it, such as smiling ones.
        strength: 1 moves by the distance between both folders' means; 0 by nothing, -1 back.
        direction: `mean`, see `img2img.commands.direction.mean_direction`, or `classifier`, `classifier_direction`.
        plain: Whether to write decode(z + strength · d) itself.
        overwrite: Whether to replace outputs that are there.
        trust: Further packages whose classes the checkpoint may name.
        devices: accelerator, devices, num_nodes, precision and batch_size, see `img2img.commands.applying.Devices`.

    Returns:
        How many files could not be read, edited or written; they are named on stderr.

    Raises:
        UserError: If an option is wrong, there are no images, outputs are there or would lie among inputs, the two
            folders do not differ, or the model is no autoencoder.
        FileNotFoundError: If a folder or the checkpoint does not exist.
    """
    if direction not in DIRECTIONS or not math.isfinite(strength):
        raise UserError(f"--direction is one of {', '.join(DIRECTIONS)}, and --strength a number")
    source, destination, folders = Path(input), Path(output), (Path(start), Path(end))
    _check(source, destination, folders)
    jobs, refused = _jobs(source, destination, overwrite)
    task, where = open_autoencoder(model, trust), Devices(**devices)
    step, apart, unread = _direction(task, folders, direction, where)
    unedited = _write(task, source, jobs, strength * step, plain, where)
    if first_process():
        for job in refused:
            print(printable(f"skipped: {job.problem}"), file=sys.stderr)
        print(printable(f"{len(jobs) - unedited} image(s) edited: {destination}; {apart}"))
    return len(refused) + unread + unedited


def _check(source: Path, destination: Path, folders: Sequence[Path]) -> None:
    check_folders(source, destination)
    for folder, option in zip(folders, ("--from", "--to"), strict=True):
        if not folder.exists():
            raise FileNotFoundError(f"{option} {folder} does not exist; give a folder of images")
        if lies_in(destination, folder):
            raise UserError(f"the output {destination} lies in {option} {folder}; choose another")


def _jobs(source: Path, destination: Path, overwrite: bool) -> tuple[list[Job], list[Job]]:
    """Returns the files to edit, and those that cannot be, with their problems."""
    from img2img.data.worklist import list_jobs

    found = [_of_one_page(job) for job in list_jobs(source, destination)]
    jobs, refused = [job for job in found if not job.problem], [job for job in found if job.problem]
    if not jobs:
        raise UserError(f"none of the {len(refused)} image file(s) can be edited, for one: {refused[0].problem}")
    there = next((job.destination for job in jobs if job.destination.exists()), None)
    if there is not None and not overwrite:
        raise UserError(f"{there} is there already; choose another output, or replace it with --overwrite")
    return jobs, refused


def _of_one_page(job: Job) -> Job:
    pages = 1 if job.header is None else job.header.pages
    return job if pages == 1 else replace(job, problem=f"{job.source}: it has {pages} pages; give them one by one")


def _direction(
    task: Autoencoder, folders: Sequence[Path], direction: str, where: Devices
) -> tuple[NDArray[np.float64], str, int]:
    """Returns the direction, in words how far the folders are apart, and how many of their files cannot be read."""
    import numpy as np

    from img2img.commands.direction import classifier_direction, mean_direction, told_apart
    from img2img.data.labelled_images import LabelledImages

    def ask(task: Autoencoder, batch: Batch) -> dict[str, Any]:
        return {"latent": task.encode(batch["image"])}

    codes, unread = [], 0
    for folder in folders:
        data = LabelledImages(folder, task.network.image_size, task.network.in_channels, where.batch_size)
        rows, bad = without_problems(apply(task, data, ask, where))
        codes.append(np.stack([row["latent"].double().numpy() for row in rows]))
        unread += bad
    step = (mean_direction if direction == "mean" else classifier_direction)(*codes)
    if not step.any():
        raise UserError(f"the codes of {folders[0]} and {folders[1]} do not differ: nothing to move along")
    right = told_apart(*codes) if first_process() else None
    names = f"{folders[0].name} ({len(codes[0])}) and {folders[1].name} ({len(codes[1])})"
    if right is None:
        return step, f"{names}: too few images to say how far their codes are apart", unread
    return step, f"{names}: a linear classifier tells {100 * right:.1f} % of their codes apart, chance 50 %", unread


def _write(
    task: Autoencoder, source: Path, jobs: Sequence[Job], step: NDArray[np.float64], plain: bool, where: Devices
) -> int:
    """Writes the edited images, each process its share; returns how many could not be."""
    import torch

    from img2img.callbacks.each_image import EachImage
    from img2img.data.labelled_images import LabelledImages
    from img2img.data.worklist import reason_of

    moved_by = torch.from_numpy(step).float()

    def ask(task: Autoencoder, batch: Batch) -> dict[str, Any]:
        latent = task.encode(batch["image"])
        moved = task.decode(latent + moved_by.to(latent.device))
        return {"drawn": moved if plain else moved - task.decode(latent)}

    def write(n: int, drawn: NDArray[np.float32]) -> None:
        try:
            _write_one(jobs[n], drawn, plain)
        except (OSError, ValueError) as error:
            raise ValueError(reason_of(error, jobs[n].source)) from error

    data = LabelledImages(source, task.network.image_size, task.network.in_channels, where.batch_size)
    data.paths = [job.source for job in jobs]
    return without_problems(apply(task, data, ask, where, [EachImage(write)]))[1]


def _write_one(job: Job, drawn: NDArray[np.float32], plain: bool) -> None:
    """Writes an image changed by H×W×C of the model's size and channels, or with `plain` that itself."""
    import numpy as np

    from img2img.data.scaling import scale_to
    from img2img.imaging.files import from_float, read_image, to_channels, to_float, write_image

    image = read_image(job.source)
    height, width, channels = image.pixels.shape
    scaled = to_channels(scale_to(drawn, (height, width)), channels)
    values = scaled if plain else to_float(image.pixels) + scaled
    dtype = image.pixels.dtype
    # Floats may stand for more than white; what the file's own values are is left to it.
    pixels = values if dtype == np.float32 and not plain else from_float(values, dtype)
    write_image(job.destination, replace(image, pixels=pixels))
