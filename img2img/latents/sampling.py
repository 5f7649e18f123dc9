"""Sampling: images of random latents, as a sheet or a folder of single files."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from img2img.errors import UserError, printable
from img2img.inference.checks import check_free
from img2img.latents.pictures import check_picture, write_picture

if TYPE_CHECKING:
    from torch import Tensor

    from img2img.latents.one_device import OneDevice
    from img2img.tasks import Autoencoder


@dataclass(frozen=True, eq=False)
class SampleResult:
    """What `sample` returns.

    Attributes:
        origin: What the latents were drawn from, in words.
        images: N×C×H×W on the CPU, in [0, 1] except with `draw="sample"`, which is not clamped; None for a folder,
            which may hold more images than the memory.
        files: What was written: the sheet, or the folder's images.
        problems: A line for each image of a folder that could not be written.
    """

    origin: str
    images: Tensor | None = None
    files: tuple[Path, ...] = ()
    problems: tuple[str, ...] = ()


def sample(
    output: str | Path | None,
    model: str | Path | Autoencoder,
    n: int = 64,
    draw: Literal["mean", "sample"] = "mean",
    seed: int = 0,
    temperature: float = 1.0,
    overwrite: bool = False,
    trust: Sequence[str] = (),
    accelerator: str = "auto",
    precision: str = "32-true",
    batch_size: int = 32,
) -> SampleResult:
    """Draws images of random latents: from the prior N(0, I) of a variational autoencoder.

    A plain autoencoder has no prior; its latents come from a Gaussian fitted to the latents of its training images.

    Args:
        output: The sheet to write, such as samples.png; or, without a suffix, a folder that gets 0000.png, 0001.png …
            In Python also None: the images are only returned.
        model: Checkpoint, such as runs/vae/0/best.ckpt; in Python also an autoencoder from `img2img.load`.
        n: How many images (default: 64).
        draw: Mean of the distribution over pixels that the decoder defines (default), or a sample of it.
        seed: What image i shows depends on the seed and on i alone (default: 0).
        temperature: Factor of the latents' spread: below 1 for images nearer to the mean (default: 1).
        overwrite: Replace what is there.
        trust: Further package whose classes the checkpoint may name.
        accelerator: cpu, gpu, cuda, mps or auto (default: auto).
        precision: 32-true (default), bf16-mixed, 16-mixed, bf16-true, 16-true, 64-true or auto.
        batch_size: Images that go through the network together (default: 32).

    Raises:
        UserError: If a number is out of its range, the output cannot be written or is there, or the model is not an
            autoencoder, has no distribution to draw from, or has no statistics of its training latents.
        FileNotFoundError: If the checkpoint does not exist.
    """
    if n < 1 or seed < 0 or not 0 <= temperature < math.inf:
        raise UserError("--n must be at least 1, --seed and --temperature at least 0")
    if draw not in ("mean", "sample"):
        raise UserError(f"--draw {draw} is neither mean nor sample")
    target = None if output is None else Path(output)
    files = _single_files(target, n, overwrite)
    if not files:
        check_picture(target, overwrite=overwrite)
    import torch

    from img2img.imaging.drawing import draw_sheet
    from img2img.latents.one_device import OneDevice
    from img2img.tasks.latent_space import sampled_latents

    device = OneDevice(model, accelerator, precision, batch_size, trust)
    latents, origin = sampled_latents(device.task, n, seed, temperature)
    batches = _batches(device, latents, draw, seed)
    if files:
        written, problems = _write_each(batches, files)
        if not written:
            raise UserError(f"none of the {n} image(s) can be written; the first: {printable(problems[0])}")
        return SampleResult(origin, files=tuple(written), problems=tuple(problems))
    images = torch.cat(list(batches))
    if target is not None:
        write_picture(target, draw_sheet(images, math.ceil(math.sqrt(n))))
    return SampleResult(origin, images, () if target is None else (target,))


def _single_files(target: Path | None, n: int, overwrite: bool) -> list[Path]:
    """Returns the files of a folder of n images; an empty list if the output is a sheet or None."""
    if target is None or target.suffix:
        return []
    if target.exists() and not target.is_dir():
        raise UserError(f"{target} is a file; give a folder, or the name of a sheet such as {target}.png")
    digits = max(4, len(str(n - 1)))
    files = [target / f"{i:0{digits}}.png" for i in range(n)]
    for file in files:
        check_free(file, overwrite)
    return files


def _batches(device: OneDevice, latents: Tensor, draw: str, seed: int) -> Iterator[Tensor]:
    """Yields the images of latents batch by batch, N×C×H×W on the CPU."""
    from img2img.tasks.latent_space import drawn_images

    for first in range(0, len(latents), device.batch_size):
        draws = partial(drawn_images, device.task, seed=seed, first=first)
        make = device.task.decode if draw == "mean" else draws
        yield device.compute(make, latents[first : first + device.batch_size])


def _write_each(batches: Iterable[Tensor], files: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """Writes each image into its file; returns the files, and a line for each that could not be written."""
    from img2img.imaging.values import from_float
    from img2img.inference.jobs import reason_of

    written: list[Path] = []
    problems: list[str] = []
    images = (image for batch in batches for image in batch.permute(0, 2, 3, 1).numpy())
    for file, image in zip(files, images, strict=True):
        try:
            write_picture(file, from_float(image, "uint8"))
            written.append(file)
        except (OSError, ValueError) as error:
            problems.append(reason_of(error, file))
    return written, problems
