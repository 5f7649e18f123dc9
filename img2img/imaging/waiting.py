"""Buffers rows for an encoder that pulls them."""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyvips

from img2img.imaging.parts import new_part
from img2img.imaging.values import Pixels

_STRIP = 16  # rows that libvips reads at a time


class WaitingRows:
    """Buffer of HxWxbands pixels: an array, or a hidden file in `folder` if they would exceed `limit` bytes.

    The file is a TIFF without compression, because libvips reads TIFF through a small buffer, whereas `rawload` maps
    the whole file into memory.
    """

    def __init__(self, folder: Path, shape: tuple[int, int, int], dtype: np.dtype[np.generic], limit: int) -> None:
        self._shape, self._dtype, self._done = shape, dtype, 0
        small = int(np.prod(shape)) * dtype.itemsize <= limit
        self._array: Pixels = np.empty(shape if small else 0, dtype)  # empty if the file holds the rows
        self._path = Path() if small else new_part(folder)
        self._file = None if small else open(self._path, "x+b")  # noqa: SIM115 - closed by remove()
        if self._file:
            self._file.write(bytes(16))  # room for the header, which is written last

    def add(self, rows: Pixels) -> None:
        """Append rows."""
        if self._file is None:
            self._array[self._done : self._done + len(rows)] = rows
        else:
            self._file.write(np.ascontiguousarray(rows).data)
        self._done += len(rows)

    def as_vips(self) -> pyvips.Image:
        """Return all rows as a libvips image, to be read once from the top down."""
        height, width, bands = self._shape
        # Without the right interpretation libvips would write uint16 as an 8-bit PNG.
        gray, colour = ("grey16", "rgb16") if self._dtype == np.uint16 else ("b-w", "srgb")
        if self._file is None:
            types = {"uint8": "uchar", "uint16": "ushort", "float32": "float"}
            image = pyvips.Image.new_from_memory(self._array.data, width, height, bands, types[self._dtype.name])
        else:
            self._finish(self._file)
            source = pyvips.Source.new_from_descriptor(self._file.fileno())
            image = pyvips.Image.tiffload_source(source, access="sequential", fail_on="error")
        return image.copy(interpretation=gray if bands < 3 else colour)

    def bands(self) -> Iterator[Pixels]:
        """Yield all rows, some at a time."""
        height, width, bands = self._shape
        if self._file is None:
            yield self._array
            return
        self._file.seek(16)
        for top in range(0, height, _STRIP):
            data = self._file.read(min(_STRIP, height - top) * width * bands * self._dtype.itemsize)
            yield np.frombuffer(data, self._dtype).reshape(-1, width, bands)

    def remove(self) -> None:
        """Discard the rows and delete the file."""
        self._array = np.empty(0, self._dtype)
        if self._file is not None:
            self._path.unlink(missing_ok=True)
            # Closing the raw file skips a last flush, which could fail on a full disk; the file is deleted anyway.
            self._file.raw.close()

    def _finish(self, file: BinaryIO) -> None:
        """Turn the file into a BigTIFF: header, rows in strips, offsets and lengths of the strips, directory."""
        height, width, bands = self._shape
        size = self._dtype.itemsize
        strip = _STRIP * width * bands * size
        places = (16 + np.arange(-(-height // _STRIP)) * strip).astype(np.uint64)
        lengths = np.full(len(places), strip, np.uint64)
        lengths[-1] = height * width * bands * size - (len(places) - 1) * strip
        end = file.seek(0, 2)
        file.write(places.tobytes() + lengths.tobytes())
        many = len(places) > 1
        entries: list[tuple[int, int, int | bytes]] = [  # tag, count, value: bytes are 16-bit numbers
            (256, 1, width),
            (257, 1, height),
            (258, bands, _four([8 * size] * bands)),  # bits per sample
            (259, 1, 1),  # no compression
            (262, 1, 1 if bands < 3 else 2),  # gray or RGB
            (273, len(places), end if many else 16),
            (277, 1, bands),
            (278, 1, _STRIP),
            (279, len(places), end + places.nbytes if many else int(lengths[0])),
            (284, 1, 1),  # channels interleaved
            *([(338, 1, _four([2]))] if bands in (2, 4) else []),  # alpha, not multiplied in
            (339, bands, _four([3 if self._dtype.kind == "f" else 1] * bands)),
        ]
        place = file.tell()
        file.write(struct.pack("=Q", len(entries)))
        for tag, count, value in entries:
            kind, data = (3, value) if isinstance(value, bytes) else (16, struct.pack("=Q", value))
            file.write(struct.pack("=HHQ", tag, kind, count) + data)
        file.write(bytes(8))  # no further directory
        file.seek(0)
        order = b"II" if sys.byteorder == "little" else b"MM"
        file.write(order + struct.pack("=HHHQ", 43, 8, 0, place))
        file.flush()
        file.seek(0)


def _four(values: list[int]) -> bytes:
    """Return up to four values as 16-bit integers, filled up with zeros."""
    return struct.pack("=4H", *values, *[0] * (4 - len(values)))
