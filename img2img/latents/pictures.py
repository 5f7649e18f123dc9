"""Pictures that commands draw: refused before any work where they could not be written, and written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from img2img.errors import UserError
from img2img.imaging.formats import WRITABLE
from img2img.inference.checks import check_free

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def check_picture(
    output: Path | None, inputs: Sequence[Path] = (), overwrite: bool = False, moving: bool = False
) -> None:
    """Refuses what could not be written, or would replace something, before any work.

    Args:
        output: The picture to write; None for none.
        inputs: The images it is made of, which must be there.
        overwrite: Whether a file that is there may be replaced; an input never is.
        moving: Whether a GIF is possible.

    Raises:
        FileNotFoundError: If an input is not there.
        UserError: If an input is a folder, or the output cannot be written.
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
