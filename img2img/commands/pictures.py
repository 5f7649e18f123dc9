"""What the commands share that draw what an autoencoder imagines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from img2img.commands.applying import Batch, Devices, apply
from img2img.commands.checks import check_free
from img2img.errors import UserError
from img2img.imaging.formats import WRITABLE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from img2img.tasks import Autoencoder


def check_picture(output: Path, inputs: Sequence[Path] = (), overwrite: bool = False, moving: bool = False) -> None:
    """Refuses what could not be written, or would replace something, before any work.

    Args:
        output: The picture to write.
        inputs: The images it is made of, which must be there.
        overwrite: Whether a file that is there may be replaced; an input never is.
        moving: Whether a GIF is possible.

    Raises:
        FileNotFoundError: If an input is not there.
        UserError: If an input is a folder, or the output cannot be written.
    """
    for path in inputs:
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist; give an image")
        if path.is_dir():
            raise UserError(f"{path} is a folder; give an image")
    suffixes = WRITABLE | ({".gif"} if moving else set())
    if output.suffix.lower() not in suffixes:
        raise UserError(f"{output}: the formats of pictures are {', '.join(sorted(suffixes))}")
    check_free(output, overwrite)
    if output.exists() and any(output.samefile(path) for path in inputs):
        raise UserError(f"{output} is an input; choose another output")


def look_at(task: Autoencoder, path: Path, where: Devices) -> tuple[Tensor, Tensor]:
    """Returns the latent of an image file, k numbers, and the image as the model sees it, C×H×W in [0, 1].

    Raises:
        UserError: If the file cannot be read.
    """
    from img2img.data.labelled_images import LabelledImages

    def ask(task: Autoencoder, batch: Batch) -> dict[str, Any]:
        return {"latent": task.encode(batch["image"]), "seen": batch["image"]}

    data = LabelledImages(path, task.network.image_size, task.network.in_channels)
    (row,) = apply(task, data, ask, where, progress=False)
    if row["problem"]:
        raise UserError(row["problem"])
    return row["latent"], row["seen"]


def decode_all(task: Autoencoder, latents: Tensor, where: Devices) -> Tensor:
    """Returns the images of latents N×k, N×C×H×W in [0, 1], on every process."""
    import torch

    from img2img.data.numbers import Numbers

    def ask(task: Autoencoder, batch: Batch) -> dict[str, Any]:
        return {"drawn": task.decode(batch["numbers"])}

    rows = apply(task, Numbers(latents, where.batch_size), ask, where, progress=False)
    return torch.stack([row["drawn"] for row in rows])


def training_codes(task: Autoencoder) -> dict[str, Tensor]:
    """Returns what the model knows of the latents of its training images; see `Statistics.latents`.

    Raises:
        UserError: If nothing was measured.
    """
    if not task.statistics.latents:
        raise UserError(
            "this checkpoint knows nothing of the codes of its training images, which are measured when training ends: "
            "go on with img2img fit … --ckpt_path last"
        )
    return task.statistics.latents


def write_picture(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Writes H×W×3 in the format of the suffix; it appears complete or not at all."""
    from img2img.imaging.files import Image, write_image

    write_image(path, Image(pixels, None, {}))
