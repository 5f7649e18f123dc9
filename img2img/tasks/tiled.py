"""Large images through a network in tiles: how to cut them, and how to put them together again."""

from __future__ import annotations

from typing import Protocol, TypeVar

import numpy as np
import psutil
import torch
from torch import Tensor

from img2img.errors import UserError
from img2img.imaging.formats import Header
from img2img.imaging.tiling import Cost, Cut, Tiling, cheapest_tiling, tiling_by_side, weights
from img2img.imaging.values import Pixels
from img2img.networks import Reach

GIGABYTE = 1_000_000_000
PROGRAM = 1.25 * GIGABYTE
"""What the program takes beside tiles: Python, torch, the model, decoder and encoder. A constant, for tiles must not
depend on the moment; measured, see `benchmarks/restore_memory.py`."""
ENOUGH = 2 * GIGABYTE
"""What is taken unasked: enough for photographs whole; of gigapixel images larger tiles would repeat less work."""
BLEND = 32
"""Pixels to each side over which tiles are blended where no halo makes tiling exact."""
Plane = TypeVar("Plane", Tensor, Pixels)
WAITING = 4
"""Tiles that wait: read ahead, and to be written."""


class Tileable(Protocol):
    """What is asked of a task whose images are cut; see `img2img.tasks.restorer.Restorer`."""

    @property
    def reach(self) -> Reach | None:
        """How far its network sees."""

    @property
    def bytes_per_pixel(self) -> float:
        """What its network takes of memory."""

    @property
    def scale(self) -> int:
        """Output pixels per input pixel."""

    def restore_tile(self, image: Tensor, mask: Tensor | None = None) -> Tensor:
        """Restores what fits the memory."""


class Planner:
    """Says how to cut images for a task.

    Args:
        task: The task.
        device: Where its network will run.
        memory: Bytes that the whole program may take; None for half of what is free, at most 2 GB. On GPUs it is about
            their memory.
        tile: Side of the tiles, in pixels that are kept; None to choose by memory.

    Attributes:
        cut: How the network wants its tiles.
        memory: The bytes that were given, or found free.
    """

    def __init__(
        self,
        task: Tileable,
        device: torch.device | None = None,
        memory: int | None = None,
        tile: int | None = None,
    ) -> None:
        device = torch.device("cpu") if device is None else device
        reach = task.reach
        self.cut = Cut(BLEND, blend=True) if reach is None else Cut(reach.radius, reach.stride)
        self.tile, self.on_cpu = tile, device.type == "cpu"
        self.memory = memory if memory is not None else min(free_memory(device) // 2, ENOUGH)
        if tile is not None and tile < 1:
            raise UserError(f"--tile {tile} must be at least 1, in pixels")
        self.tile_bytes = task.bytes_per_pixel
        self._found: dict[tuple[int, int, int], Tiling] = {}
        self.scale = task.scale

    def __call__(self, height: int, width: int, pixel_bytes: int = 12) -> Tiling:
        """Cuts an image.

        Args:
            height: Its rows.
            width: Its columns.
            pixel_bytes: Bytes of a pixel in the file.

        Raises:
            UserError: If even the smallest tile takes more memory than there may be taken.
        """
        key = height, width, pixel_bytes
        if key not in self._found:
            self._found[key] = self._cut(*key)
        return self._found[key]

    def _cut(self, height: int, width: int, pixel_bytes: int) -> Tiling:
        if self.tile is not None:
            return tiling_by_side(height, width, self.cut, self.tile)
        cost, memory = self._cost(pixel_bytes), self._for_tiles()
        tiling = cheapest_tiling(height, width, self.cut, cost, memory)
        if (taken := cost.of(tiling, width)) > memory:
            raise UserError(
                f"{width}×{height} pixels need {self._in_words(taken)} of memory even in the smallest tiles, of which "
                f"{self._in_words(memory)} may be taken; give a larger --memory"
            )
        return tiling

    def of_header(self, header: Header) -> Tiling:
        """Cuts an image of which only the header is known; all its pages alike."""
        return self(header.height, header.width, _pixel_bytes(header))

    def bytes_of(self, header: Header) -> float:
        """Returns what restoring an image takes at its peak, the program included."""
        taken = self._cost(_pixel_bytes(header)).of(self.of_header(header), header.width)
        return taken + (PROGRAM if self.on_cpu else 0)

    @property
    def most_pixels(self) -> int:
        """How many pixels small images together may have, to go through the network at once."""
        return int(min(self._for_tiles() / self._cost(12).tile, 1 << 20))

    def _for_tiles(self) -> float:
        return self.memory - PROGRAM if self.on_cpu else self.memory

    def _cost(self, pixel_bytes: int) -> Cost:
        if not self.on_cpu:
            return Cost(self.tile_bytes, 0)
        # A tile is of floats on its way in and of the file's depth on its way out. Of rows, those that are read are
        # held, and those that are to be written.
        return Cost(self.tile_bytes + WAITING * (16 + pixel_bytes * self.scale**2), pixel_bytes * (1 + self.scale**2))

    def _in_words(self, count: float) -> str:
        return f"{max(0.0, count + (PROGRAM if self.on_cpu else 0)) / GIGABYTE:.1f} GB"


def _pixel_bytes(header: Header) -> int:
    return header.dtype.itemsize * max(3, header.channels + header.alpha)  # gray may become colour


def free_memory(device: torch.device) -> int:
    """Returns the bytes that are free on a device."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


class Mosaic:
    """The rows of an image, put together from tiles that come row by row.

    Where tiles are exact their kept parts are laid beside each other; where they are blended they are weighed, and the
    rows that the next row of tiles will still change wait.

    Args:
        tiling: How the image was cut.
        scale: Output pixels per input pixel.
    """

    def __init__(self, tiling: Tiling, scale: int = 1) -> None:
        self.tiling, self.scale = tiling, scale
        self.canvas: Pixels | None = None
        self.left = 0

    def put(self, row: int, column: int, values: Pixels) -> Pixels | None:
        """Lays a tile.

        Args:
            row: Number of its row.
            column: Number of its column; all columns of a row come before the next row.
            values: H×W×C of what is kept of it: of any dtype where tiles are exact, float32 where they are blended.

        Returns:
            With the last tile of a row the rows that are complete, H×W×C; else None.

        Raises:
            ValueError: If a tile comes out of order.
        """
        rows, columns, s = self.tiling.rows, self.tiling.columns, self.scale
        down, across = rows[row], columns[column]
        if self.left == 0:
            self._begin(row, values)
        if self.canvas is None or column != len(columns) - self.left:
            raise ValueError(f"tile {column} of row {row} comes out of order")
        by_row, by_column = weights(rows, row, s), weights(columns, column, s)
        place = self.canvas[: len(values), across.first * s : across.last * s]
        if by_row is None and by_column is None:
            place[...] = values
        else:
            if by_row is not None:
                values = values * by_row[:, None, None]
            if by_column is not None:
                values = values * by_column[:, None]
            place += values
        self.left -= 1
        if self.left:
            return None
        following = rows[row + 1].first if row + 1 < len(rows) else down.last
        return self.canvas[: (following - down.first) * s]

    def _begin(self, row: int, values: Pixels) -> None:
        span, previous = self.tiling.rows[row], self.canvas
        width = self.tiling.columns[-1].last * self.scale
        canvas = np.zeros(((span.last - span.first) * self.scale, width, values.shape[2]), values.dtype)
        if row and previous is not None:
            above = self.tiling.rows[row - 1]
            waiting = previous[(span.first - above.first) * self.scale :]
            canvas[: len(waiting)] = waiting
        self.canvas, self.left = canvas, len(self.tiling.columns)


def kept(output: Plane, tiling: Tiling, row: int, column: int, scale: int = 1) -> Plane:
    """Returns what is kept of a tile's output, …×H×W, a tensor or an array."""
    down, across = tiling.rows[row], tiling.columns[column]
    top, left = (down.first - down.start) * scale, (across.first - across.start) * scale
    height, width = (down.last - down.first) * scale, (across.last - across.first) * scale
    part: Plane = output[..., top : top + height, left : left + width]
    return part


def restore_in_tiles(task: Tileable, image: Tensor, mask: Tensor | None, tiling: Tiling) -> Tensor:
    """Restores one image that is in memory.

    Args:
        task: The task.
        image: 1×C×H×W float32 in [0, 1].
        mask: 1×1×H×W, or None.
        tiling: How to cut it.

    Returns:
        1×C×(scale·H)×(scale·W), on the CPU if it was cut.
    """
    if len(tiling.rows) == len(tiling.columns) == 1:
        return task.restore_tile(image, mask)
    mosaic, bands = Mosaic(tiling, task.scale), []
    for row, column in tiling:
        down, across = tiling.rows[row], tiling.columns[column]
        parts = [
            None if whole is None else whole[..., down.start : down.stop, across.start : across.stop]
            for whole in (image, mask)
        ]
        output = kept(task.restore_tile(parts[0], parts[1]), tiling, row, column, task.scale)  # type: ignore[arg-type]
        band = mosaic.put(row, column, output[0].permute(1, 2, 0).float().cpu().numpy())
        if band is not None:
            bands.append(band.copy())
    return torch.from_numpy(np.concatenate(bands)).permute(2, 0, 1)[None]
