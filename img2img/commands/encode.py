"""`img2img encode`: every image of a folder as the few numbers that an autoencoder makes of it."""

from __future__ import annotations

import argparse
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
from img2img.commands.checks import check_output_file
from img2img.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from img2img.commands.latent_table import LatentTable
    from img2img.tasks import Autoencoder


def run(command: str, arguments: Sequence[str]) -> None:
    """Writes the table of a folder, and says how well the model draws its images anew.

    Raises:
        SystemExit: With code 1 if some file could not be read.
    """
    parser = argparse.ArgumentParser(
        f"img2img {command}", description="Write what an autoencoder makes of each image of a folder: a few numbers."
    )
    parser.add_argument("input", help="folder (searched recursively) or image; the names of folders are the labels")
    parser.add_argument("output", help="the table to write: .npz, .csv or .parquet")
    parser.add_argument("--projector", metavar="DIR", help="also a folder for TensorBoard's Projector, with thumbnails")
    parser.add_argument("--overwrite", action="store_true", help="replace the table if it is there")
    options = parse(parser, arguments)
    source, output, projector = (options.pop(name) for name in ("input", "output", "projector"))
    model, overwrite, trust = (options.pop(name) for name in ("model", "overwrite", "trust"))
    board = None if projector is None else Path(projector)
    table, unreadable = _encode(Path(source), Path(output), model, board, overwrite, trust, Devices(**options))
    if first_process():
        linear = "" if table.pca_error is None else f", PCA {table.pca_error.mean():.5f}"
        print(
            f"{len(table)} image(s) of {len(set(table.label))} label(s): {output}; "
            f"error {table.error.mean():.5f}{linear}"
        )
        if projector is not None:
            print(f"Projector: img2img watch {projector}")
    if unreadable:
        raise SystemExit(1)


def encode(
    source: str | Path,
    output: str | Path | None,
    model: str | Path | Autoencoder,
    projector: str | Path | None = None,
    overwrite: bool = False,
    trust: Sequence[str] = (),
    **devices: Any,
) -> LatentTable:
    """Returns, and writes, what an autoencoder makes of each image; unreadable files are named on stderr.

    Args:
        source: Folder, searched recursively, or image.
        output: The table to write, `.npz`, `.csv` or `.parquet`, see `LatentTable.save`; None for none.
        model: Checkpoint, or an autoencoder from `img2img.load`.
        projector: Folder for TensorBoard's Projector, with thumbnails and labels; None for none.
        overwrite: Whether to replace the table if it is there.
        trust: Further packages whose classes the checkpoint may name.
        devices: accelerator, devices, num_nodes, precision and batch_size, see `img2img.commands.applying.Devices`.

    Returns:
        The table, on every process.

    Raises:
        UserError: If the output cannot be written there, the model is no autoencoder, or no image can be read.
        FileNotFoundError: If the source or the checkpoint does not exist.
    """
    folders = (None if folder is None else Path(folder) for folder in (output, projector))
    return _encode(Path(source), next(folders), model, next(folders), overwrite, trust, Devices(**devices))[0]


def _encode(
    source: Path,
    output: Path | None,
    model: str | Path | Autoencoder,
    projector: Path | None,
    overwrite: bool,
    trust: Sequence[str],
    where: Devices,
) -> tuple[LatentTable, int]:
    """Returns the table, and how many files could not be read."""
    from img2img.commands.latent_table import check_format

    if not source.exists():
        raise FileNotFoundError(f"{source} does not exist; give a folder of images or an image")
    if output is not None:
        check_format(output)
        check_output_file(output, source, overwrite)
    if projector is not None:
        _check_projector(projector, source)
    task = open_autoencoder(model, trust)
    from img2img.callbacks.projector import Thumbnails
    from img2img.data.labelled_images import LabelledImages

    data = LabelledImages(source, task.network.image_size, task.network.in_channels, where.batch_size)
    small = None if projector is None else Thumbnails(len(data.paths))

    def ask(task: Autoencoder, batch: Batch) -> dict[str, Any]:
        thumbnails = {} if small is None else {"thumbnail": small.of(batch["image"], batch["n"])}
        return _encoded(task, batch["image"]) | thumbnails

    rows, unreadable = without_problems(apply(task, data, ask, where))
    table = _table(rows, data.root)
    if first_process():
        if output is not None:
            table.save(output)
        if projector is not None:
            _write_projector(projector, table, [row["thumbnail"] for row in rows])
    return table, unreadable


def _encoded(task: Autoencoder, image: Tensor) -> dict[str, Tensor]:
    """Returns what the table holds of images N×C×H×W, one row for each."""
    image = image.float()
    mu, log_variance = task.posterior(image)
    found = {"mu": mu, "error": _error(task.decode(mu), image)}
    if log_variance is not None:
        found["log_variance"] = log_variance
    if task.statistics.pca is not None:
        pca = task.statistics.pca.to(image.device)
        coordinates = pca.encode(image)
        drawn = pca.decode(coordinates, image.shape).clamp(0, 1)
        found |= {"pca": coordinates, "pca_error": _error(drawn, image)}
    return found


def _error(drawn: Tensor, image: Tensor) -> Tensor:
    return ((drawn - image) ** 2).flatten(1).mean(1)


def _table(rows: Sequence[dict[str, Any]], root: Path) -> LatentTable:
    import numpy as np

    from img2img.commands.latent_table import LatentTable

    arrays = {
        name: np.stack([np.asarray(row[name], np.float32) for row in rows])
        for name in ("mu", "error", "log_variance", "pca", "pca_error")
        if name in rows[0]
    }
    paths = [Path(row["path"]).relative_to(root).as_posix() for row in rows]
    return LatentTable(paths, [row["label"] for row in rows], **arrays)


def _check_projector(folder: Path, source: Path) -> None:
    from img2img.imaging.folders import lies_in

    if source.is_dir() and lies_in(folder, source):
        raise UserError(f"--projector {folder} lies in the input {source}; choose another folder")
    if (folder / "projector_config.pbtxt").exists():
        raise UserError(f"--projector {folder} holds latents already; choose another folder")


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
