"""What commands refuse before anything heavy is imported."""

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


def check_maps(task: Any, maps: Path, source: Path, destination: Path) -> None:
    """Refuses maps of uncertainty of a model that knows none, and such among inputs or outputs.

    Raises:
        UserError: If so.
    """
    if not getattr(task, "estimates_sigma", False):
        raise UserError(
            f"this model ({type(task).__name__}) does not say how sure it is: leave out --uncertainty, or train an "
            "UncertainRestoration, such as denoise_uncertain.yaml"
        )
    if maps.exists() and not maps.is_dir():
        raise UserError(f"--uncertainty {maps} is a file; give a folder")
    if source.is_dir() and lies_in(maps, source):
        raise UserError(f"--uncertainty {maps} lies in the input {source}; choose another folder")
    for inner, outer in ((maps, destination), (destination, maps)):
        # By name as well: neither need exist, and what does not exist has nothing in it yet.
        if lies_in(inner, outer) or inner.resolve().is_relative_to(outer.resolve()):
            raise UserError(f"--uncertainty {maps} and the output {destination} must lie apart; choose another folder")


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


def check_output_file(output: Path, source: Path, overwrite: bool) -> None:
    """Refuses a file of results that would be written among the inputs, or over what is there.

    Args:
        output: The file to write.
        source: The input, folder or file.
        overwrite: Whether an output that is there may be replaced; never the input itself.

    Raises:
        UserError: If so.
    """
    if source.is_dir() and lies_in(output, source):
        raise UserError(f"the output {output} lies in the input {source}, where nothing is written: choose another")
    if output.exists() and source.exists() and output.samefile(source):
        raise UserError(f"{output} is the input itself; choose another output")
    check_free(output, overwrite)


def check_free(output: Path, overwrite: bool) -> None:
    """Refuses to replace a file unasked, or a folder at all.

    Raises:
        UserError: If that would happen.
    """
    if output.is_dir():
        raise UserError(f"the output {output} is a folder; name a file")
    if output.exists() and not overwrite:
        raise UserError(f"{output} is there already; give --overwrite to replace it, or another name")
