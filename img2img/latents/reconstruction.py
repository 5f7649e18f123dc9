"""Reconstruction: the images of a folder as an autoencoder draws them; a denoising one removes noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from img2img.latents.runner import Devices, open_autoencoder

if TYPE_CHECKING:
    from img2img.tasks import Autoencoder


@dataclass(frozen=True)
class ReconstructResult:
    """What `reconstruct` returns, on every process.

    Attributes:
        files: What was written.
        problems: A line for each file that could not be read or written.
    """

    files: tuple[Path, ...]
    problems: tuple[str, ...] = ()


def reconstruct(
    input: str | Path,
    output: str | Path,
    model: str | Path | Autoencoder,
    overwrite: bool = False,
    trust: Sequence[str] = (),
    progress: bool = False,
    **devices: Any,
) -> ReconstructResult:
    """Writes the autoencoder's reconstruction of each image; outputs keep tree, name, size, depth and metadata.

    Images are scaled to the network's size, and their reconstructions back to the images' own. A model that was
    trained with a `corruption` (a denoising autoencoder) gives the clean image.

    Args:
        input: Folder (searched recursively) or image.
        output: Folder, which gets the same tree and names; or image, if the input is one.
        model: Checkpoint, such as runs/autoencode/0/best.ckpt; in Python also an autoencoder from `img2img.load`.
        overwrite: Replace outputs that are there.
        trust: Further package whose classes the checkpoint may name.
        progress: Whether to show a bar.
        devices: accelerator, devices, num_nodes, precision and batch_size, see `img2img.latents.runner.Devices`.

    Raises:
        UserError: If there are no images, outputs are there or would be among the inputs, no image can be written, or
            the model is not an autoencoder.
        FileNotFoundError: If the checkpoint does not exist.
    """
    from img2img.latents.rewriting import plan_outputs, write_outputs

    source, where = Path(input), Devices(**devices)
    jobs, refused = plan_outputs(source, Path(output), overwrite)
    task = open_autoencoder(model, trust)
    files, unwritten = write_outputs(task, source, jobs, lambda task, image: task(image), where, progress=progress)
    return ReconstructResult(tuple(files), (*refused, *unwritten))
