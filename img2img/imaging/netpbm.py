"""Reads and writes PPM, PGM and PBM, which are simple enough to need no library.

Pillow reduces 16-bit colour to 8 bits, and OpenCV ignores the header's maximum.
Source: https://netpbm.sourceforge.net/doc/ppm.html
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import BinaryIO

import numpy as np

from img2img.imaging.values import Pixels

_GAP = rb"(?:\s|#[^\n]*\n)+"
_NUMBER = rb"(\d{1,9})"
_BITMAP = re.compile(rb"P([14])" + _GAP + _NUMBER + _GAP + _NUMBER + rb"\s")
_LEVELS = re.compile(rb"P([2356])" + _GAP + _NUMBER + _GAP + _NUMBER + _GAP + _NUMBER + rb"\s")
_LONGEST = 65_536  # bytes of a header with its comments
_DIGITS = bytes(code if chr(code) in "0123456789" else ord(" ") for code in range(256))  # turns the rest into spaces
_NO_BITS = bytes(code for code in range(256) if chr(code) not in "01")
_CHUNK = 1 << 20  # bytes of text that are read at a time


class NetpbmRows:
    """Reads a PPM, PGM or PBM file row by row; `dtype` is uint16 if the header's maximum exceeds 255, otherwise uint8.

    Binary files have at least `end` bytes.

    Raises:
        ValueError: the header is invalid, or, when reading rows, samples are missing or too large.
    """

    def __init__(self, file: BinaryIO) -> None:
        head = file.read(_LONGEST)
        match = _LEVELS.match(head) or _BITMAP.match(head)
        if match is None:
            raise ValueError("no valid PPM header")
        kind, self.width, self.height, self._top = (*map(int, match.groups()), 1)[:4]
        if 0 in (self.width, self.height) or not 0 < self._top < 65536:
            raise ValueError(f"{self.width}x{self.height} pixels up to {self._top} are not a PPM image")
        self.channels = 3 if kind in (3, 6) else 1
        self.dtype = np.dtype(np.uint8 if self._top < 256 else np.uint16)
        self._bitmap, self._plain = kind in (1, 4), kind <= 3
        self._file, self._rest, self._waiting = file, b"", np.empty(0, np.int64)
        line = -(-self.width // 8) if self._bitmap else self.width * self.channels * self.dtype.itemsize
        self.end = 0 if self._plain else match.end() + self.height * line
        file.seek(match.end())

    def read(self, rows: int) -> Pixels:
        """Return the next rows, rows x width x channels, scaled to the whole range of the dtype."""
        line = self.width * self.channels
        if self._plain:
            stored = self._numbers(rows * line)
        elif self._bitmap:
            packed = np.frombuffer(self._exactly(rows * (-(-line // 8))), np.uint8)
            stored = np.unpackbits(packed.reshape(rows, -1), axis=1, count=line)
        else:
            wide = self.dtype.itemsize
            stored = np.frombuffer(self._exactly(rows * line * wide), f">u{wide}")
        return self._scale(stored.reshape(rows, self.width, self.channels))

    def _scale(self, stored: Pixels) -> Pixels:
        """Scale 0 … maximum to 0 … 255 or 65535; in bitmaps 1 is black."""
        full = 256**self.dtype.itemsize - 1
        if stored.size and stored.max() > self._top:
            raise ValueError(f"a value exceeds the maximum of {self._top}")
        if self._bitmap:
            stored = 1 - stored
        if self._top == full:
            return stored.astype(self.dtype)
        return np.asarray((stored.astype(np.uint64) * full * 2 + self._top) // (2 * self._top)).astype(self.dtype)

    def _exactly(self, count: int) -> bytes:
        data = self._file.read(count)
        if len(data) < count:
            raise ValueError("the file is truncated")
        return data

    def _numbers(self, count: int) -> Pixels:
        """Return the next values of a text file."""
        while len(self._waiting) < count:
            chunk = self._file.read(_CHUNK)
            text, unfinished, _ = re.sub(rb"#[^\n]*\n", b"\n", self._rest + chunk).partition(b"#")
            end = len(text) if self._bitmap or unfinished or not chunk else len(text.rstrip(b"0123456789"))
            text, self._rest = text[:end], text[end:] + unfinished  # the last number or comment may go on
            if len(self._rest) > _LONGEST:
                raise ValueError("a value has too many digits")
            if self._bitmap:
                found = np.frombuffer(text.translate(None, _NO_BITS), np.uint8).astype(np.int64) - ord("0")
            else:
                found = np.fromstring(text.translate(_DIGITS), np.int64, sep=" ")
            self._waiting = np.concatenate([self._waiting, found])
            if not chunk and len(self._waiting) < count:
                raise ValueError("the file is truncated")
        values, self._waiting = self._waiting[:count], self._waiting[count:]
        return values


def write_netpbm(file: BinaryIO, width: int, height: int, bands: Iterable[Pixels]) -> None:
    """Write bands of HxWx1 (as PGM) or HxWx3 (as PPM) rows of uint8 or uint16, one after another."""
    for number, band in enumerate(bands):
        if number == 0:
            kind, top = (5 if band.shape[2] == 1 else 6), np.iinfo(band.dtype).max
            file.write(b"P%d\n%d %d\n%d\n" % (kind, width, height, top))
        file.write(np.ascontiguousarray(band, f">u{band.dtype.itemsize}").data)
