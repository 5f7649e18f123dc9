"""One output image that is being written: tiles in, rows out."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from img2img.imaging.formats import Header, loss
from img2img.imaging.values import Pixels, enlarge, from_float, to_float
from img2img.imaging.writing import create_rows
from img2img.inference.journal import Record
from img2img.inference.measures import Measures
from img2img.inference.on_disk import may_replace
from img2img.inference.options import WHITE_SIGMA
from img2img.inference.strength import blend, enlarged
from img2img.inference.tiles import Tile
from img2img.tiling.geometry import is_blended
from img2img.tiling.stitch import Mosaic, kept

SCRATCH = 128_000_000
"""Bytes of rows that may wait in memory for the encoder; the rows of larger images wait on disk."""


class OutputFile:
    """An output file that is being written and, if wanted, its uncertainty map.

    Args:
        tile: The first tile.
        pixels: Its pixels, H×W×C; the output has as many channels.
        scale: Output pixels per input pixel.
        quality: Quality of the encoder, 1 to 100.
    """

    def __init__(self, tile: Tile, pixels: Pixels, scale: int, quality: int) -> None:
        self.job, self.status, self.scale, self.seconds = tile.job, tile.status, scale, 0.0
        self.blended = is_blended(tile.tiling)
        width, height = tile.header.width * scale, tile.header.height * scale
        channels, alpha = pixels.shape[2], tile.alpha is not None
        self.header = replace(tile.header, width=width, height=height, channels=channels, alpha=alpha)
        self.image = _Rows(tile.job.destination, self.header, tile, scale, quality, SCRATCH)
        self.measures = Measures(scale)
        self.map: _Rows | None = None
        if tile.job.map is not None:
            gray = replace(self.header, channels=1, alpha=False, dtype=np.dtype(np.uint16), metadata={})
            try:
                self.map = _Rows(tile.job.map, gray, tile, scale, quality, SCRATCH // 4)
            except BaseException:
                self.image.writer.abort()
                raise

    def put(self, tile: Tile, pixels: Pixels, sigma: Pixels | None, seconds: float) -> bool:
        """Adds a tile, its part of the map (H×W×1) and the seconds it took; returns whether it was the last.

        The pixels are the network's, H×W×C; the strength is applied here.
        """
        self.seconds += seconds
        pixels = self._with_strength(tile, pixels)
        self.measures.add(_kept(tile.original, tile), pixels, sigma, WHITE_SIGMA, tile.hole)
        if tile.alpha is not None:
            alpha = _kept(enlarge(tile.alpha, self.scale), tile, self.scale)
            pixels = np.concatenate([pixels, to_float(alpha) if self.blended else alpha], axis=2)
        if self.map is not None and sigma is not None:
            self.map.put(tile, sigma)
        return self.image.put(tile, pixels)

    def _with_strength(self, tile: Tile, pixels: Pixels) -> Pixels:
        """Returns the blend of input and output, as the tile's strength says."""
        strength = tile.strength
        if isinstance(strength, float) and strength == 1:
            return pixels
        original = _kept(enlarged(tile.original, self.scale), tile, self.scale)
        if not isinstance(strength, float):
            strength = _kept(strength, tile).repeat(self.scale, axis=0).repeat(self.scale, axis=1)
        return blend(to_float(original) if self.blended else original, pixels, strength)

    def finish(self) -> Record:
        """Gives the files their final names, the map first, and returns the record.

        Raises:
            OSError: If a file cannot be written.
            ValueError: If the format cannot hold the image, the source changed while it was restored, or another
                file appeared in place of an output.
        """
        began, now = time.monotonic(), self.job.source.stat()
        if (now.st_size, now.st_mtime_ns) != (self.status.st_size, self.status.st_mtime_ns):
            raise ValueError(f"{self.job.source} changed while it was restored; run the same command again")
        map_bytes = map_time = 0
        if self.map is not None and self.job.map is not None:
            map_bytes = self._close(self.map, self.job.map)
            map_time = self.job.map.stat().st_mtime_ns
        try:
            size = self._close(self.image, self.job.destination)
        except BaseException:
            if self.job.map is not None:  # a map without its image is useless
                self.job.map.unlink(missing_ok=True)
            raise
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
            map_bytes=map_bytes,
            map_time=map_time,
            seconds=round(self.seconds + time.monotonic() - began, 3),
            losses=loss(self.header, self.job.destination.suffix),
            measures=self.measures.result(),
        )

    def _close(self, rows: _Rows, path: Path) -> int:
        try:
            return rows.writer.close(replace=may_replace(self.job, path))
        except FileExistsError as error:
            raise ValueError(
                f"{self.job.source}: {path} appeared during the run and is kept; give --overwrite to replace it"
            ) from error

    def abort(self) -> None:
        """Gives the files up and leaves nothing behind."""
        self.image.writer.abort()
        if self.map is not None:
            self.map.writer.abort()


def _kept(plane: Pixels, tile: Tile, scale: int = 1) -> Pixels:
    """Returns the kept part of a plane of a tile, H×W×C."""
    return np.moveaxis(kept(np.moveaxis(plane, 2, 0), tile.tiling, tile.row, tile.column, scale), 0, 2)


class _Rows:
    """One image file under construction: its tiles become rows, page after page."""

    def __init__(self, path: Path, header: Header, tile: Tile, scale: int, quality: int, scratch: int) -> None:
        self.header, self.scale, self.page = header, scale, 0
        self.mosaic = Mosaic(tile.tiling, scale)
        self.writer = create_rows(path, header, quality=quality, scratch=scratch)

    def put(self, tile: Tile, values: Pixels) -> bool:
        """Adds the kept part of a tile, H×W×C with any alpha last; returns whether it was the last tile."""
        if tile.page != self.page:
            self.mosaic, self.page = Mosaic(tile.tiling, self.scale), tile.page
        rows = self.mosaic.put(tile.row, tile.column, values)
        if rows is None:
            return False
        if is_blended(tile.tiling):
            rows = from_float(rows, self.header.dtype)
        channels = self.header.channels
        self.writer.write(rows[..., :channels], rows[..., channels:] if self.header.alpha else None)
        return tile.page == self.header.pages - 1 and tile.row == len(tile.tiling.rows) - 1
