"""Scales whole images to one size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray


class Scaled:
    """Scales whole images to one size (height, width), whatever their aspect ratio: a `Finish` of the cache."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size

    def key(self, path: Path) -> str:
        """Returns what the result depends on."""
        return f"scaled to {self.size[0]}x{self.size[1]}, cv2 {cv2.__version__}"

    def __call__(self, path: Path, pixels: NDArray[Any]) -> NDArray[Any]:
        """Returns an image scaled to the size, H×W×C of the same dtype."""
        return scale_to(pixels, self.size)


def scale_to(pixels: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """Scales H×W×C to (height, width): by averaging areas if no side grows, otherwise bilinearly."""
    if pixels.shape[:2] == size:
        return pixels
    shrinks = pixels.shape[0] >= size[0] and pixels.shape[1] >= size[1]
    way = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    scaled = cv2.resize(np.ascontiguousarray(pixels), (size[1], size[0]), interpolation=way)
    return scaled if scaled.ndim == 3 else scaled[..., None]
