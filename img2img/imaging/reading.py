"""Reads any image file row by row, in memory that does not grow with its height."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyvips

from img2img.imaging.decoding import Stored, open_stored
from img2img.imaging.formats import Header
from img2img.imaging.turning import Turned, turn
from img2img.imaging.values import Pixels


class UnreadableImage(ValueError):
    """A file is missing, damaged, too large or not an image; one line names the file and the reason."""


def read_header(path: Path) -> Header:
    """Return an image file's header; no pixel is decoded, and only the beginning of large files is read.

    Raises:
        UnreadableImage: the file is missing, damaged at its beginning, too large, animated, not a supported image, or
            a TIFF with pages of different sizes.
    """
    with open_rows(path) as reader:
        return reader.header


def open_rows(path: Path, *, first_page: bool = False) -> RowReader:
    """Open an image file for reading its rows; use the result as a context manager.

    The content decides the format, not the suffix. Palettes, CMYK (through its profile) and Lab become RGB, 1-bit
    becomes 8-bit gray.

    Memory: JPEG, PNG, TIFF, BMP and PPM are streamed, but the decoder holds the whole of an interlaced PNG, progressive
    JPEG or compressed BMP, and of WebP, AVIF and HEIC; `Header.held` says how much. A page that is stored sideways or
    upside down waits in a temporary file if it exceeds `img2img.imaging.turning.IN_MEMORY` bytes.

    Args:
        path: the file.
        first_page: ignore the other pages of a TIFF; otherwise all must have one size.

    Raises:
        UnreadableImage: as in `read_header`.
    """
    with reported(path):
        kind, stored = open_stored(path, first_page)
    return RowReader(path, kind.name, stored)


@contextmanager
def reported(path: Path) -> Iterator[None]:
    """Turn whatever a decoder raises into an `UnreadableImage`, one line that names the file."""
    try:
        yield
    except UnreadableImage:
        raise
    except pyvips.Error as error:
        raise UnreadableImage(f"cannot read {path}: {first_line(error)}") from error
    except OSError as error:
        raise UnreadableImage(f"cannot read {path}: {error.strerror or error}") from error
    # Pillow and its plug-ins report damage as any of these.
    except (ValueError, SyntaxError, EOFError, RuntimeError, struct.error) as error:
        raise UnreadableImage(f"cannot read {path}: {error}") from error


def first_line(error: pyvips.Error) -> str:
    """Return the first line of libvips' report, which repeats itself over several lines and is sometimes empty."""
    lines = str(error.detail or "").strip().splitlines()
    return lines[0] if lines else "damaged or truncated"


class RowReader:
    """Reads the rows of an opened image, upright, page after page; its `header` describes the file."""

    def __init__(self, path: Path, name: str, stored: Stored) -> None:
        self._path, self._stored, self._done = path, stored, 0
        self._turned: Turned | None = None
        size = (stored.width, stored.height)
        width, height = size[::-1] if stored.orientation >= 5 else size
        channels, alpha = 3 if stored.bands > 2 else 1, stored.bands in (2, 4)
        kind = (stored.dtype, stored.pages, name, stored.metadata, stored.held)
        self.header = Header(width, height, channels, alpha, *kind)

    def read(self, rows: int) -> tuple[Pixels, Pixels | None]:
        """Return the next rows (fewer at the end, then 0), all pages one below the other, and their opacity or None.

        Pixels are HxWx1 or HxWx3 of the header's dtype, opacity is HxWx1 of the same dtype.

        Raises:
            UnreadableImage: the file turns out to be truncated or damaged.
        """
        header = self.header
        rows = min(rows, header.height * header.pages - self._done)
        if rows == 0:
            nothing = np.empty((0, header.width, header.channels), header.dtype)
            return nothing, nothing[..., :1] if header.alpha else None
        with reported(self._path):
            if self._stored.orientation in (1, 2):  # a mirrored row is still a row
                pixels = turn(self._stored.take(rows), self._stored.orientation)
            else:
                pixels = self._take_turned(rows)
        if len(pixels) < rows:  # a decoder that stops early without an error
            raise UnreadableImage(f"cannot read {self._path}: the file is truncated")
        self._done += rows
        if not header.alpha:
            return pixels, None
        return np.ascontiguousarray(pixels[..., :-1]), np.ascontiguousarray(pixels[..., -1:])

    def _take_turned(self, rows: int) -> Pixels:
        """Gather upright rows from all pages that they span."""
        pieces, done = [], self._done
        while rows:
            top = done % self.header.height
            if self._turned is None or top == 0:
                if self._turned is not None:  # the page before
                    self._turned.close()
                self._turned = Turned(self._stored.take, self._stored.height, self._stored.orientation)
            count = min(rows, self.header.height - top)
            pieces.append(self._turned.rows(top, count))
            rows, done = rows - count, done + count
        return np.concatenate(pieces)

    def close(self) -> None:
        """Close the file."""
        if self._turned is not None:
            self._turned.close()
        self._stored.close()

    def __enter__(self) -> RowReader:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
