"""Plans tiles: how much memory they take, and how to cut an image within a limit."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Protocol

import psutil
import torch
from torch import Tensor

from img2img.errors import UserError
from img2img.imaging.formats import Header
from img2img.imaging.held import held_by_encoder
from img2img.networks import ReceptiveField
from img2img.tiling.geometry import Cost, Cut, Tiling, cheapest_tiling, tiling_by_side

GIGABYTE = 1_000_000_000
PROGRAM = 1.28 * GIGABYTE
"""Memory that the program takes besides tiles: Python, torch, the model, decoder and encoder. A constant, because tiles
must not vary between runs; measured by `benchmarks/restore_memory.py`."""
ENOUGH = 3 * GIGABYTE
"""Default memory limit: of a photograph of 12 megapixels, tiles repeat a sixth of the work; with 2 GB a third."""
BLEND = 32
"""Pixels on each side over which tiles are blended if no halo makes tiling exact."""
READ_AHEAD = 2
"""Batches of tiles that are read while the network works on another."""
TO_WRITE = 3
"""Tiles that may wait to be written."""
WAITING = READ_AHEAD + TO_WRITE - 1
"""Tiles that wait at once: the two queues are never both full, as `benchmarks/restore_memory.py` measured."""


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
        device: Where its network will run; None for the CPU.
        memory: Limit of the program's memory, or of the GPU's, in bytes; None for half of what is free, at most 3 GB.
        tile: Side of a tile's kept part, in pixels; None to choose by memory.
        limit: Limit of the program's memory if decoders or encoders hold whole images; None for half of what is free.

    Attributes:
        cut: How tiles are cut for the network.
        memory: The memory limit in bytes, as given or chosen.

    Raises:
        UserError: If the side is less than 1.
    """

    def __init__(
        self,
        task: Tileable,
        device: torch.device | None = None,
        memory: int | None = None,
        tile: int | None = None,
        limit: int | None = None,
    ) -> None:
        device = torch.device("cpu") if device is None else device
        seen = task.receptive_field
        least = 2 if task.scale > 1 else 0  # as far as alpha and input look around them where they are enlarged
        self.cut = Cut(BLEND, blend=True) if seen is None else Cut(max(seen.radius, least), seen.stride)
        if tile is not None and tile < 1:
            raise UserError(f"--tile {tile} must be at least 1, in pixels")
        self.memory = memory if memory is not None else min(free_memory(device) // 2, ENOUGH)
        self.tile, self.scale, self.tile_bytes = tile, task.scale, task.bytes_per_pixel
        self.on_cpu = device.type == "cpu"
        self._program = PROGRAM if self.on_cpu else 0
        free = free_memory(torch.device("cpu")) // 2
        self.limit = limit if limit is not None else max(free, self.memory if self.on_cpu else 0)

    def __call__(self, height: int, width: int, pixel_bytes: int = 12, held: int = 0) -> Tiling:
        """Returns the tiling of an image whose pixels take this many bytes in the file.

        `held` are the bytes that its decoder and encoder hold of it.

        Raises:
            UserError: If even the smallest tiles exceed the memory limit.
        """
        cost, memory = self._cost(pixel_bytes), self.memory - self._program
        if self.tile is not None:
            tiling, taken = tiling_by_side(height, width, self.cut, self.tile), 0.0
        else:
            if self.on_cpu:
                memory = min(memory, self.limit - held - self._program)
            tiling = cheapest_tiling(height, width, self.cut, cost, memory)
            taken = cost.of(tiling, width)
        whole = PROGRAM + held + (taken if self.on_cpu else 0)
        if held and whole > self.limit:
            raise UserError(
                f"{width}×{height} pixels need {whole / GIGABYTE:.1f} GB of memory, because their format, or that of "
                f"their mask or reference, is decoded or encoded whole, but only {self.limit / GIGABYTE:.1f} GB "
                f"may be used; give --memory {math.ceil(whole / GIGABYTE * 10) / 10:.1f}GB"
            )
        if self.tile is None and taken > memory:
            needed, allowed = (max(0.0, part + self._program) / GIGABYTE for part in (taken, memory))
            raise UserError(
                f"{width}×{height} pixels need {needed:.1f} GB of memory even in the smallest tiles, but only "
                f"{allowed:.1f} GB may be used; give a larger --memory"
            )
        return tiling

    def of_header(self, header: Header, suffix: str = "") -> Tiling:
        """Returns the tiling of an image, given its header and its output's suffix; all pages are cut alike."""
        return self(header.height, header.width, _pixel_bytes(header), self.held(header, suffix))

    def held(self, header: Header, suffix: str = "") -> int:
        """Returns the bytes that an image's decoder and the encoder of its output hold of all of it."""
        if not suffix:
            return header.held
        output = replace(header, width=header.width * self.scale, height=header.height * self.scale)
        return header.held + held_by_encoder(output, suffix)

    def bytes_of(self, header: Header, suffix: str = "") -> float:
        """Returns the peak memory of the program in bytes while it restores an image; on GPUs, of the tiles only."""
        tiles = self._cost(_pixel_bytes(header)).of(self.of_header(header, suffix), header.width)
        return tiles + self._program + self.held(header, suffix)

    @property
    def most_pixels(self) -> int:
        """The most pixels that small images may have together to go through the network at once."""
        return int(min((self.memory - self._program) / self._cost(12).tile, 1 << 20))

    def _cost(self, pixel_bytes: int) -> Cost:
        if not self.on_cpu:
            return Cost(self.tile_bytes, 0)
        # A tile holds floats on its way in, and has the file's depth on its way out; it keeps what the file holds.
        waiting = WAITING * (16 + pixel_bytes * (1 + self.scale**2))
        return Cost(self.tile_bytes + waiting, pixel_bytes * (1 + self.scale**2))


def _pixel_bytes(header: Header) -> int:
    return header.dtype.itemsize * max(3, header.channels + header.alpha)  # gray may become colour


def free_memory(device: torch.device) -> int:
    """Returns the free memory of a device, in bytes."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)
