"""Pictures that commands draw: checked before any work, and written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from img2img.errors import UserError
from img2img.imaging.formats import WRITABLE
from img2img.inference.checks import check_free

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor


def check_picture(
    output: Path | None, inputs: Sequence[Path] = (), overwrite: bool = False, moving: bool = False
) -> None:
    """Checks that the inputs are files, and that a picture (unless None) can be written; `moving` also allows GIF.

    Raises:
        FileNotFoundError: If an input does not exist.
        UserError: If an input is a folder, the format is unknown, or the output is a folder, an input, or exists
            without `overwrite`.
    """
    for path in inputs:
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist; give an image")
        if path.is_dir():
            raise UserError(f"{path} is a folder; give an image")
    if output is None:
        return
    suffixes = WRITABLE | ({".gif"} if moving else set())
    if output.suffix.lower() not in suffixes:
        raise UserError(f"{output}: the formats of pictures are {', '.join(sorted(suffixes))}")
    check_free(output, overwrite)
    if output.exists() and any(output.samefile(path) for path in inputs):
        raise UserError(f"{output} is an input; choose another output")


def write_picture(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Writes H×W×3 in the format of the suffix; it appears complete or not at all."""
    from img2img.imaging.files import Image, write_image

    write_image(path, Image(pixels, None, {}))


def write_sheet_or_film(
    path: Path, images: Tensor, columns: int, captions: Sequence[str], frames: Sequence[tuple[Any, ...]]
) -> None:
    """Writes a sheet of images, or where the name ends in .gif a film.

    Images, columns and captions of the sheet, and of each frame, are arguments of `draw_sheet`.
    """
    from img2img.imaging.animation import write_gif
    from img2img.imaging.drawing import draw_sheet

    if path.suffix.lower() == ".gif":
        write_gif(path, [draw_sheet(*frame) for frame in frames])
    else:
        write_picture(path, draw_sheet(images, columns, captions))
