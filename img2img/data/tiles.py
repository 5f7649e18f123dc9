"""The tiles of the images to restore, read row by row, ahead of the network."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from img2img.data.holes import HoleFinder, RowHoles
from img2img.data.worklist import Job, reason_of
from img2img.imaging.formats import Header
from img2img.imaging.reading import RowReader, open_rows
from img2img.imaging.tiling import Span, Tiling
from img2img.imaging.values import Pixels, to_float

STRIP = 128
"""Rows that are read at a time."""
PATIENCE = 2.0
"""Seconds that an interrupted run gives the reader."""

T = TypeVar("T")
TilingOf = Callable[[Header], Tiling]
"""Says how to cut an image."""


@dataclass(frozen=True, eq=False)
class Tile:
    """Where a tile of a batch belongs.

    Attributes:
        job: The file.
        status: The file's, from before it was opened.
        header: What its reader says of it.
        page: The page of it.
        tiling: How a page is cut.
        row: Number of the tile's row.
        column: Number of its column.
        alpha: The tile's opacity, H×W×1 of the file's dtype, or None.
        wanted: Whether it is to be written; else it only shares a batch with others.
    """

    job: Job
    status: os.stat_result
    header: Header
    page: int
    tiling: Tiling
    row: int
    column: int
    alpha: Pixels | None
    wanted: bool

    @property
    def megapixels(self) -> float:
        """What is kept of it, of the input."""
        down, across = self.tiling.rows[self.row], self.tiling.columns[self.column]
        return (down.last - down.first) * (across.last - across.first) / 1e6


class Tiles:
    """The tiles of a batch, or what is wrong with a file; no dataclass, for Lightning would take it apart.

    Args:
        tiles: One for each image of the batch.
        job: The file that has a problem, or that is skipped.
        problem: What it is.
    """

    def __init__(self, tiles: Sequence[Tile] = (), job: Job | None = None, problem: str = "") -> None:
        self.tiles, self.job, self.problem = tuple(tiles), job, problem


def tile_batches(
    groups: Iterable[Sequence[Job]],
    tiling_of: TilingOf,
    finder: HoleFinder | None = None,
    done: Collection[str] = (),
) -> Iterator[dict[str, Any]]:
    """Yields every tile of every file, row by row, and whole images of a group together.

    A batch has `tiles` and, where a file can be read, `input` (N×C×H×W float32, nominally in [0, 1]) and, with a
    finder, `mask` (N×1×H×W float32, 1 in holes).

    Args:
        groups: The files; those of a group have the same size.
        tiling_of: How to cut an image.
        finder: Where their holes are.
        done: Names of outputs that are not to be written.
    """
    for group in groups:
        single: list[dict[str, Any]] = []
        for job in group:
            for batch in _tiles_of(job, tiling_of, finder, job.name not in done):
                if len(group) == 1 or not _is_whole(batch["tiles"]):
                    yield batch
                else:
                    single.append(batch)
        yield from _joined(single)


def _is_whole(tiles: Tiles) -> bool:
    """Returns whether a batch is a whole image: tiles of one must keep their order."""
    return len(tiles.tiles) == 1 and len(tiles.tiles[0].tiling.rows) == len(tiles.tiles[0].tiling.columns) == 1


def _joined(batches: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Joins the batches of whole images of the same size, should one not have changed since its header was read."""
    by_shape: dict[torch.Size, list[dict[str, Any]]] = {}
    for batch in batches:
        by_shape.setdefault(batch["input"].shape, []).append(batch)
    for alike in by_shape.values():
        names = [name for name in ("input", "mask") if name in alike[0]]
        joined: dict[str, Any] = {name: torch.cat([batch[name] for batch in alike]) for name in names}
        yield joined | {"tiles": Tiles([tile for batch in alike for tile in batch["tiles"].tiles])}


def _tiles_of(job: Job, tiling_of: TilingOf, finder: HoleFinder | None, wanted: bool) -> Iterator[dict[str, Any]]:
    if job.problem:
        yield {"tiles": Tiles(job=job, problem=job.problem)}
        return
    try:
        status = job.source.stat()
        with open_rows(job.source) as reader:
            tiling = tiling_of(reader.header)
            for page in range(reader.header.pages):
                holes = None if finder is None else finder(job.source, reader.header)
                window = Window(reader, holes)
                for row, span in enumerate(tiling.rows):
                    window.move(span)
                    for column, across in enumerate(tiling.columns):
                        tensors, alpha = window.cut(across)
                        tile = Tile(job, status, reader.header, page, tiling, row, column, alpha, wanted)
                        yield {"tiles": Tiles([tile]), **tensors}
                if holes is not None:
                    holes.conclude()
    except Exception as error:  # damaged, vanished, without a mask that fits: the others go on
        yield {"tiles": Tiles(job=job, problem=reason_of(error, job.source))}


class Window:
    """The rows of an image that the current row of tiles sees; it moves down, and holds nothing else.

    Args:
        reader: Gives the rows.
        holes: Finds the holes in them; None for images without.
    """

    def __init__(self, reader: RowReader, holes: RowHoles | None) -> None:
        self.reader, self.holes = reader, holes
        self.top = self.bottom = 0
        self.parts: list[Pixels | None] = []

    def move(self, span: Span) -> None:
        """Reads on to the span's last row and forgets what lies above its first."""
        kept = [None if part is None else part[span.start - self.top :].copy() for part in self.parts]
        self.parts = []  # before the next rows are read: these are the largest arrays there are
        at = self.bottom - span.start if kept else 0
        while at < span.length:
            strip = self._read(min(STRIP, span.length - at))
            if not self.parts:
                self.parts = [
                    None if new is None else np.empty((span.length, *new.shape[1:]), new.dtype) for new in strip
                ]
                for whole, old in zip(self.parts, kept, strict=False):
                    if whole is not None and old is not None:
                        whole[:at] = old
            for whole, new in zip(self.parts, strip, strict=True):
                if whole is not None:
                    whole[at : at + len(new)] = new  # type: ignore[arg-type]
            at += STRIP
        self.parts = self.parts or kept
        self.top, self.bottom = span.start, span.stop

    def _read(self, rows: int) -> list[Pixels | None]:
        pixels, alpha = self.reader.read(rows)
        found: Pixels | None = None
        if self.holes is not None:
            alpha, found = self.holes(pixels, alpha)
        return [pixels, alpha, found]

    def cut(self, across: Span) -> tuple[dict[str, Tensor], Pixels | None]:
        """Returns the tensors of one tile, `input` and perhaps `mask`, and its alpha."""
        pixels, alpha, holes = (None if part is None else part[:, across.start : across.stop] for part in self.parts)
        assert pixels is not None
        tensors = {"input": torch.from_numpy(to_float(pixels)).permute(2, 0, 1)[None]}
        if holes is not None:
            tensors["mask"] = torch.from_numpy(holes.astype(np.float32))[None, None]
        # A copy: the next rows are read while this tile waits to be written.
        return tensors, None if alpha is None else alpha.copy()


def read_ahead(items: Iterable[T], depth: int) -> Iterator[T]:
    """Yields items that a thread of its own makes ahead.

    Args:
        items: What to go through; an exception that it raises is raised here.
        depth: How many may wait.

    The thread is not waited for longer than `PATIENCE`: it may hang on a network drive for ever, and ends with the
    program in any case.
    """
    waiting: queue.Queue[tuple[T | None, BaseException | None] | None] = queue.Queue(depth)
    stopped = threading.Event()

    def put(item: tuple[T | None, BaseException | None] | None) -> bool:
        while not stopped.is_set():
            try:
                waiting.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def work() -> None:
        try:
            for item in items:
                if not put((item, None)):
                    return
            put(None)
        except BaseException as error:  # whatever it is, it is not this thread's to handle
            put((None, error))

    thread = threading.Thread(target=work, name="read-ahead", daemon=True)
    thread.start()
    try:
        while (found := waiting.get()) is not None:
            item, error = found
            if error is not None:
                raise error
            yield item  # type: ignore[misc]
    finally:
        stopped.set()
        thread.join(PATIENCE)
