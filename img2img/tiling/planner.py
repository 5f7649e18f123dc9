"""Plans tiles: how much memory they take, and how to cut an image within a limit."""

from __future__ import annotations

from typing import Protocol

import psutil
import torch
from torch import Tensor

from img2img.errors import UserError
from img2img.imaging.formats import Header
from img2img.networks import ReceptiveField
from img2img.tiling.geometry import Cost, Cut, Tiling, cheapest_tiling, tiling_by_side

GIGABYTE = 1_000_000_000
PROGRAM = 1.25 * GIGABYTE
"""Memory that the program takes besides tiles: Python, torch, the model, decoder and encoder. A constant, because tiles
must not vary between runs; measured, see `benchmarks/restore_memory.py`."""
ENOUGH = 2 * GIGABYTE
"""Default memory limit: enough for whole photographs; larger tiles would repeat less work on gigapixel images."""
BLEND = 32
"""Pixels on each side over which tiles are blended if no halo makes tiling exact."""
READ_AHEAD = 2
"""Batches of tiles that are read while the network works on another."""
TO_WRITE = 3
"""Tiles that may wait to be written."""
WAITING = 4
"""Tiles that wait at the same time, read ahead or to be written, as measured by `benchmarks/restore_memory.py`; the two
queues are never full at once."""


class Tileable(Protocol):
    """Interface of a task whose images are cut into tiles; see `img2img.tasks.Restoration`."""

    @property
    def receptive_field(self) -> ReceptiveField | None:
        """Receptive field of the network; None if no halo makes tiling exact."""

    @property
    def bytes_per_pixel(self) -> float:
        """Memory that the network takes per input pixel."""

    @property
    def scale(self) -> int:
        """Output pixels per input pixel."""

    def restore_tile(
        self, image: Tensor, mask: Tensor | None = None, self_ensemble: bool = False, uncertainty: bool = False
    ) -> Tensor:
        """Restores a tile or image that fits the memory."""


class Planner:
    """Plans how to cut images for a task.

    Args:
        task: The task.
        device: Where its network will run.
        memory: Memory limit of the whole program, in bytes; None for half of the free memory, at most 2 GB. On GPUs, it
            limits their memory.
        tile: Side of a tile's kept part, in pixels; None to choose by memory.

    Attributes:
        cut: How tiles are cut for the network.
        memory: The memory limit, in bytes, as given or chosen.
    """

    def __init__(
        self,
        task: Tileable,
        device: torch.device | None = None,
        memory: int | None = None,
        tile: int | None = None,
    ) -> None:
        device = torch.device("cpu") if device is None else device
        seen = task.receptive_field
        self.cut = Cut(BLEND, blend=True) if seen is None else Cut(seen.radius, seen.stride)
        self.tile, self.on_cpu = tile, device.type == "cpu"
        self.memory = memory if memory is not None else min(free_memory(device) // 2, ENOUGH)
        if tile is not None and tile < 1:
            raise UserError(f"--tile {tile} must be at least 1, in pixels")
        self.tile_bytes = task.bytes_per_pixel
        self._found: dict[tuple[int, int, int], Tiling] = {}
        self.scale = task.scale

    def __call__(self, height: int, width: int, pixel_bytes: int = 12) -> Tiling:
        """Returns the tiling of an image.

        Args:
            height: Rows of the image.
            width: Columns of the image.
            pixel_bytes: Bytes of a pixel in the file.

        Raises:
            UserError: If even the smallest tiles exceed the memory limit.
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
                f"{width}×{height} pixels need {self._in_words(taken)} of memory even in the smallest tiles, but only "
                f"{self._in_words(memory)} may be used; give a larger --memory"
            )
        return tiling

    def of_header(self, header: Header) -> Tiling:
        """Returns the tiling of an image, given its header; all pages are cut alike."""
        return self(header.height, header.width, _pixel_bytes(header))

    def bytes_of(self, header: Header) -> float:
        """Returns the peak memory of restoring an image, in bytes, including the program."""
        taken = self._cost(_pixel_bytes(header)).of(self.of_header(header), header.width)
        return taken + (PROGRAM if self.on_cpu else 0)

    @property
    def most_pixels(self) -> int:
        """The most pixels that small images may have together to go through the network at once."""
        return int(min(self._for_tiles() / self._cost(12).tile, 1 << 20))

    def _for_tiles(self) -> float:
        return self.memory - PROGRAM if self.on_cpu else self.memory

    def _cost(self, pixel_bytes: int) -> Cost:
        if not self.on_cpu:
            return Cost(self.tile_bytes, 0)
        # A tile holds floats on its way in and has the file's depth on its way out. The rows held are those that were
        # read and those to be written.
        return Cost(self.tile_bytes + WAITING * (16 + pixel_bytes * self.scale**2), pixel_bytes * (1 + self.scale**2))

    def _in_words(self, count: float) -> str:
        return f"{max(0.0, count + (PROGRAM if self.on_cpu else 0)) / GIGABYTE:.1f} GB"


def _pixel_bytes(header: Header) -> int:
    return header.dtype.itemsize * max(3, header.channels + header.alpha)  # gray may become colour


def free_memory(device: torch.device) -> int:
    """Returns the free memory of a device, in bytes."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)
