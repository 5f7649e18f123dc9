"""Masks of the pixels to fill: from mask files, the alpha channel, or a colour."""

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

Mask: TypeAlias = NDArray[np.bool_]
"""H×W, true where the image is filled."""

_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")


class MaskReader(Protocol):
    """Reads the mask of one image from top to bottom."""

    def __call__(self, pixels: Pixels, alpha: Pixels | None) -> tuple[Pixels | None, Mask]:
        """Takes the next rows in the file's dtype; returns the alpha to keep, and the mask of these rows.

        Raises:
            ValueError: If the mask cannot be read; one line names the image and says why.
        """

    def conclude(self) -> None:
        """Finishes an image.

        Raises:
            ValueError: If the mask as a whole cannot be right.
        """


class MaskFinder(Protocol):
    """Opens the masks of images."""

    def __call__(self, path: Path, header: Header) -> MaskReader:
        """Opens the mask of one image.

        Raises:
            ValueError: If the image has no usable mask; one line names the image and says why.
        """


def mask_finder(mask: str, root: Path) -> MaskFinder:
    """Returns what finds the masks of the images under a root; reads nothing yet.

    Args:
        mask: A folder of masks, matched with the images by relative path, whatever the extension; one mask, if the root
            is one image; `alpha`, to fill all that is not fully opaque; or a colour such as `#ff00ff`, whose pixels are
            filled. The image is filled where its mask is more than half white.
        root: Folder of the images, or one image.

    Raises:
        UserError: If the mask is not a folder, a file, `alpha` or a colour, lies among the images, or is one file for a
            folder of images.
    """
    if mask == "alpha":
        return AlphaMasks()
    if mask.startswith("#"):
        if not _COLOUR.fullmatch(mask):
            raise UserError(f"the mask colour {mask} is not of the form #rrggbb, such as '#ff00ff'")
        return ColourMasks((int(mask[1:3], 16), int(mask[3:5], 16), int(mask[5:7], 16)))
    path = Path(mask).expanduser()
    if path.is_dir():
        if root.is_dir() and path.resolve().is_relative_to(root.resolve()):
            raise UserError(
                f"the masks {mask} lie in the folder of images {root} and would be restored as well; move them out"
            )
        return MaskFolder(path, root)
    if path.is_file():
        if root.is_dir():
            raise UserError(f"the mask {mask} is one file for a folder of images; give a folder of masks")
        return MaskFile(path)
    raise UserError(f"the mask {mask} does not exist; give a folder of masks, alpha, or a colour such as '#ff00ff'")


@dataclass
class MaskFolder:
    """Masks in a separate folder.

    Attributes:
        folder: The masks.
        root: The images; masks have the same relative paths, apart from the extension.
    """

    folder: Path
    root: Path

    def __call__(self, path: Path, header: Header) -> MaskReader:
        """Opens the image's mask."""
        name = path.relative_to(self._images).as_posix()
        for ours, theirs in self._matches.ambiguous:
            if name in ours:
                raise ValueError(
                    f"{path}: its mask is ambiguous: {', '.join(theirs)} in {self.folder} could belong to "
                    f"{', '.join(ours)}; give them the same extension"
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
    """One mask file; white is filled.

    Attributes:
        file: A gray or RGB image; its luma is used, its alpha ignored.
    """

    file: Path

    def __call__(self, path: Path, header: Header) -> MaskReader:
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
        reader: Reads the mask's rows; of several pages, the first.
    """

    path: Path
    file: Path
    reader: RowReader
    brightest: float = 0.0

    def __call__(self, pixels: Pixels, alpha: Pixels | None) -> tuple[Pixels | None, Mask]:
        """Reads the same number of rows of the mask."""
        mask = to_float(to_channels(self.reader.read(len(pixels))[0], 1))[..., 0]
        self.brightest = max(self.brightest, float(mask.max()))
        return alpha, mask > 0.5

    def conclude(self) -> None:
        """Closes the mask."""
        self.reader.close()
        if 0 < self.brightest <= 1 / 255:
            raise ValueError(f"{self.path}: its mask {self.file} is black (values 0 and 1 of 255); holes must be white")


@dataclass
class AlphaMasks:
    """Fills every pixel that is not fully opaque; the output is opaque."""

    def __call__(self, path: Path, header: Header) -> MaskReader:
        """Checks that there is an alpha channel."""
        if not header.alpha:
            raise ValueError(f"{path}: has no alpha channel to say what to fill")
        return FromRows(lambda pixels, alpha: (None, to_float(_there(alpha))[..., 0] < 1))


@dataclass
class ColourMasks:
    """Fills every pixel of exactly one colour, which is scaled for files of 16 bits or floats.

    JPEG and lossy WebP do not keep colours exactly.

    Attributes:
        colour: Red, green and blue, 0 to 255.
    """

    colour: tuple[int, int, int]

    def __call__(self, path: Path, header: Header) -> MaskReader:
        """Scales the colour to the file's depth."""
        colour = from_float(to_float(np.array(self.colour, np.uint8)), header.dtype)
        return FromRows(lambda pixels, alpha: (alpha, (to_channels(pixels, 3) == colour).all(axis=2)))


@dataclass
class FromRows:
    """A mask computed from the rows of the image itself.

    Attributes:
        look: Returns the alpha to keep and the mask of some rows.
    """

    look: Callable[[Pixels, Pixels | None], tuple[Pixels | None, Mask]]

    def __call__(self, pixels: Pixels, alpha: Pixels | None) -> tuple[Pixels | None, Mask]:
        """Returns the alpha to keep and the mask of the next rows."""
        return self.look(pixels, alpha)

    def conclude(self) -> None:
        """Does nothing, because no file is open."""


def _there(alpha: Pixels | None) -> Pixels:
    assert alpha is not None
    return alpha


def _names(files: list[Path], folder: Path) -> list[str]:
    return [file.relative_to(folder).as_posix() for file in files]
