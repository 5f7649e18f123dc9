"""Image files that an autoencoder changes or replaces; tree, names and metadata are kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from img2img.errors import UserError, printable
from img2img.inference.checks import check_folders
from img2img.inference.jobs import Job, list_jobs
from img2img.latents.runner import Batch, Devices, run_over

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from img2img.tasks import Autoencoder

Making = Callable[["Autoencoder", "Tensor"], "Tensor"]
"""Maps a model and images N×C×H×W to images of the same shape, or to what is added to them."""


def plan_outputs(source: Path, destination: Path, overwrite: bool) -> tuple[list[Job], list[str]]:
    """Returns the images to work on, and a line for each file that cannot be used: unreadable, or of several pages.

    The source is a folder, searched recursively, or an image; the destination a folder, which gets the same tree, or
    for an image also an image's name.

    Raises:
        UserError: If the places are wrong (see `check_folders`), there is no image to work on, or an output exists that
            may not be replaced.
    """
    check_folders(source, destination)
    jobs, problems = [], []
    for job in list_jobs([source], destination):
        pages = 1 if job.header is None else job.header.pages
        problem = job.problem if pages == 1 else f"{job.source}: it has {pages} pages; give them one by one"
        if problem:
            problems.append(problem)
        else:
            jobs.append(job)
    if not jobs:
        raise UserError(f"none of the {len(problems)} image file(s) can be used; the first: {printable(problems[0])}")
    there = next((job.destination for job in jobs if job.destination.exists()), None)
    if there is not None and not overwrite:
        raise UserError(f"{there} is there already; choose another output, or replace it with --overwrite")
    return jobs, problems


def write_outputs(
    task: Autoencoder,
    source: Path,
    jobs: Sequence[Job],
    make: Making,
    where: Devices,
    added: bool = False,
    progress: bool = False,
) -> tuple[list[Path], list[str]]:
    """Writes what the model makes of each image, scaled to the image's own size; each process writes its share.

    Args:
        task: The model.
        source: Folder of the images, or the one image.
        jobs: The images and their destinations.
        make: Called with the model and each batch of images, on its device.
        where: Where to compute.
        added: Whether the result is added to the image, so that its detail stays, instead of replacing it.
        progress: Whether to show a bar.

    Returns:
        The files that were written, and a line for each image that was not; the same on every process.

    Raises:
        UserError: If no image could be written.
    """
    from img2img.data.labelled_images import LabelledImages

    def ask(task: Autoencoder, batch: Batch) -> dict[str, Tensor]:
        return {"output": make(task, batch["image"])}

    size, channels = task.network.image_size, task.network.in_channels
    data = LabelledImages(source, size, channels, where.batch_size, paths=[job.source for job in jobs])
    rows = run_over(task, data, ask, where, lambda n, values: _write_one(jobs[n], values, added), progress)
    problems = [str(row["problem"]) for row in rows if row["problem"]]
    if len(problems) == len(jobs):
        raise UserError(f"none of the {len(jobs)} image(s) can be written; the first: {printable(problems[0])}")
    return [jobs[int(row["n"])].destination for row in rows if not row["problem"]], problems


def _write_one(job: Job, values: NDArray[np.float32], added: bool) -> None:
    """Writes H×W×C at the image's size and with its channels, or adds them to the image."""
    import numpy as np

    from img2img.data.scaling import scale_to
    from img2img.imaging.files import from_float, read_image, to_channels, to_float, write_image

    image = read_image(job.source)
    height, width, channels = image.pixels.shape
    scaled, dtype = to_channels(scale_to(values, (height, width)), channels), image.pixels.dtype
    if added:
        scaled = to_float(image.pixels) + scaled
    # A float image may hold values above 1, which from_float would clip.
    pixels = scaled if added and dtype == np.float32 else from_float(scaled, dtype)
    write_image(job.destination, replace(image, pixels=pixels))
