"""Stitches an image together from its restored tiles."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from img2img.imaging.values import Pixels
from img2img.tiling.geometry import Tiling, weights
from img2img.tiling.planner import Tileable

Plane = TypeVar("Plane", Tensor, Pixels)


class Mosaic:
    """Stitches the rows of an image from tiles that arrive row by row.

    Exact tiles are put side by side. Blended tiles are weighted, and rows that the next row of tiles will still change
    are held back.

    Args:
        tiling: How the image was cut.
        scale: Output pixels per input pixel.
    """

    def __init__(self, tiling: Tiling, scale: int = 1) -> None:
        self.tiling, self.scale = tiling, scale
        self.canvas: Pixels | None = None
        self.left = 0

    def put(self, row: int, column: int, values: Pixels) -> Pixels | None:
        """Adds the kept part of a tile, H×W×C: of any dtype if tiles are exact, float32 if they are blended.

        Returns:
            With the last tile of a row, the rows that are complete, H×W×C; otherwise None.

        Raises:
            ValueError: If a tile comes out of order; they come row by row, from the left.
        """
        rows, columns, s = self.tiling.rows, self.tiling.columns, self.scale
        down, across = rows[row], columns[column]
        if self.left == 0:
            self._begin(row, values)
        if self.canvas is None or column != len(columns) - self.left:
            raise ValueError(f"tile {column} of row {row} comes out of order")
        by_row, by_column = weights(rows, row, s), weights(columns, column, s)
        place = self.canvas[: len(values), across.first * s : across.last * s]
        if by_row is not None:
            values = values * by_row[:, None, None]
        if by_column is not None:
            values = values * by_column[:, None]
        place += values  # onto zeros, unless neighbours overlap
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
            waiting = previous[(span.first - self.tiling.rows[row - 1].first) * self.scale :]
            canvas[: len(waiting)] = waiting
        self.canvas, self.left = canvas, len(self.tiling.columns)


def kept(output: Plane, tiling: Tiling, row: int, column: int, scale: int = 1) -> Plane:
    """Returns the kept part of a tile's output, …×H×W, a tensor or an array."""
    down, across = tiling.rows[row], tiling.columns[column]
    top, left = (down.first - down.start) * scale, (across.first - across.start) * scale
    height, width = (down.last - down.first) * scale, (across.last - across.first) * scale
    part: Plane = output[..., top : top + height, left : left + width]
    return part


def restore_in_tiles(
    task: Tileable,
    image: Tensor,
    mask: Tensor | None,
    tiling: Tiling,
    self_ensemble: bool = False,
    uncertainty: bool = False,
) -> Tensor:
    """Restores an image in memory, tile by tile.

    Args:
        task: The task.
        image: 1×C×H×W float32 in [0, 1].
        mask: 1×1×H×W, or None.
        tiling: How to cut it.
        self_ensemble: Whether to average over eight symmetries.
        uncertainty: Whether to return σ of the error as one more channel.

    Returns:
        1×C×(scale·H)×(scale·W), on the CPU if it was cut.
    """
    if len(tiling.rows) == len(tiling.columns) == 1:
        return task.restore_tile(image, mask, self_ensemble, uncertainty)
    mosaic, bands = Mosaic(tiling, task.scale), []
    for row, column in tiling:
        down, across = tiling.rows[row], tiling.columns[column]
        window = (..., slice(down.start, down.stop), slice(across.start, across.stop))
        hole = None if mask is None else mask[window]
        output = task.restore_tile(image[window], hole, self_ensemble, uncertainty)
        output = kept(output, tiling, row, column, task.scale)
        band = mosaic.put(row, column, output[0].permute(1, 2, 0).float().cpu().numpy())
        if band is not None:
            bands.append(band.copy())
    return torch.from_numpy(np.concatenate(bands)).permute(2, 0, 1)[None]
