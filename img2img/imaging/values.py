"""Converts pixel values: a file's integers to a network's floats and back, gray to RGB and back."""

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage

Pixels = npt.NDArray[Any]

_LEVELS = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535}
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # Rec. 601


def to_float(pixels: Pixels) -> npt.NDArray[np.float32]:
    """Convert uint8 or uint16 of any shape to float32 in [0, 1]; float32 is returned unchanged.

    Raises:
        ValueError: the dtype is not uint8, uint16 or float32.
    """
    if pixels.dtype == np.float32:
        return pixels
    if pixels.dtype not in _LEVELS:
        raise ValueError(f"pixels must be uint8, uint16 or float32, not {pixels.dtype}")
    return np.true_divide(pixels, _LEVELS[pixels.dtype], dtype=np.float32)


def from_float(values: Pixels, dtype: npt.DTypeLike) -> Pixels:
    """Clamp values of any shape to [0, 1] and convert to uint8 or uint16 (rounding to nearest) or float32.

    Raises:
        ValueError: a value is NaN, or `dtype` is not uint8, uint16 or float32.
    """
    dtype = np.dtype(dtype)
    if dtype != np.float32 and dtype not in _LEVELS:
        raise ValueError(f"dtype must be uint8, uint16 or float32, not {dtype}")
    if np.isnan(values).any():
        raise ValueError("cannot convert NaN to a pixel value")
    clamped = np.clip(values.astype(np.float32), 0, 1)
    return clamped if dtype == np.float32 else np.rint(clamped * np.float32(_LEVELS[dtype])).astype(dtype)


def to_channels(pixels: Pixels, channels: int) -> Pixels:
    """Convert HxWxC pixels between gray (1) and RGB (3), keeping dtype and range.

    RGB becomes gray as Rec. 601 luma of the stored values, rounded to nearest for integers.

    Raises:
        ValueError: the present or requested number of channels is neither 1 nor 3.
    """
    present = pixels.shape[2]
    if present not in (1, 3) or channels not in (1, 3):
        raise ValueError(f"cannot convert {present} channels to {channels}: only 1 and 3 are supported")
    if present == channels:
        return pixels
    if channels == 3:
        return np.repeat(pixels, 3, axis=2)
    luma = pixels.astype(np.float32) @ _LUMA[:, None]
    return (luma if pixels.dtype == np.float32 else np.rint(luma)).astype(pixels.dtype)


def enlarge(pixels: Pixels, scale: int) -> Pixels:
    """Make HxWx1 pixels `scale` times as high and wide by bilinear interpolation, keeping dtype and range."""
    if scale == 1:
        return pixels
    size = (pixels.shape[1] * scale, pixels.shape[0] * scale)
    larger = PillowImage.fromarray(to_float(pixels)[..., 0]).resize(size, PillowImage.Resampling.BILINEAR)
    return from_float(np.asarray(larger)[..., None], pixels.dtype)
