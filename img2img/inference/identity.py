"""What identifies a run of `restore` when it is started again, beside the name of its model."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from img2img.inference.options import Options
from img2img.version import __version__

if TYPE_CHECKING:
    from img2img.tasks import Task


def identity(sources: Sequence[Path], options: Options, mask: str | None, *, watched: bool) -> dict[str, Any]:
    """Returns paths, options and version of a run; files may be added to a watched run's masks and maps."""
    inputs = [str(source.resolve()) for source in sources]
    return {
        "version": __version__,
        "input": inputs if len(inputs) > 1 else inputs[0],
        "mask": _by_content(mask, watched),
        "format": options.format,
        "quality": options.quality,
        "self_ensemble": options.self_ensemble,
        "tile": options.tile,
        "uncertainty": None if options.uncertainty is None else str(Path(options.uncertainty).resolve()),
        "strength": float(options.strength),
        "strength_map": _by_content(options.strength_map, watched),
    }


def _by_content(given: str | Path | None, watched: bool) -> str | None:
    """Returns what identifies masks or maps: a word; or their path with a digest of names, sizes and times.

    The digest is left out where files may be added.
    """
    if given is None or not Path(given).expanduser().exists():
        return None if given is None else str(given)
    place = Path(given).expanduser().resolve()
    if watched:
        return str(place)
    files = sorted(path for path in place.rglob("*") if path.is_file()) if place.is_dir() else [place]
    listing = "".join(f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}\n" for path in files)
    return f"{place} {hashlib.sha256(os.fsencode(listing)).hexdigest()}"


def sha256_of(model: Path | Task) -> str:
    """Returns the SHA-256 of a file's content, or of a task in memory: of its recipe and weights."""
    if isinstance(model, Path):
        with open(model, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    from img2img.exporting.contract import digest_of

    return digest_of(model, repr(model.recipe).encode())
