"""One image on its way to disk: tiles in, rows out."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from img2img.callbacks.journal import Record
from img2img.data.tiles import Tile
from img2img.imaging.formats import loss
from img2img.imaging.tiling import is_blended
from img2img.imaging.values import Pixels, enlarge, from_float, to_float
from img2img.imaging.writing import create_rows
from img2img.tasks.tiled import Mosaic, kept

SCRATCH = 128_000_000
"""Bytes of rows that wait in memory to be encoded; those of larger images wait on disk."""


class Unfinished:
    """A file that is being put together.

    Args:
        tile: Its first tile.
        pixels: That tile's, H×W×C, of which the output has its channels.
        scale: Output pixels per input pixel.
        quality: 1 to 100.

    Raises:
        OSError: If it cannot be made.
        ValueError: If its format cannot hold it.
    """

    def __init__(self, tile: Tile, pixels: Pixels, scale: int, quality: int) -> None:
        self.job, self.scale, self.seconds = tile.job, scale, 0.0
        self.status = tile.status
        self.blended = is_blended(tile.tiling)
        header = tile.header
        self.header = replace(
            header,
            width=header.width * scale,
            height=header.height * scale,
            channels=pixels.shape[2],
            alpha=tile.alpha is not None,
        )
        self.mosaic, self.page = Mosaic(tile.tiling, scale), 0
        self.writer = create_rows(tile.job.destination, self.header, quality=quality, scratch=SCRATCH)

    def put(self, tile: Tile, pixels: Pixels, seconds: float) -> bool:
        """Lays a tile that took so many seconds; returns whether it was the last.

        Raises:
            OSError: If the disk refuses.
        """
        self.seconds += seconds
        if tile.page != self.page:
            self.mosaic, self.page = Mosaic(tile.tiling, self.scale), tile.page
        if tile.alpha is not None:
            pixels = np.concatenate([pixels, self._alpha(tile)], axis=2)
        rows = self.mosaic.put(tile.row, tile.column, pixels)
        if rows is None:
            return False
        if self.blended:
            rows = from_float(rows, self.header.dtype)
        channels = self.header.channels
        self.writer.write(rows[..., :channels], rows[..., channels:] if self.header.alpha else None)
        return tile.page == self.header.pages - 1 and tile.row == len(tile.tiling.rows) - 1

    def _alpha(self, tile: Tile) -> Pixels:
        """Returns the opacity of what is kept of a tile, enlarged as the image is."""
        assert tile.alpha is not None
        plane = enlarge(tile.alpha, self.scale)[..., 0]
        alpha = kept(plane, tile.tiling, tile.row, tile.column, self.scale)[..., None]
        return to_float(alpha) if self.blended else alpha

    def finish(self) -> Record:
        """Gives the file its final name and returns what is to be noted of it.

        Raises:
            OSError: If the disk refuses.
            ValueError: If its format cannot hold it.
        """
        began, now = time.monotonic(), self.job.source.stat()
        if (now.st_size, now.st_mtime_ns) != (self.status.st_size, self.status.st_mtime_ns):
            self.writer.abort()
            raise ValueError(f"{self.job.source} changed while it was restored; run the same command again")
        size = self.writer.close()
        return Record(
            name=self.job.name,
            source=str(self.job.source),
            status="restored",
            width=self.header.width,
            height=self.header.height,
            source_bytes=self.status.st_size,
            source_time=self.status.st_mtime_ns,
            bytes=size,
            time=self.job.destination.stat().st_mtime_ns,
            seconds=round(self.seconds + time.monotonic() - began, 3),
            losses=loss(self.header, self.job.destination.suffix),
        )

    def abort(self) -> None:
        """Leaves nothing behind."""
        self.writer.abort()
