"""`img2img traverse`: what each latent of an image means."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from img2img.commands.applying import (
    Batch,
    Devices,
    apply,
    first_process,
    open_autoencoder,
    parse,
)
from img2img.commands.pictures import check_picture, decode_all, look_at, training_codes, write_picture
from img2img.errors import UserError, printable

if TYPE_CHECKING:
    from torch import Tensor

    from img2img.tasks import Autoencoder


def run(command: str, arguments: Sequence[str]) -> None:
    """Draws an image with one latent after the other changed."""
    parser = argparse.ArgumentParser(
        f"img2img {command}",
        description="Draw an image with each latent in turn at the values that it takes over the training images, "
        "those first that change the image most.",
    )
    parser.add_argument("image", help="the image")
    parser.add_argument("output", help="the sheet, such as latents.png, or the film, latents.gif")
    parser.add_argument("--latents", type=int, default=8, help="how many latents (default: 8)")
    parser.add_argument("--steps", type=int, default=7, help="values of each, from its 1st to its 99th percentile")
    parser.add_argument("--overwrite", action="store_true", help="replace the picture if it is there")
    traverse(**parse(parser, arguments))


def traverse(
    image: str | Path,
    output: str | Path,
    model: str | Path | Autoencoder,
    latents: int = 8,
    steps: int = 7,
    overwrite: bool = False,
    trust: Sequence[str] = (),
    **devices: Any,
) -> list[int]:
    """Draws an image with one latent at a time set to its quantiles over the training images.

    Args:
        image: The image.
        output: The sheet to write, a row for each latent; or a `.gif`, in which all move at once, there and back.
        model: Checkpoint, or an autoencoder from `img2img.load`.
        latents: How many to show: those that change the image most between their lowest and highest quantile.
        steps: Values of each latent, at least 2; 7 are the quantiles that the checkpoint holds, others lie between.
        overwrite: Whether to replace the picture if it is there.
        trust: Further packages whose classes the checkpoint may name.
        devices: accelerator, devices, num_nodes, precision and batch_size, see `img2img.commands.applying.Devices`.

    Returns:
        The latents shown, that of the largest mean squared change first.

    Raises:
        UserError: If a number is out of its range, the image cannot be read, the output cannot be written or is there,
            or the model is no autoencoder or knows nothing of its training codes.
        FileNotFoundError: If the image or the checkpoint does not exist.
    """
    if latents < 1 or steps < 2:
        raise UserError("--latents must be at least 1 and --steps at least 2")
    source, target = Path(image), Path(output)
    check_picture(target, [source], overwrite, moving=True)
    task, where = open_autoencoder(model, trust), Devices(**devices)
    import torch

    levels, values = _levels(training_codes(task)["quantiles"], steps)
    latent, seen = look_at(task, source, where)
    changes = _changes(task, latent, values[[0, -1]], where)
    shown = changes.argsort(descending=True)[:latents].tolist()
    rows = [_with(latent, d, values[:, d]) for d in shown]
    drawn = decode_all(task, torch.cat([latent[None], *rows]), where)
    if first_process():
        _write(target, seen, drawn, shown, levels)
        most = "; ".join(f"z{d} {changes[d]:.2g}" for d in shown[:3])
        print(printable(f"{len(shown)} of {len(latent)} latents, by mean squared change ({most}): {target}"))
    return shown


def _levels(quantiles: Tensor, steps: int) -> tuple[list[float], Tensor]:
    """Returns as many levels from the lowest to the highest of `QUANTILES`, and the latents' values there, steps×k.

    Between those that are known both are interpolated.
    """
    import numpy as np
    import torch

    from img2img.tasks.autoencoding import QUANTILES

    known = np.arange(len(QUANTILES))
    places = np.linspace(0, len(QUANTILES) - 1, steps)
    values = [np.interp(places, known, column.numpy()) for column in quantiles.T]
    return np.interp(places, known, QUANTILES).tolist(), torch.from_numpy(np.stack(values, 1)).float()


def _with(latent: Tensor, d: int, values: Tensor) -> Tensor:
    """Returns a latent k as many times as there are values, with them as its number d."""
    changed = latent.repeat(len(values), 1)
    changed[:, d] = values
    return changed


def _changes(task: Autoencoder, latent: Tensor, ends: Tensor, where: Devices) -> Tensor:
    """Returns for each of k latents the mean squared change of the image between two values of it; ends is 2×k."""
    import torch

    from img2img.data.numbers import Numbers

    k = len(latent)

    def ask(task: Autoencoder, batch: Batch) -> dict[str, Any]:
        low, high = (task.decode(half) for half in batch["numbers"].split(k, 1))
        return {"change": ((high - low) ** 2).flatten(1).mean(1)}

    pairs = torch.stack([_with(latent, d, ends[:, d]).flatten() for d in range(k)])
    rows = apply(task, Numbers(pairs, where.batch_size), ask, where, progress=False)
    return torch.tensor([row["change"] for row in rows])


def _write(target: Path, seen: Tensor, drawn: Tensor, shown: Sequence[int], levels: Sequence[float]) -> None:
    """Writes the sheet or the film; `drawn` has the image as it is drawn anew, then the latents' rows."""
    import torch

    from img2img.callbacks.sheets import PAPER, draw_sheet
    from img2img.imaging.animation import write_gif

    steps, rows = len(levels), drawn[1:]
    if target.suffix.lower() == ".gif":
        columns = math.ceil(math.sqrt(len(shown)))
        names = [f"z{d}" for d in shown]
        write_gif(target, [draw_sheet(rows[step::steps], columns, names) for step in range(steps)])
        return
    blank = torch.full_like(drawn[:1], PAPER / 255).expand(steps - 2, -1, -1, -1)
    captions = ["original", "drawn anew", *[""] * (steps - 2)]
    captions += [f"z{d} at {level:.0%}" for d in shown for level in levels]
    write_picture(target, draw_sheet(torch.cat([seen[None], drawn[:1], blank, rows]), steps, captions))
