"""Turns pictures upright without holding all of them in memory."""

from __future__ import annotations

import tempfile
from collections.abc import Callable

import numpy as np

from img2img.imaging.values import Pixels

STRIP = 64  # rows handled at a time
IN_MEMORY = 64 * 2**20  # bytes, which no plan of memory counts; a larger picture goes to a temporary file


def turn(pixels: Pixels, orientation: int) -> Pixels:
    """Undo an EXIF orientation (1 to 8, others mean upright) of HxWxC pixels."""
    if orientation >= 5:  # 5 to 8 are stored on their side
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


class Turned:
    """Turns one page upright: its rows arrive in stored order and leave in upright order.

    Strips of rows are turned as they arrive and put into a temporary file (in memory while it is small). Upright rows
    are then gathered from them: from a piece of each strip if the page is stored sideways. `take` returns the given
    number of next stored rows, HxWxC, of `height` in all; `orientation` is 3 to 8.
    """

    def __init__(self, take: Callable[[int], Pixels], height: int, orientation: int) -> None:
        self._sideways = orientation >= 5
        self._file = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115 - closed by close()
        self._strips: list[tuple[int, tuple[int, ...]]] = []  # position in the file, shape; in upright order
        for top in range(0, height, STRIP):
            strip = turn(take(min(STRIP, height - top)), orientation)
            self._strips.append((self._file.tell(), strip.shape))
            self._file.write(strip.data)
            self._dtype = strip.dtype
        if orientation in (3, 4, 6, 7):  # the first stored rows become the last, or the rightmost
            self._strips.reverse()

    def rows(self, top: int, count: int) -> Pixels:
        """Return upright rows `top` to `top + count`, which must all exist."""
        if self._sideways:
            return np.concatenate([self._read(strip, top, count) for strip in self._strips], axis=1)
        pieces, start = [], 0
        for strip in self._strips:
            first, last = max(top, start), min(top + count, start + strip[1][0])
            if first < last:
                pieces.append(self._read(strip, first - start, last - first))
            start += strip[1][0]
        return np.concatenate(pieces)

    def _read(self, strip: tuple[int, tuple[int, ...]], top: int, count: int) -> Pixels:
        position, (_, width, bands) = strip
        line = width * bands * self._dtype.itemsize
        self._file.seek(position + top * line)
        return np.frombuffer(self._file.read(count * line), self._dtype).reshape(count, width, bands)

    def close(self) -> None:
        """Delete the temporary file."""
        self._file.close()
