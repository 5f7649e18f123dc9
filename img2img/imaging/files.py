"""Reads and writes whole image files, on top of the row-by-row modules `reading` and `writing`.

Reading is safe in forked worker processes; writing is not (see `img2img.imaging.writing`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from img2img.imaging.folders import find_images
from img2img.imaging.formats import SUFFIXES, Header
from img2img.imaging.reading import UnreadableImage, open_rows
from img2img.imaging.values import Pixels, from_float, to_channels, to_float
from img2img.imaging.writing import create_rows

__all__ = ["SUFFIXES", "Image", "UnreadableImage", "find_images", "from_float", "read_image"]
__all__ += ["to_channels", "to_float", "write_image"]


@dataclass(frozen=True, eq=False)
class Image:
    """A decoded picture, upright.

    Raises:
        ValueError: shapes or dtypes are not as below.
    """

    pixels: Pixels  # HxWx1 (gray) or HxWx3 (RGB); uint8, uint16 or float32 as stored in the file
    alpha: Pixels | None  # HxWx1 opacity of the same dtype
    metadata: dict[str, object]  # what `write_image` needs to write EXIF, ICC, XMP, IPTC and resolution (pixels per mm)

    def __post_init__(self) -> None:
        """Reject arrays that no file format could hold."""
        shape, dtype = self.pixels.shape, self.pixels.dtype
        fits = len(shape) == 3 and shape[2] in (1, 3) and 0 not in shape
        if not fits or dtype not in (np.uint8, np.uint16, np.float32):
            raise ValueError(f"pixels must be HxWx1 or HxWx3 of uint8, uint16 or float32, not {shape} of {dtype}")
        if self.alpha is not None and (self.alpha.shape != (*shape[:2], 1) or self.alpha.dtype != dtype):
            raise ValueError(f"alpha {self.alpha.shape} of {self.alpha.dtype} does not fit pixels {shape} of {dtype}")


def read_image(path: Path) -> Image:
    """Decode a whole image file, upright, with the depth that it declares; of several pages the first; see `open_rows`.

    Raises:
        UnreadableImage: the file is missing, truncated, damaged, too large, animated, or not a supported image.
    """
    with open_rows(path, first_page=True) as reader:
        pixels, alpha = reader.read(reader.header.height)
        return Image(pixels, alpha, reader.header.metadata)


def read_finite(path: Path) -> Image:
    """Decode as `read_image` does, but reject NaN and infinity.

    Raises:
        UnreadableImage: as in `read_image`, or the image contains NaN or infinity.
    """
    image = read_image(path)
    if image.pixels.dtype == np.float32 and not np.isfinite(image.pixels).all():
        raise UnreadableImage(f"cannot read {path}: it contains NaN or infinity")
    return image


def write_image(path: Path, image: Image, *, quality: int = 95) -> None:
    """Write an image in the format of the suffix; the file appears complete or not at all; see `create_rows`.

    Args:
        path: the target; an existing file is replaced.
        image: what to write.
        quality: 1 to 100, for JPEG, WebP and AVIF only.

    Raises:
        ValueError: the suffix is unknown or the format cannot hold this image.
        OSError: the file cannot be written.
    """
    (height, width, channels), dtype = image.pixels.shape, image.pixels.dtype
    header = Header(width, height, channels, image.alpha is not None, dtype, 1, path.suffix[1:], image.metadata)
    with create_rows(path, header, quality=quality, scratch=image.pixels.nbytes * 2) as writer:
        writer.write(image.pixels, image.alpha)
