"""Cuts a large image into tiles for any network, given its receptive field."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise, product

import numpy as np
from numpy.typing import NDArray

MAX_CUTS = 512
"""Most parts that an axis is cut into; tiles of a gigapixel image are larger than a 512th of its side."""


@dataclass(frozen=True)
class Span:
    """One tile on one axis, in input pixels.

    Attributes:
        start: First pixel that the network sees.
        stop: One past the last.
        first: First pixel of the kept part. Kept parts of neighbours abut if tiling is exact, overlap if it is blended.
        last: One past the last.
    """

    start: int
    stop: int
    first: int
    last: int

    @property
    def length(self) -> int:
        """Pixels that the network sees."""
        return self.stop - self.start


@dataclass(frozen=True)
class Cut:
    """How tiles are cut for a network.

    Attributes:
        halo: Pixels that the network must see around the kept part; with `blend`, the pixels over which neighbours are
            blended.
        stride: Tiles start at multiples of this.
        blend: Whether neighbours overlap and fade into each other, because no halo makes tiling exact.
    """

    halo: int
    stride: int = 1
    blend: bool = False

    def spans(self, length: int, parts: int) -> tuple[Span, ...]:
        """Cuts an axis of `length` pixels into equal parts, or fewer if they would be smaller than the stride."""
        core = math.ceil(length / parts / self.stride) * self.stride
        if self.blend:
            core = max(core, 2 * self.halo)  # a pixel may fade between two tiles, not three
        return tuple(self._span(first, min(length, first + core), length) for first in range(0, length, core))

    def _span(self, first: int, last: int, length: int) -> Span:
        start = max(0, (first - self.halo) // self.stride * self.stride)
        stop = min(length, math.ceil((last + self.halo) / self.stride) * self.stride)
        return Span(start, stop, start, stop) if self.blend else Span(start, stop, first, last)


@dataclass(frozen=True)
class Tiling:
    """The tiles of an image: every vertical span, from the top, combined with every horizontal one, from the left."""

    rows: tuple[Span, ...]
    columns: tuple[Span, ...]

    @property
    def pixels(self) -> int:
        """Pixels that the network sees in total, counting overlaps repeatedly."""
        return sum(row.length for row in self.rows) * sum(column.length for column in self.columns)

    @property
    def height(self) -> int:
        """The tallest tile's rows."""
        return max(row.length for row in self.rows)

    @property
    def width(self) -> int:
        """The widest tile's columns."""
        return max(column.length for column in self.columns)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yields (row, column) numbers, row by row."""
        yield from product(range(len(self.rows)), range(len(self.columns)))


@dataclass(frozen=True)
class Cost:
    """Memory that restoring in tiles takes.

    Attributes:
        tile: Bytes per pixel of a tile, for the network and the waiting tiles.
        row: Bytes per pixel of the rows that are held over the whole width, read or to be written.
    """

    tile: float
    row: float

    def of(self, tiling: Tiling, width: int) -> float:
        """Returns the peak memory in bytes, for an image of this width."""
        return self.tile * tiling.height * tiling.width + self.row * tiling.height * width


@lru_cache(1024)
def cheapest_tiling(height: int, width: int, cut: Cut, cost: Cost, memory: float) -> Tiling:
    """Returns the tiling with the fewest pixels to compute that fits the memory, in bytes.

    If none fits, because tiles must include their halo, returns the one that takes the least memory.
    """
    whole = Tiling(cut.spans(height, 1), cut.spans(width, 1))
    if cost.of(whole, width) <= memory:
        return whole
    rows, columns = _divisions(height, cut), _divisions(width, cut)
    height_of_tiles, rows_seen = rows.T
    width_of_tiles, columns_seen = columns.T[..., None]  # so that the tables below hold every pair
    taken = cost.tile * height_of_tiles * width_of_tiles + cost.row * height_of_tiles * width
    missing, seen = np.maximum(0, taken - memory), rows_seen * columns_seen
    across, down = np.unravel_index(np.lexsort((seen.ravel(), missing.ravel()))[0], taken.shape)
    return Tiling(cut.spans(height, int(down) + 1), cut.spans(width, int(across) + 1))


def _divisions(length: int, cut: Cut) -> NDArray[np.int64]:
    """Returns the pixels of the longest tile, and of all tiles, for an axis cut into 1, 2, 3 … parts: N×2."""
    # With more parts, tiles would be smaller than half their halo.
    most = min(MAX_CUTS, max(1, length // max(cut.stride, cut.halo // 2, 16)))
    lengths = ([span.length for span in cut.spans(length, parts)] for parts in range(1, most + 1))
    return np.array([(max(each), sum(each)) for each in lengths], np.int64)


def tiling_by_side(height: int, width: int, cut: Cut, side: int) -> Tiling:
    """Returns the tiling whose tiles keep at most `side` pixels on each axis, but at least the network's stride."""
    parts = [math.ceil(length / max(side, cut.stride)) for length in (height, width)]
    return Tiling(cut.spans(height, parts[0]), cut.spans(width, parts[1]))


def weights(spans: Sequence[Span], number: int, scale: int = 1) -> NDArray[np.float32] | None:
    """Returns the weight of each kept output pixel of a span, one of all spans of an axis; None if all weights are 1.

    Where neighbours overlap, one's weight falls linearly from 1 to 0 while the other's rises: they sum to 1.
    """
    span = spans[number]
    before = (spans[number - 1].last - span.first) * scale if number else 0
    after = (span.last - spans[number + 1].first) * scale if number + 1 < len(spans) else 0
    if before <= 0 and after <= 0:
        return None
    values = np.ones((span.last - span.first) * scale, np.float32)
    if before > 0:
        values[:before] *= _ramp(before)
    if after > 0:
        values[len(values) - after :] *= 1 - _ramp(after)
    return values


def _ramp(length: int) -> NDArray[np.float32]:
    return ((np.arange(length) + 0.5) / length).astype(np.float32)


def is_blended(tiling: Tiling) -> bool:
    """Returns whether the kept parts of tiles overlap."""
    return any(b.first < a.last for spans in (tiling.rows, tiling.columns) for a, b in pairwise(spans))
