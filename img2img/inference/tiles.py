"""The tiles of the images to restore, read row by row, ahead of the network."""

from __future__ import annotations

import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from img2img.imaging.formats import Header
from img2img.imaging.reading import RowReader, open_rows
from img2img.imaging.values import Pixels, to_float
from img2img.inference.jobs import Job, reason_of
from img2img.inference.masks import MaskFinder, MaskReader
from img2img.inference.room import Room
from img2img.inference.strength import FULL, Strength, StrengthRows
from img2img.tiling.geometry import Span, Tiling
from img2img.tiling.stitch import kept

STRIP = 128
"""Rows to read at a time."""
PATIENCE = 2.0
"""Seconds that an interrupted run waits for the reader."""

T = TypeVar("T")
TilingOf = Callable[[Header, str], Tiling]
"""Returns how to cut an image, given its header and its output's suffix."""


@dataclass(frozen=True, eq=False)
class Tile:
    """Where one tile of a batch belongs.

    Attributes:
        job: The file.
        status: Its status from before it was opened.
        header: Its header.
        page: Number of the page.
        tiling: How the page is cut.
        row: Number of the tile's row.
        column: Number of the tile's column.
        original: The tile as the file holds it, H×W×C; empty if the tile is not written.
        alpha: The tile's alpha, H×W×1 of the file's dtype, or None.
        strength: How much of the restoration to keep, see `img2img.inference.strength.blend`.
        hole: Share of the kept part that is filled; None without masks.
        wanted: Whether the tile is written; otherwise it only completes a batch.
    """

    job: Job
    status: os.stat_result
    header: Header
    page: int
    tiling: Tiling
    row: int
    column: int
    original: Pixels
    alpha: Pixels | None
    strength: float | Pixels
    hole: float | None
    wanted: bool

    @property
    def megapixels(self) -> float:
        """Megapixels of the part that is kept, in the input."""
        down, across = self.tiling.rows[self.row], self.tiling.columns[self.column]
        return (down.last - down.first) * (across.last - across.first) / 1e6


class Tiles:
    """The tiles of a batch, one for each image; or a file (`job`) and what is wrong with it (`problem`).

    Not a dataclass, because Lightning would take it apart.
    """

    def __init__(self, tiles: Sequence[Tile] = (), job: Job | None = None, problem: str = "") -> None:
        self.tiles, self.job, self.problem = tuple(tiles), job, problem


def tile_batches(
    groups: Iterable[Sequence[Job]],
    tiling_of: TilingOf,
    masks: MaskFinder | None = None,
    done: Collection[str] = (),
    room: Room | None = None,
    strength: Strength = FULL,
) -> Iterator[dict[str, Any]]:
    """Yields every tile of every file, row by row; whole images of a group share a batch.

    A batch has `tiles` and, if a file can be read, `input` (N×C×H×W float32, nominally in [0, 1]) and, with masks,
    `mask` (N×1×H×W float32, 1 in holes). Tiles of the outputs named in `done` are marked as not wanted.
    """
    for group in groups:
        if room is not None:
            wanted = [job for job in group if job.name not in done]
            if not room.fits(wanted):
                yield {"tiles": Tiles()}  # a Trainer handles a batch only when it has the next
            room.enter(wanted)
        single: list[dict[str, Any]] = []
        for job in group:
            for batch in _tiles_of(job, tiling_of, masks, strength, job.name not in done):
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


def _tiles_of(
    job: Job, tiling_of: TilingOf, masks: MaskFinder | None, strength: Strength, wanted: bool
) -> Iterator[dict[str, Any]]:
    if job.problem:
        yield {"tiles": Tiles(job=job, problem=job.problem)}
        return
    try:
        status = job.source.stat()
        with open_rows(job.source) as reader:
            tiling = tiling_of(_with_planned(reader.header, job), job.destination.suffix)
            for page in range(reader.header.pages):
                mask = None if masks is None else masks(job.source, reader.header)
                with Window(reader, mask, strength.open(job.source, reader.header), strength.factor) as window:
                    for row, span in enumerate(tiling.rows):
                        window.move(span)
                        if mask is not None and span is tiling.rows[-1]:
                            mask.conclude()  # before the last tiles, which would complete the output
                        for column, across in enumerate(tiling.columns):
                            tensors, original, alpha, share = window.cut(across)
                            hole = _share(tensors.get("mask"), tiling, row, column)
                            original = original if wanted else original[:0]
                            place = (page, tiling, row, column)
                            tile = Tile(job, status, reader.header, *place, original, alpha, share, hole, wanted)
                            yield {"tiles": Tiles([tile]), **tensors}
    except Exception as error:  # damaged, gone, or without a fitting mask: the others go on
        yield {"tiles": Tiles(job=job, problem=reason_of(error, job.source))}


def _share(mask: Tensor | None, tiling: Tiling, row: int, column: int) -> float | None:
    """Returns the share of a tile's kept part that its mask covers."""
    return None if mask is None else float(kept(mask, tiling, row, column).mean())


def _with_planned(header: Header, job: Job) -> Header:
    """Returns the header of a file, which may have changed, with what was planned to be held of it and its mask."""
    return header if job.header is None else replace(header, held=max(header.held, job.header.held))


class Window:
    """A window that moves down a page of an image; holds only the rows that the row of tiles needs.

    Args:
        reader: The image.
        mask: Its mask, if any, read along with it.
        share: Its map of the strength, if any; likewise.
        factor: The strength without a map.
    """

    def __init__(self, reader: RowReader, mask: MaskReader | None, share: StrengthRows | None, factor: float) -> None:
        self.reader, self.mask, self.share, self.factor = reader, mask, share, factor
        self.top = self.bottom = 0
        self.strips: deque[list[Pixels | None]] = deque()

    def __enter__(self) -> Window:
        return self

    def __exit__(self, *error: object) -> None:
        for companion in (self.mask, self.share):
            if companion is not None:
                companion.close()

    def move(self, span: Span) -> None:
        """Reads up to the span's last row and drops the rows above its first."""
        self._drop(span.start - self.top)
        for first in range(self.bottom, span.stop, STRIP):
            self.strips.append(self._read(min(STRIP, span.stop - first)))
        self.top, self.bottom = span.start, span.stop

    def _drop(self, rows: int) -> None:
        while rows and self.strips:
            strip = self.strips.popleft()
            height = len(next(part for part in strip if part is not None))
            if height > rows:  # copies, so that the rest can be freed
                self.strips.appendleft([None if part is None else part[rows:].copy() for part in strip])
            rows -= min(rows, height)

    def _read(self, rows: int) -> list[Pixels | None]:
        pixels, alpha = self.reader.read(rows)
        found: Pixels | None = None
        if self.mask is not None:
            alpha, found = self.mask(pixels, alpha)
        return [pixels, alpha, found, None if self.share is None else self.share(rows)]

    def cut(self, across: Span) -> tuple[dict[str, Tensor], Pixels, Pixels | None, float | Pixels]:
        """Returns the tensors of one tile, `input` and any `mask`; its pixels and alpha; and its strength."""
        pixels, alpha, mask, share = (_joined_rows(parts, across) for parts in zip(*self.strips, strict=True))
        assert pixels is not None
        values = pixels.copy() if pixels.dtype == np.float32 else to_float(pixels)  # a network may change its input
        tensors = {"input": torch.from_numpy(values).permute(2, 0, 1)[None]}
        if mask is not None:
            tensors["mask"] = torch.from_numpy(mask.astype(np.float32))[None, None]
        return tensors, pixels, alpha, self.factor if share is None else share


def _joined_rows(parts: Sequence[Pixels | None], across: Span) -> Pixels | None:
    found = [part[:, across.start : across.stop] for part in parts if part is not None]
    return np.concatenate(found) if found else None


def read_ahead(items: Iterable[T], depth: int) -> Iterator[T]:
    """Yields items that a separate thread makes ahead, up to `depth` of them; raises the exceptions of `items` here.

    At the end it waits for the thread, but not longer than `PATIENCE`: the thread may hang on a network drive for ever,
    and ends with the program in any case.
    """
    waiting: queue.Queue[tuple[T | None, BaseException | None] | None] = queue.Queue(depth)
    stopped = threading.Event()

    def put(item: tuple[T | None, BaseException | None] | None) -> None:
        while not stopped.is_set():
            try:
                return waiting.put(item, timeout=0.1)
            except queue.Full:
                continue

    def work() -> None:
        try:
            for item in items:
                put((item, None))
                if stopped.is_set():
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
