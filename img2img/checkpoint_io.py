"""Writes checkpoints so that no interruption loses one: beside their place, synced, then renamed."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO

from img2img.errors import UserError
from img2img.imaging.parts import new_part, publish

LAST, PREVIOUS, BEST = "last.ckpt", "last.previous.ckpt", "best.ckpt"
"""Names of a run's checkpoints: the latest one, the one before it, and the one with the best validation."""
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class DiskFull(UserError):
    """The disk of a run is full; the message says how to go on."""

    exit_code = 1


class SafeCheckpointIO(TorchCheckpointIO):
    """Writes local checkpoints by `write_checkpoint`, and others as Lightning does; `last.ckpt` keeps its predecessor.

    Lightning's own writer moves from the folder of temporary files, which copies if that folder is on another disk.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any | None = None
    ) -> None:
        """Writes a checkpoint.

        Raises:
            OSError: If the file cannot be written; the one that it would replace stays.
        """
        if storage_options is not None or "://" in str(path):
            super().save_checkpoint(checkpoint, os.fspath(path), storage_options)
            return
        target = Path(path)
        write_checkpoint(checkpoint, target, target.with_name(PREVIOUS) if target.name == LAST else None)


def write_checkpoint(contents: dict[str, Any], target: Path, predecessor: Path | None = None) -> None:
    """Writes a file of tensors and plain data, which replaces an older one in one step when it is on the disk.

    Args:
        contents: What the file holds.
        target: The file.
        predecessor: Where the file goes that is replaced; None to drop it.

    Raises:
        OSError: If the file cannot be written; then nothing has changed.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = new_part(target.parent)
    try:
        with open(part, "xb") as file:
            torch.save(contents, file)
        if predecessor is not None and target.exists():
            _keep(target, predecessor)
        publish(part, target)
        _sync_folder(target.parent)
    except RuntimeError as error:  # torch's writer hides the system's error behind its own
        raise system_error(error) or error from None
    finally:
        part.unlink(missing_ok=True)


def _keep(target: Path, predecessor: Path) -> None:
    """Gives a file a second name, so that its first one is never missing."""
    link = new_part(target.parent)
    try:
        os.link(target, link)
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise
        os.replace(target, predecessor)  # a file system without hard links
    else:
        os.replace(link, predecessor)
    finally:
        link.unlink(missing_ok=True)  # still there if both names were one file already


def _sync_folder(folder: Path) -> None:
    """Writes a folder's names to the disk, where the system can."""
    if hasattr(os, "O_DIRECTORY"):
        number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def system_error(error: BaseException | None) -> OSError | None:
    """Returns the error of the operating system behind an error; None if there is none."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return error


def is_full(error: BaseException) -> bool:
    """Returns whether an error says that a disk or a quota is full."""
    found = system_error(error)
    return found is not None and found.errno in _NO_ROOM
