"""Finding images in folders, in the same order on every machine."""

import warnings
from pathlib import Path

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp"})


def find_images(folder: Path) -> list[Path]:
    """List the images of a folder and its subfolders, without hidden ones (names with a leading dot).

    Args:
        folder: where to look. Links to folders are followed unless they lead back into their own path.

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
    _walk(folder, (), found)
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def _walk(folder: Path, above: tuple[Path, ...], found: list[Path]) -> None:
    """Append the images below `folder` to `found`; `above` holds the resolved folders on the way here."""
    resolved = folder.resolve()
    # A link to any folder that contains the current one, however reached, would lead here again.
    if any(parent.is_relative_to(resolved) for parent in above):
        return
    try:
        children = list(folder.iterdir())
    except PermissionError:
        warnings.warn(f"skipped the folder {folder}, which may not be read", stacklevel=2)
        return
    for path in children:
        if path.name.startswith("."):
            continue
        if path.is_dir():
            _walk(path, (*above, resolved), found)
        elif path.suffix.lower() in SUFFIXES and path.is_file():
            found.append(path)
