"""Geometry of tiles: cuts a large image for any network, given its receptive field."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

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
        first: First pixel of the output that is kept.
        last: One past the last. Kept parts of neighbours abut if tiling is exact, and overlap if it is blended.
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
        halo: Pixels that the network must see around the kept part; with `blend`, over which neighbours are blended.
        stride: Tiles start at multiples of this.
        blend: Whether neighbours overlap and fade into each other, because no halo makes tiling exact.
    """

    halo: int
    stride: int = 1
    blend: bool = False

    def spans(self, length: int, parts: int) -> tuple[Span, ...]:
        """Cuts an axis into equal parts, or fewer if they would be smaller than the stride.

        Args:
            length: Pixels of the axis, at least 1.
            parts: Number of tiles to make, at least 1.
        """
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
    """The tiles of an image: every row span combined with every column span.

    Attributes:
        rows: Vertical spans, from the top.
        columns: Horizontal spans, from the left.
    """

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
        for row in range(len(self.rows)):
            for column in range(len(self.columns)):
                yield row, column


@dataclass(frozen=True)
class Cost:
    """Memory that restoring in tiles takes.

    Attributes:
        tile: Bytes per pixel of a tile: those of the network, and those of waiting tiles.
        row: Bytes per pixel of the rows held over the image's whole width: those read, and those to be written.
    """

    tile: float
    row: float

    def of(self, tiling: Tiling, width: int) -> float:
        """Returns the peak memory of a tiling of an image with this width, in bytes."""
        return self.tile * tiling.height * tiling.width + self.row * tiling.height * width


def cheapest_tiling(height: int, width: int, cut: Cut, cost: Cost, memory: float) -> Tiling:
    """Returns the tiling with the fewest pixels to compute that fits the memory.

    If none fits, because tiles must include their halo, returns the one that takes the least memory.

    Args:
        height: Rows of the image.
        width: Columns of the image.
        cut: How tiles are cut for the network.
        cost: Memory that tiles take.
        memory: Memory limit, in bytes.
    """
    whole = Tiling(cut.spans(height, 1), cut.spans(width, 1))
    if cost.of(whole, width) <= memory:
        return whole
    rows, columns = _divisions(height, cut), _divisions(width, cut)

    def key(pair: tuple[Division, Division]) -> tuple[float, int]:
        down, across = pair
        taken = cost.tile * down.longest * across.longest + cost.row * down.longest * width
        return max(0.0, taken - memory), down.seen * across.seen

    # For each number of columns, the fewest rows that fit, otherwise the most rows.
    pairs = ((rows[_first_that_fits(rows, across, key)], across) for across in columns)
    down, across = min(pairs, key=key)
    return Tiling(cut.spans(height, down.parts), cut.spans(width, across.parts))


class Division(NamedTuple):
    """An axis cut into `parts`: the pixels of the longest tile, and those of all tiles together."""

    parts: int
    longest: int
    seen: int


def _divisions(length: int, cut: Cut) -> list[Division]:
    """Returns the ways to cut an axis worth trying: with more parts, tiles are smaller than half their halo."""
    most = min(MAX_CUTS, max(1, length // max(cut.stride, cut.halo // 2, 16)))
    divisions = []
    for parts in range(1, most + 1):
        lengths = [span.length for span in cut.spans(length, parts)]
        divisions.append(Division(parts, max(lengths), sum(lengths)))
    return divisions


def _first_that_fits(
    rows: Sequence[Division], across: Division, key: Callable[[tuple[Division, Division]], tuple[float, int]]
) -> int:
    # More rows only make tiles lower, so those that fit are at the end.
    return min(bisect_left(rows, True, key=lambda down: key((down, across))[0] <= 0), len(rows) - 1)


def tiling_by_side(height: int, width: int, cut: Cut, side: int) -> Tiling:
    """Returns the tiling whose tiles keep at most `side` pixels on each axis, but at least the network's stride."""
    parts = [math.ceil(length / max(side, cut.stride)) for length in (height, width)]
    return Tiling(cut.spans(height, parts[0]), cut.spans(width, parts[1]))


def weights(spans: Sequence[Span], number: int, scale: int = 1) -> NDArray[np.float32] | None:
    """Returns the weight of each kept pixel of a span; None if all weights are 1.

    Over an overlap, one neighbour's weight falls linearly from 1 to 0 while the other's rises: they sum to 1.

    Args:
        spans: All spans of an axis.
        number: Number of the span.
        scale: Output pixels per input pixel.
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
    """Returns whether the kept parts of any tiles overlap."""
    return any(b.first < a.last for spans in (tiling.rows, tiling.columns) for a, b in pairwise(spans))
