"""Finding images in folders, in the same order on every machine."""

import os
import warnings
from pathlib import Path

from img2img.imaging.formats import SUFFIXES

__all__ = ["SUFFIXES", "find_images", "lies_in"]


def find_images(folder: Path, *, every: bool = False) -> list[Path]:
    """List the images of a folder and its subfolders, without hidden ones (names with a leading dot).

    Args:
        folder: where to look. Links to folders are followed unless they lead back into their own path.
        every: list what cannot be read as well, for whoever has to report it: what has an image's name and is a pipe
            or a link to nowhere, and folders that may not be listed. Else of those folders only a warning tells.

    Returns:
        Paths beginning with `folder`, sorted by their POSIX relative path: the same order on every machine.

    Raises:
        FileNotFoundError: the folder does not exist.
        NotADirectoryError: it is a file.
    """
    if not folder.exists():
        raise FileNotFoundError(f"no such folder: {folder}")
    if not folder.is_dir():
        raise NotADirectoryError(f"not a folder: {folder}")
    found: list[Path] = []
    _walk(folder, (), found, every)
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def _walk(folder: Path, above: tuple[Path, ...], found: list[Path], every: bool) -> None:
    """Append the images below `folder` to `found`; `above` holds the resolved folders on the way here."""
    resolved = folder.resolve()
    # A link to any folder that contains the current one, however reached, would lead here again.
    if any(parent.is_relative_to(resolved) for parent in above):
        return
    try:
        children = list(folder.iterdir())
    except OSError:  # forbidden, or on a drive that fails
        if every and above:
            found.append(folder)
        else:
            warnings.warn(f"skipped the folder {folder}, which may not be read", stacklevel=2)
        return
    for path in children:
        if path.name.startswith("."):
            continue
        # os.path's questions, for pathlib's raise in folders that may be listed but not entered
        if os.path.isdir(path):
            _walk(path, (*above, resolved), found, every)
        elif path.suffix.lower() in SUFFIXES and (every or os.path.isfile(path)):
            found.append(path)


def lies_in(path: Path, folder: Path) -> bool:
    """Tell whether a path, which need not exist, is a folder (or file) or lies below it, by whatever name.

    Names alone would not tell: disks that take upper and lower case for the same and mounts show one folder under two.
    """
    if not os.path.exists(folder):
        return False
    resolved = path.resolve()
    return any(os.path.exists(parent) and parent.samefile(folder) for parent in (resolved, *resolved.parents))
