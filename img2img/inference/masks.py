"""Masks of the pixels to fill: from mask files, the alpha channel, or a colour."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from img2img.errors import UserError
from img2img.imaging.formats import Header
from img2img.imaging.reading import RowReader
from img2img.imaging.values import Pixels, from_float, to_channels, to_float
from img2img.inference.companions import find_files, open_beside

Mask: TypeAlias = NDArray[np.bool_]
"""H×W, true where the image is filled."""

_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")


class MaskReader(Protocol):
    """Reads the mask of one image from top to bottom."""

    @property
    def held(self) -> int:
        """Bytes that the decoder holds of the whole mask; 0 if it streams."""

    def __call__(self, pixels: Pixels, alpha: Pixels | None) -> tuple[Pixels | None, Mask]:
        """Takes the next rows in the file's dtype; returns the alpha to keep, and the mask of these rows."""

    def conclude(self) -> None:
        """Finishes an image; raises ValueError if the mask as a whole cannot be right."""

    def close(self) -> None:
        """Closes the mask."""


MaskFinder: TypeAlias = Callable[[Path, Header], MaskReader]
"""Opens the mask of an image, given its header; raises ValueError, with a line that names the image, if there is no
usable mask."""


def mask_finder(mask: str, sources: Sequence[Path]) -> MaskFinder:
    """Returns what finds the masks of the images; reads none yet.

    Args:
        mask: A folder of masks, matched with the images by relative path, whatever the extension; one mask, if there is
            one image; `alpha`, to fill what is more than half transparent; or a colour such as `#ff00ff`, whose pixels
            are filled. The image is filled where its mask is more than half white.
        sources: Folders of images, and images.

    Raises:
        UserError: If the mask is not a folder, a file, `alpha` or a colour, is among the images, or is one file for
            several images; or as in `named_images`.
    """
    if mask == "alpha":
        return open_alpha
    if mask.startswith("#"):
        if not _COLOUR.fullmatch(mask):
            raise UserError(f"the mask colour {mask} is not of the form #rrggbb, such as '#ff00ff'")
        return partial(open_colour, bytes.fromhex(mask[1:]))
    files = find_files(mask, sources, "mask", ", alpha, or a colour such as '#ff00ff'")
    return lambda path, header: open_file(files(path), path, header)


def open_file(file: Path, path: Path, header: Header) -> MaskReader:
    """Opens a mask file; white is filled. Of a colour image, the luma is used; alpha is ignored."""
    return MaskRows(path, file, open_beside(file, path, header, "mask"))


@dataclass
class MaskRows:
    """The mask `file` of the image `path`, read along with it; of several pages, the first."""

    path: Path
    file: Path
    reader: RowReader
    brightest: float = 0.0  # luma of the rows read so far

    @property
    def held(self) -> int:
        """See `MaskReader`."""
        return self.reader.header.held

    def __call__(self, pixels: Pixels, alpha: Pixels | None) -> tuple[Pixels | None, Mask]:
        """Reads the same number of rows of the mask."""
        mask = to_float(to_channels(self.reader.read(len(pixels))[0], 1))[..., 0]
        self.brightest = max(self.brightest, float(mask.max()))
        return alpha, mask > 0.5

    def conclude(self) -> None:
        """Closes the mask."""
        self.close()
        if 0 < self.brightest < 1.5 / 255:
            raise ValueError(f"{self.path}: its mask {self.file} is black (values 0 and 1 of 255); holes must be white")

    def close(self) -> None:
        """Closes the mask."""
        self.reader.close()


def open_alpha(path: Path, header: Header) -> MaskReader:
    """Fills every pixel that is more than half transparent, as masks are filled where more than half white.

    The output is opaque. Elsewhere the stored colours stay: erasing with a soft brush changes only opacity.
    """
    if not header.alpha:
        raise ValueError(f"{path}: has no alpha channel to say what to fill")

    def transparent(pixels: Pixels, alpha: Pixels | None) -> tuple[None, Mask]:
        assert alpha is not None
        return None, to_float(alpha)[..., 0] < 0.5

    return ComputedMask(transparent)


def open_colour(colour: bytes, path: Path, header: Header) -> MaskReader:
    """Fills every pixel of exactly one colour, 3 bytes, which is scaled for files of 16 bits or floats.

    JPEG and lossy WebP do not keep colours exactly.
    """
    scaled = from_float(to_float(np.frombuffer(colour, np.uint8)), header.dtype)
    return ComputedMask(lambda pixels, alpha: (alpha, (to_channels(pixels, 3) == scaled).all(axis=2)))


@dataclass
class ComputedMask:
    """A mask computed from the rows of the image itself; `compute` returns the alpha to keep, and the mask."""

    compute: Callable[[Pixels, Pixels | None], tuple[Pixels | None, Mask]]
    held: int = 0

    def __call__(self, pixels: Pixels, alpha: Pixels | None) -> tuple[Pixels | None, Mask]:
        """Returns the alpha to keep, and the mask of the next rows."""
        return self.compute(pixels, alpha)

    def conclude(self) -> None:
        """Does nothing, because no file is open."""

    def close(self) -> None:
        """Does nothing, because no file is open."""
