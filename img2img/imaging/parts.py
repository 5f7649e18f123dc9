"""Temporary files that become outputs: hidden, beside their target, and recognisable after a run was killed."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_NAME = re.compile(r"\.[0-9a-f]{32}\.part")


def new_part(folder: Path) -> Path:
    """Return a name for a temporary file in its target's folder, so that it only has to be renamed.

    `tempfile` would make the file readable only by its owner.
    """
    return folder / f".{uuid.uuid4().hex}.part"


def publish(part: Path, target: Path) -> int:
    """Flush a complete file to the disk, then give it its final name; return its size in bytes.

    Raises:
        OSError: the file cannot be written or renamed.
    """
    with open(part, "r+b") as file:
        os.fsync(file.fileno())
        size = os.fstat(file.fileno()).st_size
    os.replace(part, target)
    return size


@contextmanager
def appearing(target: Path) -> Iterator[Path]:
    """Yield a file to write, which gets its final name when the block ends, and is removed if the block fails.

    Missing parents are created.

    Raises:
        OSError: the file cannot be written or renamed.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = new_part(target.parent)
    try:
        yield part
        publish(part, target)
    finally:
        part.unlink(missing_ok=True)


def find_leftovers(folder: Path) -> list[Path]:
    """List the temporary files in a folder and its subfolders, sorted.

    They belong to killed runs, and to any other run that is writing there at this moment.
    """
    return sorted(path for path in folder.rglob(".*.part") if _NAME.fullmatch(path.name) and path.is_file())


def remove_leftovers(folder: Path) -> int:
    """Remove the files that killed runs left in a folder and its subfolders; return how many.

    Call it before anything is written there: the files of a run in progress look the same.
    """
    leftovers = find_leftovers(folder)
    for path in leftovers:
        path.unlink(missing_ok=True)
    return len(leftovers)
