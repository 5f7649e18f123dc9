"""What `restore` and `predict` refuse before anything heavy is imported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from img2img.errors import UserError
from img2img.imaging.folders import lies_in
from img2img.imaging.formats import WRITABLE


def check_folders(source: Path, destination: Path, mask: str | Path | None = None) -> None:
    """Refuses what could never work or would write among the originals or their masks.

    Raises:
        UserError: If the source does not exist, or the destination lies in it or among the masks.
    """
    if not source.exists():
        raise UserError(f"{source} does not exist; give a folder of images or an image")
    if source.is_dir() and lies_in(destination, source):
        raise UserError(
            f"the output {destination} lies in the input {source}; originals are never written among: choose another"
        )
    if source.is_dir() and destination.exists() and not destination.is_dir():
        raise UserError(f"the output {destination} is a file; give a folder, for the input is one")
    if mask is not None and lies_in(destination, Path(mask).expanduser()):
        raise UserError(f"the output {destination} would be written over the masks {mask}; choose another")
    if source.is_file() and destination.suffix and destination.suffix.lower() not in WRITABLE:
        raise UserError(f"{destination}: the formats are {', '.join(sorted(WRITABLE))}; or give a folder")
    if source.is_file() and destination.exists() and destination.samefile(source):
        raise UserError(f"{destination} is the input itself; choose another output")


def check_mask(task: Any, mask: str | Path | None, option: str) -> None:
    """Refuses a model that fills holes without knowing where they are, and a mask that nobody would look at.

    Raises:
        UserError: If so.
    """
    needed = getattr(task, "needs_mask", False)
    if needed and mask is None:
        raise UserError(f"this model fills holes: say where with {option}, a folder of masks, alpha or a colour")
    if mask is not None and not needed:
        raise UserError(f"this model restores whole images and looks at no mask; leave out {option}")
