"""What our transforms share: ranges to draw from, float32 images, and holes with their mask."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any, TypeAlias

import numpy as np
from albumentations import BasicTransform, DualTransform, ImageOnlyTransform
from albumentations.core.type_definitions import Targets
from numpy.typing import NDArray

Range = float | tuple[float, float]
"""A number, or a range from which one is drawn uniformly, anew for each image unless the argument says otherwise."""

Bool: TypeAlias = NDArray[np.bool_]
Float: TypeAlias = NDArray[np.float32]


def bounds(name: str, given: Range, least: float = 0.0, most: float = math.inf) -> tuple[float, float]:
    """Returns a range's low and high end.

    Raises:
        ValueError: If an end lies outside [least, most] or the range is reversed.
    """
    ends = (given, given) if isinstance(given, int | float) else tuple(given)
    if len(ends) != 2 or not least <= ends[0] <= ends[1] <= most:
        allowed = f">= {least:g}" if most == math.inf else f"in [{least:g}, {most:g}]"
        raise ValueError(f"{name} must be a number {allowed} or a range [low, high] with low <= high, not {given}")
    return float(ends[0]), float(ends[1])


def _require_float32(transform: BasicTransform, img: NDArray[Any]) -> None:
    if img.dtype != np.float32:
        raise TypeError(f"{type(transform).__name__} needs a float32 image in [0, 1], not {img.dtype}")


class FloatTransform(ImageOnlyTransform):
    """What changes brightness: float32 in, float32 out, values that may leave [0, 1].

    Place them last: most albumentations transforms clip to [0, 1]. `p` is 1, unlike in albumentations, where forgetting
    it leaves half the images clean.

    Attributes:
        unclipped: Whether values may leave [0, 1], so that what clips after it would change it.
    """

    unclipped = True

    def __init__(self, p: float = 1.0, **ranges: Range) -> None:
        super().__init__(p=p)
        self._ranges = tuple(ranges)
        for name, given in ranges.items():  # attributes, for albumentations shows a transform by its arguments' names
            setattr(self, name, bounds(name, given))

    def get_params(self) -> dict[str, Any]:
        """Draws a number from each range, for `corrupt`."""
        return {name: float(self.random_generator.uniform(*getattr(self, name))) for name in self._ranges}

    def apply(self, img: Float, **params: Any) -> Float:
        """Returns H×W×C float32, not clipped.

        Raises:
            TypeError: If the image is not float32, whose integer types could not hold unclipped noise.
        """
        _require_float32(self, img)
        return self.corrupt(img, **params)

    @abstractmethod
    def corrupt(self, img: Float, **params: Any) -> Float:
        """Returns the corrupted image, H×W×C float32."""


class MaskTransform(DualTransform):
    """What makes holes: changes the image there, and sets the mask to 1 there if one is passed along.

    The rest of the image keeps its values to the bit, also those outside [0, 1]; holes that the mask already has stay.
    `albumentations.CoarseDropout(fill=0, fill_mask=1)` follows the same rule, so boxes need no class of ours.
    """

    _targets = (Targets.IMAGE, Targets.MASK)

    def __init__(self, p: float = 1.0) -> None:
        super().__init__(p=p)

    @abstractmethod
    def draw_hole(self, img: Float) -> tuple[Bool, float | Float]:
        """Draws a hole for an image of H×W×C.

        Returns:
            The hole, H×W; and what stands in it: one number, or N×C or N×1 for the N pixels of the hole, row by row.
        """

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Draws the hole once, for image and mask alike."""
        hole, values = self.draw_hole(data["image"])
        return {"hole": hole, "values": values}

    def apply(self, img: Float, hole: Bool, values: float | Float, **params: Any) -> Float:
        """Returns the image with the hole in it, H×W×C float32.

        Raises:
            TypeError: If the image is not float32.
        """
        _require_float32(self, img)
        damaged = img.copy()
        damaged.reshape(hole.size, -1)[np.flatnonzero(hole)] = values  # twice as fast as damaged[hole]
        return damaged

    def apply_to_mask(self, mask: NDArray[Any], hole: Bool, **params: Any) -> NDArray[Any]:
        """Returns the mask, H×W, with 1 in the hole."""
        marked = mask.copy()
        marked[hole] = 1
        return marked

    def _uniform(self, ends: tuple[float, float]) -> float:
        return float(self.random_generator.uniform(*ends))
