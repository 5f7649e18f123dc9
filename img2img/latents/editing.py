"""Editing: gives images an attribute, such as a smile, by a direction between two folders' latents."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from img2img.errors import UserError
from img2img.imaging.folders import lies_in
from img2img.latents.runner import Devices, open_autoencoder, run_over, split_problems

if TYPE_CHECKING:
    from torch import Tensor

    from img2img.latents.directions import Latents
    from img2img.tasks import Autoencoder


@dataclass(frozen=True)
class EditResult:
    """What `edit` returns, on every process.

    Attributes:
        files: What was written.
        images: Number of images of each folder that gave the direction.
        told_apart: How often a linear classifier is right about the folder of a latent that it was not fitted to, from
            0 to 1, chance 0.5; None where a folder has a single image.
        problems: A line for each file that could not be read, edited or written.
    """

    files: tuple[Path, ...]
    images: tuple[int, int]
    told_apart: float | None
    problems: tuple[str, ...] = ()


def edit(
    input: str | Path,
    output: str | Path,
    model: str | Path | Autoencoder,
    start: str | Path,
    end: str | Path,
    strength: float = 1.0,
    direction: Literal["mean", "classifier"] = "mean",
    plain: bool = False,
    overwrite: bool = False,
    trust: Sequence[str] = (),
    progress: bool = False,
    **devices: Any,
) -> EditResult:
    """Moves images along the direction between two folders' latents; outputs keep tree, name, size, depth, metadata.

    The change of the reconstruction, decode(z + strength · d) - decode(z), is scaled to the image's size and added to
    it, so that detail that the model cannot draw stays.

    Args:
        input: Folder (searched recursively) or image.
        output: Folder, which gets the same tree and names; or image, if the input is one.
        model: Checkpoint, such as runs/vae/0/best.ckpt; in Python also an autoencoder from `img2img.load`.
        start: Folder of images without the attribute, such as neutral/.
        end: Folder of images with it, such as smile/.
        strength: 1 moves by the distance between both folders' means (default), 0 by nothing, -1 back.
        direction: Difference of the latents' means (default), or the normal of a linear classifier.
        plain: Write decode(z + strength · d) itself, instead of adding its change to the original.
        overwrite: Replace outputs that are there.
        trust: Further package whose classes the checkpoint may name.
        progress: Whether to show a bar.
        devices: accelerator, devices, num_nodes, precision and batch_size, see `img2img.latents.runner.Devices`.

    Raises:
        UserError: If an option is wrong, there are no images, outputs exist or would be among inputs, the two folders
            do not differ, no image can be written, or the model is not an autoencoder.
        FileNotFoundError: If a folder or the checkpoint does not exist.
    """
    if direction not in ("mean", "classifier") or not math.isfinite(strength):
        raise UserError("--direction is one of mean, classifier, and --strength a number")
    source, destination, where = Path(input), Path(output), Devices(**devices)
    folders = (Path(start), Path(end))
    for folder, option in zip(folders, ("--from", "--to"), strict=True):
        if not folder.exists():
            raise FileNotFoundError(f"{option} {folder} does not exist; give a folder of images")
        if lies_in(destination, folder):
            raise UserError(f"the output {destination} is inside {option} {folder}; choose another")
    from img2img.latents.rewriting import plan_outputs, write_outputs

    jobs, refused = plan_outputs(source, destination, overwrite)
    task = open_autoencoder(model, trust)
    import torch

    from img2img.latents.directions import classifier_direction, mean_direction, told_apart

    (before, unread), (after, unread_after) = (_latents(task, folder, where, progress) for folder in folders)
    step = (mean_direction if direction == "mean" else classifier_direction)(before, after)
    if not step.any():
        raise UserError(f"the latents of {start} and {end} do not differ, so there is no direction to move in")
    moved_by = torch.from_numpy(strength * step).float()

    def make(task: Autoencoder, image: Tensor) -> Tensor:
        latent = task.encode(image)
        moved = task.decode(latent + moved_by.to(latent.device))
        return moved if plain else moved - task.decode(latent)

    files, unwritten = write_outputs(task, source, jobs, make, where, added=not plain, progress=progress)
    problems = (*unread, *unread_after, *unwritten, *refused)
    return EditResult(tuple(files), (len(before), len(after)), told_apart(before, after), problems)


def _latents(task: Autoencoder, folder: Path, where: Devices, progress: bool) -> tuple[Latents, list[str]]:
    """Returns the latents of a folder's images, n×k, and a line for each file that cannot be read."""
    import numpy as np

    from img2img.data.labelled_images import LabelledImages

    data = LabelledImages(folder, task.network.image_size, task.network.in_channels, where.batch_size)
    found = run_over(task, data, lambda task, batch: {"latent": task.encode(batch["image"])}, where, progress=progress)
    rows, problems = split_problems(found)
    return np.stack([row["latent"].double().numpy() for row in rows]), problems
