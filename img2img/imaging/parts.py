"""Files under construction: hidden, beside the file they will become, and recognisable when a run was killed."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_NAME = re.compile(r"\.[0-9a-f]{32}\.part")


def new_part(folder: Path) -> Path:
    """Name a temporary file in the folder of its target, so that giving it its final name is a rename.

    The module `tempfile` would make it readable by its owner only.
    """
    return folder / f".{uuid.uuid4().hex}.part"


def publish(part: Path, target: Path) -> int:
    """Make sure that a complete file is on the disk, then give it its final name; returns its bytes.

    Raises:
        OSError: the disk refuses.
    """
    with open(part, "r+b") as file:
        os.fsync(file.fileno())
        size = os.fstat(file.fileno()).st_size
    os.replace(part, target)
    return size


@contextmanager
def appearing(target: Path) -> Iterator[Path]:
    """Yield a file to write, which gets its final name when the block ends, and is removed when the block fails.

    Folders on the way to it are made.

    Raises:
        OSError: the disk refuses.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = new_part(target.parent)
    try:
        yield part
        publish(part, target)
    finally:
        part.unlink(missing_ok=True)


def find_leftovers(folder: Path) -> list[Path]:
    """List the files under construction in a folder and its subfolders, sorted.

    They are those of killed runs, and of any other run that is writing there at this moment.
    """
    return sorted(path for path in folder.rglob(".*.part") if _NAME.fullmatch(path.name) and path.is_file())


def remove_leftovers(folder: Path) -> int:
    """Remove what killed runs left in a folder and its subfolders; returns how many files.

    To be called before anything is written there: the files of a run that still goes on look the same.
    """
    leftovers = find_leftovers(folder)
    for path in leftovers:
        path.unlink(missing_ok=True)
    return len(leftovers)
