"""Traversal: an image with one latent at a time set to the values that it has for the training images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from img2img.errors import UserError
from img2img.latents.pictures import check_picture, write_sheet_or_film

if TYPE_CHECKING:
    from torch import Tensor

    from img2img.tasks import Autoencoder


@dataclass(frozen=True, eq=False)
class Traversal:
    """What `traverse` returns.

    Attributes:
        latents: The latents shown, the one with the largest mean squared change first.
        changes: For all k latents, the mean squared change of the image between their lowest and highest quantile.
        original: The image at the model's size, C×H×W in [0, 1].
        reconstruction: Its reconstruction, C×H×W in [0, 1].
        images: For each of `latents` the image at each level, one latent after the other, N×C×H×W in [0, 1].
        captions: For each of `images`, the latent and the level of its quantile.
    """

    latents: tuple[int, ...]
    changes: Tensor
    original: Tensor
    reconstruction: Tensor
    images: Tensor
    captions: tuple[str, ...]


def traverse(
    input: str | Path,
    output: str | Path | None,
    model: str | Path | Autoencoder,
    latents: int = 8,
    steps: int = 7,
    overwrite: bool = False,
    trust: Sequence[str] = (),
    accelerator: str = "auto",
    precision: str = "32-true",
    batch_size: int = 32,
) -> Traversal:
    """Draws an image with one latent at a time set to its quantiles over the training images.

    Args:
        input: The image.
        output: The sheet to write, such as latents.png, a row for each latent; or the film, such as latents.gif, in
            which all move at once, there and back. In Python also None: the images are only returned.
        model: Checkpoint, such as runs/vae/0/best.ckpt; in Python also an autoencoder from `img2img.load`.
        latents: How many latents, those that change the image most between their 1st and 99th percentile (default: 8).
        steps: Values of each latent, at least 2 (default: 7, the quantiles that the checkpoint holds; others are
            interpolated).
        overwrite: Replace the picture if it is there.
        trust: Further package whose classes the checkpoint may name.
        accelerator: cpu, gpu, cuda, mps or auto (default: auto).
        precision: 32-true (default), bf16-mixed, 16-mixed, bf16-true, 16-true, 64-true or auto.
        batch_size: Images that go through the network together (default: 32).

    Raises:
        UserError: If a number is out of its range, the image cannot be read, the output cannot be written or is there,
            or the model is not an autoencoder or has no statistics of its training latents.
        FileNotFoundError: If the image or the checkpoint does not exist.
    """
    if latents < 1 or steps < 2:
        raise UserError("--latents must be at least 1 and --steps at least 2")
    source, target = Path(input), None if output is None else Path(output)
    check_picture(target, [source], overwrite, moving=True)
    import torch

    from img2img.imaging.drawing import PAPER
    from img2img.latents.one_device import OneDevice
    from img2img.tasks.latent_space import effects, one_moved, quantile_values, training_latents

    device = OneDevice(model, accelerator, precision, batch_size, trust)
    quantiles = training_latents(device.task).quantiles
    if quantiles is None:
        raise UserError("this checkpoint has no quantiles of its training latents: train it again with `img2img fit`")
    levels, values = quantile_values(quantiles, steps)
    latent, image = device.encode_file(source)
    changes = effects(device.decode, latent, range(len(latent)), values[[0, -1]], batch_size)
    shown = changes.argsort(descending=True, stable=True)[:latents].tolist()
    moved = one_moved(latent, shown, values).flatten(0, 1)
    images = device.decode(torch.cat([latent[None], moved]))
    captions = tuple(f"z{d} at {level:.0%}" for d in shown for level in levels)
    found = Traversal(tuple(shown), changes, image, images[0], images[1:], captions)
    if target is not None:
        columns, names = math.ceil(math.sqrt(len(shown))), [f"z{d}" for d in shown]
        frames = [(found.images[step::steps], columns, names) for step in range(steps)]
        blank = torch.full_like(images[:1], PAPER / 255).expand(steps - 2, -1, -1, -1)
        titles = ["original", "reconstruction", *[""] * (steps - 2), *captions]
        sheet = torch.cat([image[None], images[:1], blank, found.images])
        write_sheet_or_film(target, sheet, steps, titles, frames)
    return found
