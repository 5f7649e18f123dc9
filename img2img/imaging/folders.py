"""Finds images in folders, in the same order on every machine."""

import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from img2img.imaging.formats import SUFFIXES


def find_images(folder: Path, *, every: bool = False, others: Counter[str] | None = None) -> list[Path]:
    """List the images of a folder and its subfolders, except hidden ones (names with a leading dot).

    The paths begin with `folder` and are sorted by their POSIX path relative to it.

    Args:
        folder: where to look. Links to folders are followed unless they lead back into their own path.
        every: also list what cannot be read, so that the caller can report it: pipes and broken links with an image's
            name, and folders that cannot be listed. Otherwise such folders only cause a warning.
        others: receives the number of skipped files by suffix.

    Raises:
        FileNotFoundError: the folder does not exist.
        NotADirectoryError: `folder` is a file.
    """
    if not folder.exists():
        raise FileNotFoundError(f"no such folder: {folder}")
    if not folder.is_dir():
        raise NotADirectoryError(f"not a folder: {folder}")
    return [folder / name for name in sorted(walk_images(folder, every=every, others=others))]


def walk_images(
    folder: Path,
    *,
    every: bool = False,
    others: Counter[str] | None = None,
    entered: Callable[[str], None] | None = None,
    left_out: Callable[[str], bool] = lambda folder: False,
) -> Iterator[str]:
    """Yield the names of what `find_images` lists, POSIX paths relative to `folder`, in sorted order.

    Args:
        folder: as in `find_images`; holds for `every` and `others` too.
        every: see there.
        others: see there.
        entered: is called with the path of each folder before its names are read.
        left_out: returns whether to pass over a folder below `folder`, given its path.
    """
    counted = Counter() if others is None else others
    return _walk(str(folder), "", (), every, counted, entered or (lambda _: None), left_out)


def _walk(
    folder: str,
    prefix: str,
    above: tuple[Path, ...],
    every: bool,
    others: Counter[str],
    entered: Callable[[str], None],
    left_out: Callable[[str], bool],
) -> Iterator[str]:
    """Yield the images below `folder`, and count other files; `above` holds the folders on the way here."""
    resolved = Path(folder).resolve()
    # A link to any folder that contains the current one, however reached, would lead here again.
    if any(parent.is_relative_to(resolved) for parent in above):
        return
    entered(folder)
    if above and left_out(folder):
        return
    try:
        with os.scandir(folder) as entries:
            names = sorted(name for entry in entries if (name := _kept(entry, every, others)) is not None)
    except OSError:  # no permission, or a failing drive
        if every and above:
            yield prefix.removesuffix("/")
        else:
            warnings.warn(f"skipped the folder {folder}, which cannot be read", stacklevel=2)
        return
    for name in names:
        if name.endswith("/"):
            below = os.path.join(folder, name[:-1])
            yield from _walk(below, prefix + name, (*above, resolved), every, others, entered, left_out)
        else:
            yield prefix + name


def _kept(entry: os.DirEntry[str], every: bool, others: Counter[str]) -> str | None:
    """Return the name of an image, or of a folder with a slash after it, which sorts it among its siblings."""
    name = entry.name
    if name.startswith("."):
        return None
    link = entry.is_symlink()
    # os.path's checks, because others raise in folders that may be listed but not entered
    if os.path.isdir(entry.path) if link else entry.is_dir():
        return name + "/"
    stem, _, extension = name.rpartition(".")
    suffix = f".{extension.lower()}" if stem and extension else ""
    if suffix not in SUFFIXES:
        others[suffix or "without a suffix"] += 1
        return None
    return name if every or (os.path.isfile(entry.path) if link else entry.is_file()) else None


def lies_in(path: Path, folder: Path) -> bool:
    """Return whether a path, which need not exist, is a folder (or file) or lies below it, whatever its name.

    Comparing names is not enough: case-insensitive disks and mounts show one folder under two names.
    """
    if not os.path.exists(folder):
        return False
    resolved = path.resolve()
    return any(os.path.exists(parent) and parent.samefile(folder) for parent in (resolved, *resolved.parents))
