"""Finds images in folders, in the same order on every machine."""

import os
import warnings
from collections import Counter
from pathlib import Path

from img2img.imaging.formats import SUFFIXES

__all__ = ["SUFFIXES", "find_images", "lies_in"]


def find_images(folder: Path, *, every: bool = False, others: Counter[str] | None = None) -> list[Path]:
    """List the images of a folder and its subfolders, except hidden ones (names with a leading dot).

    Args:
        folder: where to look. Links to folders are followed unless they lead back into their own path.
        every: also list what cannot be read, so that the caller can report it: pipes and broken links with an image's
            name, and folders that cannot be listed. Otherwise such folders only cause a warning.
        others: receives the number of skipped files by suffix.

    Returns:
        Paths beginning with `folder`, sorted by their POSIX relative path: the same order on every machine.

    Raises:
        FileNotFoundError: the folder does not exist.
        NotADirectoryError: `folder` is a file.
    """
    if not folder.exists():
        raise FileNotFoundError(f"no such folder: {folder}")
    if not folder.is_dir():
        raise NotADirectoryError(f"not a folder: {folder}")
    found: list[Path] = []
    _walk(folder, (), found, every, Counter() if others is None else others)
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def _walk(folder: Path, above: tuple[Path, ...], found: list[Path], every: bool, others: Counter[str]) -> None:
    """Append the images below `folder` to `found`, and count other files; `above` holds the folders on the way here."""
    resolved = folder.resolve()
    # A link to any folder that contains the current one, however reached, would lead here again.
    if any(parent.is_relative_to(resolved) for parent in above):
        return
    try:
        children = list(folder.iterdir())
    except OSError:  # no permission, or a failing drive
        if every and above:
            found.append(folder)
        else:
            warnings.warn(f"skipped the folder {folder}, which cannot be read", stacklevel=2)
        return
    for path in children:
        if path.name.startswith("."):
            continue
        # os.path's checks, because pathlib's raise in folders that may be listed but not entered
        if os.path.isdir(path):
            _walk(path, (*above, resolved), found, every, others)
        elif path.suffix.lower() in SUFFIXES and (every or os.path.isfile(path)):
            found.append(path)
        elif path.suffix.lower() not in SUFFIXES:
            others[path.suffix.lower() or "without a suffix"] += 1


def lies_in(path: Path, folder: Path) -> bool:
    """Return whether a path, which need not exist, is a folder (or file) or lies below it, whatever its name.

    Comparing names is not enough: case-insensitive disks and mounts show one folder under two names.
    """
    if not os.path.exists(folder):
        return False
    resolved = path.resolve()
    return any(os.path.exists(parent) and parent.samefile(folder) for parent in (resolved, *resolved.parents))
