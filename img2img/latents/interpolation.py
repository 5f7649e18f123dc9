"""Interpolation: the images on the straight line between the latents of two images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from img2img.errors import UserError, printable
from img2img.latents.pictures import check_picture, write_sheet_or_film

if TYPE_CHECKING:
    from torch import Tensor

    from img2img.tasks import Autoencoder


@dataclass(frozen=True, eq=False)
class Interpolation:
    """What `interpolate` returns.

    Attributes:
        originals: Both images at the model's size, 2×C×H×W in [0, 1].
        images: From the first image's reconstruction to the second's, steps×C×H×W in [0, 1].
        captions: How far each of `images` is on the way, in percent.
    """

    originals: Tensor
    images: Tensor
    captions: tuple[str, ...]


def interpolate(
    first: str | Path,
    second: str | Path,
    output: str | Path | None,
    model: str | Path | Autoencoder,
    steps: int = 8,
    overwrite: bool = False,
    trust: Sequence[str] = (),
    accelerator: str = "auto",
    precision: str = "32-true",
    batch_size: int = 32,
) -> Interpolation:
    """Draws the images on the straight line between the latents of two images; its ends are their reconstructions.

    Args:
        first: The image to begin with.
        second: The image to end with.
        output: The sheet to write, such as between.png, with the originals at both ends; or the film, between.gif,
            which runs there and back. In Python also None: the images are only returned.
        model: Checkpoint, such as runs/vae/0/best.ckpt; in Python also an autoencoder from `img2img.load`.
        steps: Images from one end to the other, at least 2 (default: 8).
        overwrite: Replace the picture if it is there.
        trust: Further package whose classes the checkpoint may name.
        accelerator: cpu, gpu, cuda, mps or auto (default: auto).
        precision: 32-true (default), bf16-mixed, 16-mixed, bf16-true, 16-true, 64-true or auto.
        batch_size: Images that go through the network together (default: 32).

    Raises:
        UserError: If a number is out of its range, an image cannot be read, the output cannot be written or is there,
            or the model is not an autoencoder.
        FileNotFoundError: If an image or the checkpoint does not exist.
    """
    if steps < 2:
        raise UserError("--steps must be at least 2: both ends")
    ends, target = (Path(first), Path(second)), None if output is None else Path(output)
    check_picture(target, ends, overwrite, moving=True)
    import torch

    from img2img.latents.one_device import OneDevice
    from img2img.tasks.latent_space import straight_line

    device = OneDevice(model, accelerator, precision, batch_size, trust)
    (start, first_image), (end, last_image) = (device.encode_file(path) for path in ends)
    latents, fractions = straight_line(start, end, steps)
    captions = tuple(f"{fraction:.0%}" for fraction in fractions)
    found = Interpolation(torch.stack([first_image, last_image]), device.decode(latents), captions)
    if target is not None:
        captions = (printable(ends[0].name), *captions, printable(ends[1].name))
        images = torch.cat([found.originals[:1], found.images, found.originals[1:]])
        write_sheet_or_film(target, images, len(images), captions, [(image[None], 1, None) for image in found.images])
    return found
