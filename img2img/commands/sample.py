"""`img2img sample`: images that an autoencoder imagines."""

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
    without_problems,
)
from img2img.commands.checks import check_free
from img2img.commands.pictures import check_picture, training_codes, write_picture
from img2img.errors import UserError, printable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from img2img.tasks import Autoencoder


def run(command: str, arguments: Sequence[str]) -> None:
    """Draws images.

    Raises:
        SystemExit: With code 1 if some of a folder's images could not be written.
    """
    parser = argparse.ArgumentParser(
        f"img2img {command}", description="Draw images of random latents: a sheet of them, or a folder."
    )
    parser.add_argument("output", help="the sheet, such as samples.png, or (without a suffix) a folder of single PNGs")
    parser.add_argument("--n", type=int, default=64, help="how many images (default: 64)")
    parser.add_argument(
        "--draw", default="mean", choices=("mean", "sample"), help="mean of the decoder's distribution, or a draw of it"
    )
    parser.add_argument("--seed", type=int, default=0, help="image i depends on the seed and i alone (default: 0)")
    parser.add_argument("--temperature", type=float, default=1.0, help="factor of the latents' spread (default: 1)")
    parser.add_argument("--overwrite", action="store_true", help="replace what is there")
    if sample(**parse(parser, arguments)):
        raise SystemExit(1)


def sample(
    output: str | Path,
    model: str | Path | Autoencoder,
    n: int = 64,
    draw: str = "mean",
    seed: int = 0,
    temperature: float = 1.0,
    overwrite: bool = False,
    trust: Sequence[str] = (),
    **devices: Any,
) -> int:
    """Draws images of random latents: from the prior N(0, I) of a variational autoencoder.

    A plain one has no prior; its latents come from a Gaussian fitted to the codes of its training images.

    Args:
        output: The sheet to write; or, without a suffix, a folder that gets 0000.png, 0001.png …
        model: Checkpoint, or an autoencoder from `img2img.load`.
        n: How many images.
        draw: `mean` of the distribution over pixels that the decoder defines, or `sample`, a draw from it.
        seed: What image i shows depends on it and on i alone.
        temperature: Factor of the latents' spread: below 1 for images nearer to the mean.
        overwrite: Whether to replace what is there.
        trust: Further packages whose classes the checkpoint may name.
        devices: accelerator, devices, num_nodes, precision and batch_size, see `img2img.commands.applying.Devices`.

    Returns:
        How many images of a folder could not be written; they are named on stderr.

    Raises:
        UserError: If a number is out of its range, the output cannot be written or is there, or the model is no
            autoencoder, has no distribution to draw from, or knows nothing of its training codes.
    """
    if n < 1 or seed < 0 or not 0 <= temperature < math.inf:
        raise UserError("--n must be at least 1, --seed and --temperature at least 0")
    if draw not in ("mean", "sample"):
        raise UserError(f"--draw {draw} is neither mean nor sample")
    target, single = Path(output), not Path(output).suffix
    files = [target / f"{i:0{max(4, len(str(n - 1)))}}.png" for i in range(n)] if single else []
    if single and target.exists() and not target.is_dir():
        raise UserError(f"{target} is a file; give a folder, or the name of a sheet such as {target}.png")
    for file in files:
        check_free(file, overwrite)
    if not single:
        check_picture(target, overwrite=overwrite)
    task, where = open_autoencoder(model, trust), Devices(**devices)
    latents, origin = _latents(task, n, seed, temperature)
    if draw == "sample":
        task.draw(latents[:1])  # so that a decoder without a distribution is refused before any work
    unwritten = _draw(task, latents, draw, seed, where, target, files)
    if first_process():
        print(printable(f"{n - unwritten} image(s) drawn from {origin}: {target}"))
    return unwritten


def _draw(
    task: Autoencoder, latents: Tensor, draw: str, seed: int, where: Devices, target: Path, files: Sequence[Path]
) -> int:
    """Writes the sheet, or where there are `files` each image as one; returns how many could not be written."""
    import torch

    from img2img.callbacks.each_image import EachImage
    from img2img.callbacks.sheets import draw_sheet
    from img2img.data.numbers import Numbers
    from img2img.imaging.values import from_float

    def ask(task: Autoencoder, batch: Batch) -> dict[str, Any]:
        return {"drawn": _images(task, batch, draw, seed)}

    def write(n: int, pixels: NDArray[np.float32]) -> None:
        write_picture(files[n], from_float(pixels, "uint8"))

    data = Numbers(latents, where.batch_size)
    if files:
        return without_problems(apply(task, data, ask, where, [EachImage(write)]))[1]
    rows = apply(task, data, ask, where)
    if first_process():
        images = torch.stack([row["drawn"] for row in rows])
        write_picture(target, draw_sheet(images, math.ceil(math.sqrt(len(images)))))
    return 0


def _images(task: Autoencoder, batch: Batch, draw: str, seed: int) -> Tensor:
    import torch

    from img2img.data.stream import draws_of_sample

    latents: Tensor = batch["numbers"]
    if draw == "mean":
        return task.decode(latents)
    # One by one, so that the noise of an image does not depend on its batch. The stream's first generator made its
    # latent, the second one makes its pixels.
    seeds = [draws_of_sample(seed, n)[1].getrandbits(63) for n in batch["n"].tolist()]
    generators = [torch.Generator(latents.device).manual_seed(number) for number in seeds]
    return torch.cat([task.draw(latents[i : i + 1], generators[i]) for i in range(len(latents))])


def _latents(task: Autoencoder, n: int, seed: int, temperature: float) -> tuple[Tensor, str]:
    """Returns latents n×k to draw, and in words what they were drawn from."""
    import numpy as np
    import torch

    from img2img.data.stream import draws_of_sample

    rows = [draws_of_sample(seed, i)[0].standard_normal(task.network.latent_dim) for i in range(n)]
    noise = temperature * torch.from_numpy(np.stack(rows))
    if task.per_latent > 1:  # mean and variance: a posterior that was held near N(0, I)
        return noise.float(), "the prior N(0, I)"
    codes = training_codes(task)
    variances, axes = torch.linalg.eigh(codes["covariance"].double())
    spread = (axes * variances.clamp_min(0).sqrt()) @ axes.T  # the symmetric root, which is unique
    latents = codes["mean"].double() + noise @ spread
    return latents.float(), "a Gaussian fitted to the codes of its training images"
