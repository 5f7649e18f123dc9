"""Where the holes of the images to restore are: in masks of their own, in their alpha channel, or in a colour."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from img2img.data.matching import Matches, match_names
from img2img.errors import UserError
from img2img.imaging.folders import find_images
from img2img.imaging.formats import Header
from img2img.imaging.reading import RowReader, open_rows
from img2img.imaging.values import Pixels, from_float, to_channels, to_float

Holes: TypeAlias = NDArray[np.bool_]
"""H×W, true in holes."""

_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")


class RowHoles(Protocol):
    """Says where the holes of one image are, rows after rows from its top."""

    def __call__(self, pixels: Pixels, alpha: Pixels | None) -> tuple[Pixels | None, Holes]:
        """Takes the next rows, of a file's own dtype; returns their alpha as it is to be kept, and their holes.

        Raises:
            ValueError: If they cannot be told; one line names the image and says why.
        """

    def conclude(self) -> None:
        """Ends an image.

        Raises:
            ValueError: If what was read cannot have been meant.
        """


class HoleFinder(Protocol):
    """Says where images' holes are."""

    def __call__(self, path: Path, header: Header) -> RowHoles:
        """Begins with an image.

        Raises:
            ValueError: If its holes cannot be told; one line names it and says why.
        """


def find_holes(mask: str, root: Path) -> HoleFinder:
    """Returns what finds the holes of the images under a root; reads nothing yet.

    Args:
        mask: A folder of masks, matched with the images by relative path, with the same extension or another; a mask,
            where the root is one image; `alpha` for all that is not fully opaque; or a colour such as `#ff00ff`, whose
            pixels are holes. White, by more than half, is a mask's hole.
        root: Folder of the images, or one image.

    Raises:
        UserError: If the mask is none of these.
    """
    if mask == "alpha":
        return AlphaHoles()
    if mask.startswith("#"):
        if not _COLOUR.fullmatch(mask):
            raise UserError(f"the mask colour {mask} is not of the form #rrggbb, such as '#ff00ff'")
        return ColourHoles((int(mask[1:3], 16), int(mask[3:5], 16), int(mask[5:7], 16)))
    path = Path(mask).expanduser()
    if path.is_dir():
        if root.is_dir() and path.resolve().is_relative_to(root.resolve()):
            raise UserError(f"the masks {mask} lie in the folder of images {root}, as if they were some; move them out")
        return MaskFolder(path, root)
    if path.is_file():
        if root.is_dir():
            raise UserError(f"the mask {mask} is one file for a folder of images; give a folder of masks")
        return MaskFile(path)
    raise UserError(f"the mask {mask} does not exist; give a folder of masks, alpha, or a colour such as '#ff00ff'")


@dataclass
class MaskFolder:
    """Masks in a folder of their own.

    Attributes:
        folder: The masks.
        root: The images, whose paths relative to it are the masks', but for the extension.
    """

    folder: Path
    root: Path

    def __call__(self, path: Path, header: Header) -> RowHoles:
        """Opens the image's mask."""
        name = path.relative_to(self._images).as_posix()
        for ours, theirs in self._matches.ambiguous:
            if name in ours:
                raise ValueError(
                    f"{path}: which mask is its own cannot be told: {', '.join(theirs)} in {self.folder} could "
                    f"belong to {', '.join(ours)}; give them the same extension"
                )
        if name not in self._matches.pairs:
            raise ValueError(f"{path}: there is no mask of this name in {self.folder}")
        return MaskFile(self.folder / self._matches.pairs[name])(path, header)

    @property
    def _images(self) -> Path:
        return self.root.parent if self.root.is_file() else self.root

    @cached_property
    def _matches(self) -> Matches:
        images = [self.root] if self.root.is_file() else find_images(self.root)
        return match_names(_names(images, self._images), _names(find_images(self.folder), self.folder))


@dataclass
class MaskFile:
    """One mask: white is hole.

    Attributes:
        file: An image, gray or RGB, of which the luma counts; its alpha does not.
    """

    file: Path

    def __call__(self, path: Path, header: Header) -> RowHoles:
        """Opens the mask."""
        mask = open_rows(self.file, first_page=True)
        sizes = [(each.width, each.height) for each in (mask.header, header)]
        if sizes[0] != sizes[1]:
            mask.close()
            named = [f"{width}×{height}" for width, height in sizes]
            raise ValueError(f"{path}: its mask {self.file} is {named[0]}, the image {named[1]}")
        return MaskRows(path, self.file, mask)


@dataclass
class MaskRows:
    """A mask that is read along with its image.

    Attributes:
        path: The image.
        file: Its mask.
        reader: The mask's rows; of pages, the first.
    """

    path: Path
    file: Path
    reader: RowReader
    brightest: float = 0.0

    def __call__(self, pixels: Pixels, alpha: Pixels | None) -> tuple[Pixels | None, Holes]:
        """Reads as many rows of the mask."""
        mask = to_float(to_channels(self.reader.read(len(pixels))[0], 1))[..., 0]
        self.brightest = max(self.brightest, float(mask.max()))
        return alpha, mask > 0.5

    def conclude(self) -> None:
        """Closes the mask."""
        self.reader.close()
        if 0 < self.brightest <= 1 / 255:
            raise ValueError(
                f"{self.path}: its mask {self.file} is black, with values of 0 and 1 of 255; white is the hole"
            )


@dataclass
class AlphaHoles:
    """Every pixel that is not fully opaque; filled, the image is opaque."""

    def __call__(self, path: Path, header: Header) -> RowHoles:
        """Looks for an alpha channel."""
        if not header.alpha:
            raise ValueError(f"{path}: has no alpha channel, which is to say where its holes are")
        return FromRows(lambda pixels, alpha: (None, to_float(_there(alpha))[..., 0] < 1))


@dataclass
class ColourHoles:
    """Every pixel of exactly one colour; a file of 16 bits or of floats holds the same colour, scaled.

    JPEG and lossy WebP keep no colour exactly.

    Attributes:
        colour: Red, green and blue, 0 to 255.
    """

    colour: tuple[int, int, int]

    def __call__(self, path: Path, header: Header) -> RowHoles:
        """Scales the colour to the file's depth."""
        colour = from_float(to_float(np.array(self.colour, np.uint8)), header.dtype)
        return FromRows(lambda pixels, alpha: (alpha, (to_channels(pixels, 3) == colour).all(axis=2)))


@dataclass
class FromRows:
    """Holes that the rows of the image itself tell.

    Attributes:
        look: What tells them.
    """

    look: Callable[[Pixels, Pixels | None], tuple[Pixels | None, Holes]]

    def __call__(self, pixels: Pixels, alpha: Pixels | None) -> tuple[Pixels | None, Holes]:
        """Looks at the rows."""
        return self.look(pixels, alpha)

    def conclude(self) -> None:
        """Has nothing to end."""


def _there(alpha: Pixels | None) -> Pixels:
    assert alpha is not None
    return alpha


def _names(files: list[Path], folder: Path) -> list[str]:
    return [file.relative_to(folder).as_posix() for file in files]
