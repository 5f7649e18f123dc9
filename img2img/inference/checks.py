"""Checks of inputs and outputs that run before anything heavy is imported."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from img2img.errors import UserError
from img2img.imaging.folders import lies_in
from img2img.imaging.formats import WRITABLE


def paths_of(input: str | Path | Sequence[str | Path]) -> list[Path]:
    """Returns the images and folders that are given as an input: one, or several.

    Raises:
        UserError: If there is none.
    """
    paths = [Path(path).expanduser() for path in ([input] if isinstance(input, str | Path) else input)]
    if not paths:
        raise UserError("no input is given; give folders of images or images")
    return paths


def check_inputs(sources: Sequence[Path], destination: Path, mask: str | Path | None = None) -> None:
    """Checks each source as `check_folders` does, and that the outputs of several get a folder.

    Raises:
        UserError: As in `check_folders`; or if several sources have a file as destination.
    """
    is_file = destination.is_file() or (destination.suffix.lower() in WRITABLE and not destination.is_dir())
    if len(sources) > 1 and is_file:
        raise UserError(f"the output {destination} is one file for several inputs; give an output folder at the end")
    for source in sources:
        check_folders(source, destination, mask)


def check_watched(sources: Sequence[Path], devices: int | str, num_nodes: int) -> None:
    """Checks that the inputs can be watched.

    Raises:
        UserError: If one of them is not a folder, or several devices are asked for.
    """
    for source in sources:
        if not source.is_dir():
            raise UserError(f"--watch waits for files in folders, but {source} is a file; give its folder")
    if str(devices) not in ("auto", "1") or num_nodes != 1:
        raise UserError("--watch works on one device; leave out --devices and --num_nodes")


def check_folders(source: Path, destination: Path, mask: str | Path | None = None) -> None:
    """Checks that the input exists and that outputs land outside the originals and their masks.

    Raises:
        UserError: If the source does not exist; or the destination is inside it or the masks, is the source itself,
            is a file where a folder is needed, or has an unknown format.
    """
    if not source.exists():
        raise UserError(f"{source} does not exist; give a folder of images or an image")
    if source.is_dir() and lies_in(destination, source):
        raise UserError(f"the output {destination} is inside the input {source}; choose a place outside it")
    if source.is_dir() and destination.exists() and not destination.is_dir():
        raise UserError(f"the output {destination} is a file; give a folder, because the input is a folder")
    if mask is not None and lies_in(destination, Path(mask).expanduser()):
        raise UserError(f"the output {destination} would be written over the masks {mask}; choose another output")
    if source.is_file() and destination.suffix and destination.suffix.lower() not in WRITABLE:
        raise UserError(f"{destination}: give one of the formats {', '.join(sorted(WRITABLE))}, or a folder")
    if source.is_file() and destination.exists() and destination.samefile(source):
        raise UserError(f"{destination} is the input itself; choose another output")


def check_maps(task: Any, maps: Path, sources: Sequence[Path], destination: Path) -> None:
    """Checks that the model estimates its error, and that its maps get a folder of their own.

    Raises:
        UserError: If the model does not estimate its error, or the folder of maps is a file or overlaps the inputs or
            outputs.
    """
    if not getattr(task, "estimates_sigma", False):
        raise UserError(
            f"this model ({type(task).__name__}) does not say how sure it is: leave out --uncertainty, or train an "
            "UncertainRestoration, such as denoise_uncertain.yaml"
        )
    if maps.exists() and not maps.is_dir():
        raise UserError(f"--uncertainty {maps} is a file; give a folder")
    for source in sources:
        if source.is_dir() and lies_in(maps, source):
            raise UserError(f"--uncertainty {maps} is inside the input {source}; choose another folder")
    for inner, outer in ((maps, destination), (destination, maps)):
        # By name as well: `lies_in` compares with existing folders, and these need not exist yet.
        if lies_in(inner, outer) or inner.resolve().is_relative_to(outer.resolve()):
            raise UserError(f"--uncertainty {maps} and the output {destination} must lie apart; choose another folder")


def check_mask(task: Any, mask: str | Path | None) -> None:
    """Checks that a mask is given if, and only if, the model needs one.

    Raises:
        UserError: If the model needs a mask and none is given, or a mask is given and the model takes none.
    """
    needed = getattr(task, "needs_mask", False)
    if needed and mask is None:
        raise UserError("this model fills holes: say where with --mask, a folder of masks, alpha or a colour")
    if mask is not None and not needed:
        raise UserError("this model restores whole images and takes no mask; leave out --mask")


def check_output_file(output: Path, source: Path, overwrite: bool) -> None:
    """Checks that a file of results is outside the inputs, and replaces a file only if that is allowed.

    Raises:
        UserError: If the output is among the inputs, is the input, is a folder, or exists and may not be replaced.
    """
    if source.is_dir() and lies_in(output, source):
        raise UserError(f"the output {output} is inside the input {source}; choose a place outside it")
    if output.exists() and source.exists() and output.samefile(source):
        raise UserError(f"{output} is the input itself; choose another output")
    check_free(output, overwrite)


def check_free(output: Path, overwrite: bool) -> None:
    """Checks that an output is not a folder, and replaces a file only if that is allowed.

    Raises:
        UserError: If the output is a folder, or exists and may not be replaced.
    """
    if output.is_dir():
        raise UserError(f"the output {output} is a folder; name a file")
    if os.path.lexists(output) and not overwrite:  # a link that leads nowhere is there too
        raise UserError(f"{output} is there already; give --overwrite to replace it, or another name")
