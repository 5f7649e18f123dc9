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

from img2img.imaging.formats import Header
from img2img.imaging.reading import RowReader, open_rows
from img2img.imaging.values import Pixels, to_float
from img2img.inference.jobs import Job, reason_of
from img2img.inference.masks import MaskFinder, MaskReader
from img2img.tiling.geometry import Span, Tiling

STRIP = 128
"""Rows to read at a time."""
PATIENCE = 2.0
"""Seconds that an interrupted run waits for the reader."""

T = TypeVar("T")
TilingOf = Callable[[Header], Tiling]
"""Returns how to cut an image."""


@dataclass(frozen=True, eq=False)
class Tile:
    """Where one tile of a batch belongs.

    Attributes:
        job: The file.
        status: The file's status from before it was opened.
        header: The file's header.
        page: Number of the page.
        tiling: How the page is cut.
        row: Number of the tile's row.
        column: Number of the tile's column.
        alpha: The tile's alpha, H×W×1 of the file's dtype, or None.
        wanted: Whether the tile is written; otherwise it only completes a batch.
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
        """Megapixels of the part that is kept, in the input."""
        down, across = self.tiling.rows[self.row], self.tiling.columns[self.column]
        return (down.last - down.first) * (across.last - across.first) / 1e6


class Tiles:
    """The tiles of a batch, or a file's problem; not a dataclass, because Lightning would take it apart.

    Args:
        tiles: One for each image of the batch.
        job: The file that has a problem.
        problem: What is wrong with it.
    """

    def __init__(self, tiles: Sequence[Tile] = (), job: Job | None = None, problem: str = "") -> None:
        self.tiles, self.job, self.problem = tuple(tiles), job, problem


def tile_batches(
    groups: Iterable[Sequence[Job]],
    tiling_of: TilingOf,
    masks: MaskFinder | None = None,
    done: Collection[str] = (),
) -> Iterator[dict[str, Any]]:
    """Yields every tile of every file, row by row; whole images of a group share a batch.

    A batch has `tiles` and, where a file can be read, `input` (N×C×H×W float32, nominally in [0, 1]) and, with
    masks, `mask` (N×1×H×W float32, 1 in holes).

    Args:
        groups: The files; those of a group have the same size.
        tiling_of: Returns how to cut an image.
        masks: Finds the images' masks; None for models that take no masks.
        done: Names of finished outputs, which are not written.
    """
    for group in groups:
        single: list[dict[str, Any]] = []
        for job in group:
            for batch in _tiles_of(job, tiling_of, masks, job.name not in done):
                if len(group) == 1 or not _is_whole(batch["tiles"]):
                    yield batch
                else:
                    single.append(batch)
        yield from _joined(single)


def _is_whole(tiles: Tiles) -> bool:
    """Returns whether a batch is a whole image; tiles of a cut image must keep their order."""
    return len(tiles.tiles) == 1 and len(tiles.tiles[0].tiling.rows) == len(tiles.tiles[0].tiling.columns) == 1


def _joined(batches: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Joins the batches of whole images by size: an image may have changed since its header was read."""
    by_shape: dict[torch.Size, list[dict[str, Any]]] = {}
    for batch in batches:
        by_shape.setdefault(batch["input"].shape, []).append(batch)
    for alike in by_shape.values():
        names = [name for name in ("input", "mask") if name in alike[0]]
        joined: dict[str, Any] = {name: torch.cat([batch[name] for batch in alike]) for name in names}
        yield joined | {"tiles": Tiles([tile for batch in alike for tile in batch["tiles"].tiles])}


def _tiles_of(job: Job, tiling_of: TilingOf, masks: MaskFinder | None, wanted: bool) -> Iterator[dict[str, Any]]:
    if job.problem:
        yield {"tiles": Tiles(job=job, problem=job.problem)}
        return
    try:
        status = job.source.stat()
        with open_rows(job.source) as reader:
            tiling = tiling_of(reader.header)
            for page in range(reader.header.pages):
                mask = None if masks is None else masks(job.source, reader.header)
                window = Window(reader, mask)
                for row, span in enumerate(tiling.rows):
                    window.move(span)
                    for column, across in enumerate(tiling.columns):
                        tensors, alpha = window.cut(across)
                        tile = Tile(job, status, reader.header, page, tiling, row, column, alpha, wanted)
                        yield {"tiles": Tiles([tile]), **tensors}
                if mask is not None:
                    mask.conclude()
    except Exception as error:  # damaged, gone, or without a fitting mask: the others go on
        yield {"tiles": Tiles(job=job, problem=reason_of(error, job.source))}


class Window:
    """A window that moves down an image and holds only the rows that the current row of tiles needs.

    Args:
        reader: Reads the rows.
        mask: Reads their mask; None for images without one.
    """

    def __init__(self, reader: RowReader, mask: MaskReader | None) -> None:
        self.reader, self.mask = reader, mask
        self.top = self.bottom = 0
        self.parts: list[Pixels | None] = []

    def move(self, span: Span) -> None:
        """Reads up to the span's last row and drops the rows above its first."""
        kept = [None if part is None else part[span.start - self.top :].copy() for part in self.parts]
        self.parts = []  # freed before the next rows are read: these are the largest arrays
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
        if self.mask is not None:
            alpha, found = self.mask(pixels, alpha)
        return [pixels, alpha, found]

    def cut(self, across: Span) -> tuple[dict[str, Tensor], Pixels | None]:
        """Returns the tensors of one tile, `input` and, if there is one, `mask`; and its alpha."""
        pixels, alpha, mask = (None if part is None else part[:, across.start : across.stop] for part in self.parts)
        assert pixels is not None
        tensors = {"input": torch.from_numpy(to_float(pixels)).permute(2, 0, 1)[None]}
        if mask is not None:
            tensors["mask"] = torch.from_numpy(mask.astype(np.float32))[None, None]
        # A copy: the next rows are read while this tile waits to be written.
        return tensors, None if alpha is None else alpha.copy()


def read_ahead(items: Iterable[T], depth: int) -> Iterator[T]:
    """Yields items that a separate thread makes ahead.

    At the end it waits for the thread, but not longer than `PATIENCE`: the thread may hang on a network drive for ever,
    and ends with the program in any case.

    Args:
        items: The items; an exception from them is raised here.
        depth: How many may wait.
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
        except BaseException as error:  # whatever it is, the consumer handles it
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
