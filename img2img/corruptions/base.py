"""Base classes of our transforms: ranges to draw from, float32 images, and holes with their mask."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any, TypeAlias

import numpy as np
from albumentations import BasicTransform, DualTransform, ImageOnlyTransform
from albumentations.core.type_definitions import Targets
from numpy.typing import NDArray

Range = float | tuple[float, float]
"""A number, or a range from which one is drawn uniformly, once per image unless the argument says otherwise."""

Bool: TypeAlias = NDArray[np.bool_]
Float: TypeAlias = NDArray[np.float32]

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""Weights of red, green and blue in the luma, Rec. 601."""


def bounds(name: str, given: Range, least: float = 0.0, most: float = math.inf) -> tuple[float, float]:
    """Returns a range's low and high end.

    Raises:
        ValueError: If an end is outside [least, most] or the range is reversed.
    """
    ends = (given, given) if isinstance(given, int | float) else tuple(given)
    if len(ends) != 2 or not least <= ends[0] <= ends[1] <= most:
        allowed = f">= {least:g}" if most == math.inf else f"in [{least:g}, {most:g}]"
        raise ValueError(f"{name} must be a number {allowed} or a range [low, high] with low <= high, not {given}")
    return float(ends[0]), float(ends[1])


def _check_dtype(transform: BasicTransform, img: NDArray[Any]) -> None:
    if img.dtype not in (np.float32, np.uint8):
        raise TypeError(f"{type(transform).__name__} needs a float32 image in [0, 1] or a uint8 image, not {img.dtype}")


class FloatTransform(ImageOnlyTransform):
    """Base class of transforms that change brightness: float32 may leave [0, 1], uint8 stays uint8.

    Place them last: most albumentations transforms clip to [0, 1]. `p` is 1 by default; with albumentations' 0.5, half
    of the images would stay clean.
    """

    unclipped = True  # values may leave [0, 1], so that clipping afterwards would change them

    def __init__(self, p: float = 1.0, **ranges: Range) -> None:
        super().__init__(p=p)
        self._ranges = tuple(ranges)
        for name, given in ranges.items():  # attributes named like the arguments, because albumentations prints them
            setattr(self, name, bounds(name, given))

    def get_params(self) -> dict[str, Any]:
        """Draws a number from each range, for `corrupt`."""
        return {name: float(self.random_generator.uniform(*getattr(self, name))) for name in self._ranges}

    def apply(self, img: NDArray[Any], **params: Any) -> NDArray[Any]:
        """Returns H×W×C float32, not clipped; for a uint8 image uint8, clipped and rounded.

        Raises:
            TypeError: If the image is neither float32 nor uint8.
        """
        _check_dtype(self, img)
        if img.dtype == np.uint8:
            values = self.corrupt(np.divide(img, np.float32(255), dtype=np.float32), **params)
            rounded: NDArray[np.uint8] = np.rint(values.clip(0, 1) * 255).astype(np.uint8)
            return rounded
        return self.corrupt(img, **params)

    @abstractmethod
    def corrupt(self, img: Float, **params: Any) -> Float:
        """Returns the corrupted image, H×W×C float32."""

    def _normal(self, shape: tuple[int, ...]) -> Float:
        normal: Float = self.random_generator.standard_normal(shape, dtype=np.float32)
        return normal


class MaskTransform(DualTransform):
    """Base class of transforms that make holes: they change the image and set the mask, if given, to 1 there.

    The rest of the image stays bit-identical, also outside [0, 1], and so do earlier holes in the mask.
    `albumentations.CoarseDropout(fill=0, fill_mask=1)` follows the same rule, so boxes need no class of ours.
    """

    _targets = (Targets.IMAGE, Targets.MASK)

    def __init__(self, p: float = 1.0) -> None:
        super().__init__(p=p)

    @abstractmethod
    def draw_hole(self, img: Float) -> tuple[Bool, float | Float]:
        """Returns a hole for an H×W×C image: H×W, and its values: a number, or N×C or N×1 for its N pixels by rows."""

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Draws the hole once, for both image and mask."""
        hole, values = self.draw_hole(data["image"])
        return {"hole": hole, "values": values}

    def apply(self, img: Float, hole: Bool, values: float | Float, **params: Any) -> Float:
        """Returns the image with the hole in it, H×W×C of the image's type.

        Raises:
            TypeError: If the image is neither float32 nor uint8.
        """
        _check_dtype(self, img)
        damaged = img.copy()
        if img.dtype == np.uint8:
            values = np.rint(np.clip(values, 0, 1) * 255)
        damaged.reshape(hole.size, -1)[np.flatnonzero(hole)] = values  # twice as fast as damaged[hole]
        return damaged

    def apply_to_mask(self, mask: NDArray[Any], hole: Bool, **params: Any) -> NDArray[Any]:
        """Returns the mask, H×W, with 1 in the hole."""
        marked = mask.copy()
        marked[hole] = 1
        return marked

    def _uniform(self, ends: tuple[float, float]) -> float:
        return float(self.random_generator.uniform(*ends))

    def _whole_number(self, ends: tuple[float, float]) -> int:
        return int(self.random_generator.integers(int(ends[0]), int(ends[1]), endpoint=True))
