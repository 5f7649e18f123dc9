"""`img2img interpolate`: from one image to another, through the latents between them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from img2img.commands.applying import Devices, first_process, open_autoencoder, parse
from img2img.commands.pictures import check_picture, decode_all, look_at, write_picture
from img2img.errors import UserError, printable

if TYPE_CHECKING:
    from img2img.tasks import Autoencoder


def run(command: str, arguments: Sequence[str]) -> None:
    """Draws the way from one image to another."""
    parser = argparse.ArgumentParser(
        f"img2img {command}", description="Draw what an autoencoder sees between two images, in equal steps."
    )
    parser.add_argument("first", help="the image to begin with")
    parser.add_argument("second", help="the image to end with")
    parser.add_argument("output", help="the sheet, such as between.png, or the film, between.gif")
    parser.add_argument("--steps", type=int, default=8, help="images from one end to the other (default: 8)")
    parser.add_argument("--overwrite", action="store_true", help="replace the picture if it is there")
    interpolate(**parse(parser, arguments))


def interpolate(
    first: str | Path,
    second: str | Path,
    output: str | Path,
    model: str | Path | Autoencoder,
    steps: int = 8,
    overwrite: bool = False,
    trust: Sequence[str] = (),
    **devices: Any,
) -> None:
    """Draws the images on the straight line between the latents of two; its ends are their reconstructions.

    Args:
        first: The image to begin with.
        second: The image to end with.
        output: The sheet to write, with the originals at both ends; or a `.gif`, which runs there and back.
        model: Checkpoint, or an autoencoder from `img2img.load`.
        steps: Images from one end to the other, at least 2.
        overwrite: Whether to replace the picture if it is there.
        trust: Further packages whose classes the checkpoint may name.
        devices: accelerator, devices, num_nodes, precision and batch_size, see `img2img.commands.applying.Devices`.

    Raises:
        UserError: If a number is out of its range, an image cannot be read, the output cannot be written or is there,
            or the model is no autoencoder.
        FileNotFoundError: If an image or the checkpoint does not exist.
    """
    if steps < 2:
        raise UserError("--steps must be at least 2: both ends")
    ends, target = (Path(first), Path(second)), Path(output)
    check_picture(target, ends, overwrite, moving=True)
    task, where = open_autoencoder(model, trust), Devices(**devices)
    import torch

    from img2img.callbacks.sheets import draw_sheet
    from img2img.imaging.animation import write_gif

    (start, seen), (end, seen_last) = (look_at(task, path, where) for path in ends)
    shares = torch.linspace(0, 1, steps)
    drawn = decode_all(task, torch.lerp(start, end, shares[:, None]), where)
    if not first_process():
        return
    if target.suffix.lower() == ".gif":
        write_gif(target, [draw_sheet(image[None], 1) for image in drawn])
    else:
        captions = [printable(ends[0].name), *(f"{share:.0%}" for share in shares), printable(ends[1].name)]
        images = torch.cat([seen[None], drawn, seen_last[None]])
        write_picture(target, draw_sheet(images, len(images), captions))
    print(printable(f"{steps} images from {ends[0].name} to {ends[1].name}: {target}"))
