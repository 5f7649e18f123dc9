"""Masks of single pixels: missing pixels, and the blind spots of self-supervised denoising."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from img2img.corruptions.base import Bool, Float, MaskTransform, Range, bounds


class RandomPixels(MaskTransform):
    """Removes pixels independently of each other, with all their channels.

    A common test of inpainting, e.g. in Ulyanov et al., "Deep Image Prior", CVPR 2018, and earlier papers.

    Args:
        share: Fraction of the pixels that are missing, or a range.
        fill: Value of the image in the holes.
        p: Probability of applying it.

    Raises:
        ValueError: If a share is outside [0, 1] or the range is reversed.
    """

    def __init__(self, share: Range = (0.5, 0.95), fill: float = 0.0, p: float = 1.0) -> None:
        super().__init__(p)
        self.share = bounds("share", share, most=1)
        self.fill = fill

    def draw_hole(self, img: Float) -> tuple[Bool, float]:
        """Returns the missing pixels, H×W, and the fill."""
        share = self._uniform(self.share)
        return self.random_generator.random(img.shape[:2], dtype=np.float32) < np.float32(share), self.fill


class BlindSpots(MaskTransform):
    """Replaces evenly spread pixels by neighbours, so that a network learns to predict them: Noise2Void's masking.

    Krull et al., "Noise2Void: Learning Denoising from Single Noisy Images", CVPR 2019. A network that must predict the
    noisy value at these pixels without seeing it learns the clean one, if noise is independent between pixels.

    Args:
        share: Fraction of the pixels that are replaced, in (0, 0.25]: one in each box of 1 / share pixels.
        radius: A pixel is replaced, with all its channels, by another of the (2·radius + 1)² pixels around it that are
            in the image, all equally likely.
        p: Probability of applying it.

    Raises:
        ValueError: If the share is outside (0, 0.25] or the radius is less than 1.
    """

    def __init__(self, share: float = 0.02, radius: int = 2, p: float = 1.0) -> None:
        super().__init__(p)
        if not 0 < share <= 0.25:
            raise ValueError(f"share must be in (0, 0.25], not {share}")
        if radius < 1:
            raise ValueError(f"radius must be at least 1, not {radius}")
        self.share, self.radius = share, radius

    def draw_hole(self, img: Float) -> tuple[Bool, Float]:
        """Returns the replaced pixels, H×W, and their neighbours' values, N×C."""
        hole = self._stratified(img.shape[:2])
        rows, columns = np.nonzero(hole)
        rows, columns = self._neighbours(rows, columns, hole.shape)
        return hole, img.reshape(hole.size, -1)[rows * hole.shape[1] + columns]

    def _stratified(self, shape: tuple[int, ...]) -> Bool:
        height, width = shape
        side = math.sqrt(1 / self.share)
        boxes = math.ceil(height / side), math.ceil(width / side)
        rows = ((np.arange(boxes[0])[:, None] + self.random_generator.random(boxes)) * side).astype(np.intp)
        columns = ((np.arange(boxes[1]) + self.random_generator.random(boxes)) * side).astype(np.intp)
        # The last boxes extend beyond the border; pixels drawn there are dropped, so that all are equally likely.
        inside = (rows < height) & (columns < width)
        hole = np.zeros(shape, np.bool_)
        hole[rows[inside], columns[inside]] = True
        return hole

    def _neighbours(
        self, rows: NDArray[np.intp], columns: NDArray[np.intp], shape: tuple[int, ...]
    ) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        top, left = np.maximum(rows - self.radius, 0), np.maximum(columns - self.radius, 0)
        bottom, right = np.minimum(rows + self.radius, shape[0] - 1), np.minimum(columns + self.radius, shape[1] - 1)
        wide = right - left + 1
        count = (bottom - top + 1) * wide
        # Pixels of the window are numbered row by row; numbers from the pixel's own on move up by one, to skip it.
        number = (self.random_generator.random(rows.size) * (count - 1)).astype(np.intp)
        number += number >= (rows - top) * wide + columns - left
        number = np.minimum(number, count - 1)  # an image of one pixel has no other
        return top + number // wide, left + number % wide
