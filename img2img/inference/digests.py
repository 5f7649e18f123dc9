"""Digests of weights and masks, by which `restore` recognises a run."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from img2img.tasks import Task


def mask_files(mask: str | None) -> str | None:
    """Returns what identifies the masks: a word, or their path and a digest of their names, sizes and times."""
    if mask is None or not Path(mask).expanduser().exists():
        return mask
    place = Path(mask).expanduser().resolve()
    files = sorted(path for path in place.rglob("*") if path.is_file()) if place.is_dir() else [place]
    listing = "".join(f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}\n" for path in files)
    return f"{place} {hashlib.sha256(os.fsencode(listing)).hexdigest()}"


def sha256_of_file(path: Path) -> str:
    """Returns the SHA-256 of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_task(task: Task) -> str:
    """Returns the SHA-256 of a task in memory: of its recipe and weights."""
    import torch

    digest = hashlib.sha256(repr(task.recipe).encode())
    for name, value in task.state_dict().items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
