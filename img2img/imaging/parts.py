"""Temporary files that become outputs: hidden, beside their target, and recognisable after a run was killed."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def new_part(folder: Path) -> Path:
    """Return a name for a temporary file in its target's folder, so that it only has to be renamed."""
    return folder / f".{uuid.uuid4().hex}.part"  # `tempfile` would make the file readable only by its owner


def publish(part: Path, target: Path, *, replace: bool = True) -> int:
    """Flush a complete file to the disk, then give it its final name; return its size in bytes.

    Raises:
        FileExistsError: something has the name, if only a dangling link, and may not be replaced.
        OSError: the file cannot be written or renamed.
    """
    with open(part, "r+b") as file:
        os.fsync(file.fileno())
        size = os.fstat(file.fileno()).st_size
    if replace:
        os.replace(part, target)
    else:
        _rename_new(part, target)
    return size


def _rename_new(part: Path, target: Path) -> None:
    """Rename without replacing anything, which `os.rename` does on Windows only."""
    try:
        os.link(part, target)
        part.unlink()
    except FileExistsError:
        raise
    except OSError:  # a disk without hard links: FAT, some network drives
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY))  # an empty file of ours keeps the name
        os.replace(part, target)


@contextmanager
def appearing(target: Path, *, replace: bool = True) -> Iterator[Path]:
    """Yield a file to write; it gets its final name when the block ends. Missing parents are created.

    Raises:
        FileExistsError: as in `publish`.
        OSError: the file cannot be written or renamed.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = new_part(target.parent)
    try:
        yield part
        publish(part, target, replace=replace)
    finally:
        part.unlink(missing_ok=True)


def find_leftovers(folder: Path) -> list[Path]:
    """List the temporary files of killed runs, and of runs that are writing now, in a folder and its subfolders."""
    return sorted(path for path in folder.rglob(f".{'[0-9a-f]' * 32}.part") if path.is_file())


def remove_leftovers(folder: Path) -> int:
    """Remove the temporary files in a folder and its subfolders, before a run writes there; return how many."""
    leftovers = find_leftovers(folder)
    for path in leftovers:
        path.unlink(missing_ok=True)
    return len(leftovers)
