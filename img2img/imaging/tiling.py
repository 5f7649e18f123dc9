"""How a large image is cut into tiles: pure geometry, for any network that says how far it sees."""

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
"""Cuts of an axis that are tried; tiles of a gigapixel image are larger than a 512th of its side."""


@dataclass(frozen=True)
class Span:
    """One tile on one axis, in input pixels.

    Attributes:
        start: First pixel that the network sees.
        stop: One past the last.
        first: First pixel of the output that is kept.
        last: One past the last. Kept parts of neighbours abut where tiling is exact, and overlap where it is blended.
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
    """How a network wants its tiles.

    Attributes:
        halo: Pixels that it has to see around what is kept; or, where `blend`, over which neighbours are blended.
        stride: Tiles start at multiples of it.
        blend: Whether no halo makes tiling exact, so that neighbours overlap and fade into each other.
    """

    halo: int
    stride: int = 1
    blend: bool = False

    def spans(self, length: int, parts: int) -> tuple[Span, ...]:
        """Cuts an axis into equal parts, or fewer where they would be smaller than the stride.

        Args:
            length: Pixels of the axis, at least 1.
            parts: How many tiles to make, at least 1.
        """
        core = math.ceil(length / parts / self.stride) * self.stride
        if self.blend:
            core = max(core, 2 * self.halo)  # a pixel may fade between two tiles, not among three
        return tuple(self._span(first, min(length, first + core), length) for first in range(0, length, core))

    def _span(self, first: int, last: int, length: int) -> Span:
        start = max(0, (first - self.halo) // self.stride * self.stride)
        stop = min(length, math.ceil((last + self.halo) / self.stride) * self.stride)
        return Span(start, stop, start, stop) if self.blend else Span(start, stop, first, last)


@dataclass(frozen=True)
class Tiling:
    """An image's tiles: every row of them with every column.

    Attributes:
        rows: Their vertical spans, from the top.
        columns: Their horizontal spans, from the left.
    """

    rows: tuple[Span, ...]
    columns: tuple[Span, ...]

    @property
    def pixels(self) -> int:
        """Pixels that the network sees in all, each as often as it does."""
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
    """What restoring in tiles takes of memory.

    Attributes:
        tile: Bytes for each pixel of a tile: the network's, and those of tiles that wait.
        row: Bytes for each pixel of the rows that are held over the image's whole width, read and to be written.
    """

    tile: float
    row: float

    def of(self, tiling: Tiling, width: int) -> float:
        """Returns the bytes that a tiling of an image of this width takes at its peak."""
        return self.tile * tiling.height * tiling.width + self.row * tiling.height * width


def cheapest_tiling(height: int, width: int, cut: Cut, cost: Cost, memory: float) -> Tiling:
    """Returns the tiling with the least pixels to compute that fits the memory.

    Where none fits, it is the one that takes least memory: tiles have to see their halo.

    Args:
        height: Rows of the image.
        width: Its columns.
        cut: How the network wants its tiles.
        cost: What tiles take.
        memory: Bytes that may be taken.
    """
    whole = Tiling(cut.spans(height, 1), cut.spans(width, 1))
    if cost.of(whole, width) <= memory:
        return whole
    rows, columns = _divisions(height, cut), _divisions(width, cut)

    def key(pair: tuple[Division, Division]) -> tuple[float, int]:
        down, across = pair
        taken = cost.tile * down.longest * across.longest + cost.row * down.longest * width
        return max(0.0, taken - memory), down.seen * across.seen

    # For each number of columns the fewest rows that fit, else the most there are.
    pairs = ((rows[_first_that_fits(rows, across, key)], across) for across in columns)
    down, across = min(pairs, key=key)
    return Tiling(cut.spans(height, down.parts), cut.spans(width, across.parts))


class Division(NamedTuple):
    """An axis cut into `parts`: the pixels of the longest tile, and those that all tiles see."""

    parts: int
    longest: int
    seen: int


def _divisions(length: int, cut: Cut) -> list[Division]:
    """Returns the ways to cut an axis that are worth trying: with more parts tiles are smaller than half their halo."""
    most = min(MAX_CUTS, max(1, length // max(cut.stride, cut.halo // 2, 16)))
    divisions = []
    for parts in range(1, most + 1):
        lengths = [span.length for span in cut.spans(length, parts)]
        divisions.append(Division(parts, max(lengths), sum(lengths)))
    return divisions


def _first_that_fits(
    rows: Sequence[Division], across: Division, key: Callable[[tuple[Division, Division]], tuple[float, int]]
) -> int:
    # Tiles only become lower with more rows: the fitting ones are at the end.
    return min(bisect_left(rows, True, key=lambda down: key((down, across))[0] <= 0), len(rows) - 1)


def tiling_by_side(height: int, width: int, cut: Cut, side: int) -> Tiling:
    """Returns the tiling whose tiles keep at most `side` pixels on each axis, but at least the network's stride."""
    parts = [math.ceil(length / max(side, cut.stride)) for length in (height, width)]
    return Tiling(cut.spans(height, parts[0]), cut.spans(width, parts[1]))


def weights(spans: Sequence[Span], number: int, scale: int = 1) -> NDArray[np.float32] | None:
    """Returns how much each kept pixel of one span counts; None where all count fully.

    Over an overlap one neighbour's weight falls from 1 to 0 linearly while the other's rises: they sum to 1.

    Args:
        spans: All spans of an axis.
        number: Which one.
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
    """Returns whether any tiles overlap in what is kept of them."""
    return any(b.first < a.last for spans in (tiling.rows, tiling.columns) for a, b in pairwise(spans))
