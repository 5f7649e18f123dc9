"""Encoding: the table of the latents and reconstruction errors of a folder's images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from img2img.errors import UserError
from img2img.imaging.folders import lies_in
from img2img.inference.checks import check_output_file
from img2img.latents.runner import Batch, Devices, first_process, open_autoencoder, run_over, split_problems

if TYPE_CHECKING:
    from torch import Tensor

    from img2img.latents.table import LatentTable
    from img2img.tasks import Autoencoder


def encode(
    input: str | Path,
    output: str | Path | None,
    model: str | Path | Autoencoder,
    projector: str | Path | None = None,
    overwrite: bool = False,
    trust: Sequence[str] = (),
    progress: bool = False,
    **devices: Any,
) -> LatentTable:
    """Returns, on every process, and writes a table of each image's latents, reconstruction error and PCA's.

    Args:
        input: Folder (searched recursively) or image; the names of folders are the labels.
        output: The table to write: .npz, .csv or .parquet, see `LatentTable.save`; in Python also None.
        model: Checkpoint, such as runs/vae/0/best.ckpt; in Python also an autoencoder from `img2img.load`.
        projector: Folder for TensorBoard's Projector, with thumbnails and labels.
        overwrite: Replace the table if it is there.
        trust: Further package whose classes the checkpoint may name.
        progress: Whether to show a bar.
        devices: accelerator, devices, num_nodes, precision and batch_size, see `img2img.latents.runner.Devices`.

    Raises:
        UserError: If the output cannot be written there, the model is not an autoencoder, or no image can be read.
        FileNotFoundError: If the input or the checkpoint does not exist.
    """
    import numpy as np

    from img2img.latents.table import LatentTable, check_format

    source, where = Path(input), Devices(**devices)
    if not source.exists():
        raise FileNotFoundError(f"{source} does not exist; give a folder of images or an image")
    if output is not None:
        check_format(Path(output))
        check_output_file(Path(output), source, overwrite)
    board = None if projector is None else Path(projector)
    if board is not None and source.is_dir() and lies_in(board, source):
        raise UserError(f"--projector {board} is inside the input {source}; choose another folder")
    if board is not None and (board / "projector_config.pbtxt").exists():
        raise UserError(f"--projector {board} holds latents already; choose another folder")
    task = open_autoencoder(model, trust)
    from img2img.callbacks.projector import ProjectorThumbnails
    from img2img.data.labelled_images import LabelledImages

    data = LabelledImages(source, task.network.image_size, task.network.in_channels, where.batch_size)
    small = None if board is None else ProjectorThumbnails(len(data.paths))

    def ask(task: Autoencoder, batch: Batch) -> dict[str, Any]:
        thumbnails = {} if small is None else {"thumbnail": small.of(batch["image"], batch["n"])}
        return _encoded(task, batch["image"]) | thumbnails

    rows, problems = split_problems(run_over(task, data, ask, where, progress=progress))
    names = [name for name in ("mu", "error", "log_variance", "pca", "pca_error") if name in rows[0]]
    arrays = {name: np.stack([np.asarray(row[name], np.float32) for row in rows]) for name in names}
    paths = [Path(row["path"]).relative_to(data.root).as_posix() for row in rows]
    table = LatentTable(paths, [row["label"] for row in rows], **arrays, problems=tuple(problems))
    if first_process():
        if output is not None:
            table.save(Path(output))
        if board is not None:
            _write_projector(board, table, [row["thumbnail"] for row in rows])
    return table


def _encoded(task: Autoencoder, image: Tensor) -> dict[str, Tensor]:
    """Returns the columns of the table for images N×C×H×W."""
    image = image.float()
    mu, log_variance = task.posterior(image)
    found = {"mu": mu, "error": _error(task.decode(mu), image)}
    if log_variance is not None:
        found["log_variance"] = log_variance
    if task.statistics.pca is not None:
        pca = task.statistics.pca.to(image.device)
        coordinates = pca.encode(image)
        reconstruction = pca.decode(coordinates, image.shape).clamp(0, 1)
        found |= {"pca": coordinates, "pca_error": _error(reconstruction, image)}
    return found


def _error(reconstruction: Tensor, image: Tensor) -> Tensor:
    return ((reconstruction - image) ** 2).flatten(1).mean(1)


def _write_projector(folder: Path, table: LatentTable, thumbnails: Sequence[Tensor | None]) -> None:
    import torch
    from torch.utils.tensorboard import SummaryWriter

    from img2img.callbacks.projector import Point, write_points

    points = [
        Point(i, torch.from_numpy(table.mu[i]), small, table.label[i], table.path[i], f"{table.error[i]:.5f}")
        for i, small in enumerate(thumbnails)
        if small is not None
    ]
    with SummaryWriter(str(folder)) as writer:
        write_points(writer, points, 0)
