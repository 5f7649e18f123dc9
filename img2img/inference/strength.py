"""How much of a restoration is kept: the input and the network's result are blended, in the depth of the file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from img2img.imaging.formats import Header
from img2img.imaging.reading import RowReader
from img2img.imaging.values import Pixels, from_float, to_channels, to_float
from img2img.inference.companions import FileFinder, find_files, open_beside

_STRIP = 1 << 19  # values that are blended at a time, so that memory does not grow with the tile


def blend(original: Pixels, restored: Pixels, strength: float | Pixels) -> Pixels:
    """Mixes an image and its restored version: original + strength · (restored - original), rounded once.

    At 0 the result equals the original to the bit, at 1 the restored image, and where the two are equal it is both,
    whatever the strength. Above 1, a pixel goes only as far as all its channels stay in range, so that its hue stays,
    and the luma of a colourised image. Where the original is not a number (a hole in a float file) it is the restored.

    Args:
        original: H×W×C, uint8, uint16 or float32. One channel stands for three equal ones if the other has three.
        restored: H×W×C, of the same type; floats in [0, 1].
        strength: At least 0; or one for each pixel, H×W×1.

    Returns:
        A new array of the shape and type of `restored`.
    """
    blended = np.empty_like(restored)
    rows = max(1, _STRIP // max(1, restored[:1].size))
    for top in range(0, len(restored), rows):
        part = slice(top, top + rows)
        share = strength if isinstance(strength, int | float) else strength[part]
        blended[part] = _blend(original[part], restored[part], np.asarray(share, np.float32))
    return blended


def _blend(original: Pixels, restored: Pixels, strength: Pixels) -> Pixels:
    before, after = original.astype(np.float32), restored.astype(np.float32)
    change = after - before
    if (strength > 1).any():
        strength = np.minimum(strength, np.maximum(1, _furthest(before, change, _top(restored.dtype))))
    # From the nearer end, so that both ends are exact.
    mixed = np.where(strength < 0.5, before + strength * change, after + (strength - 1) * change)
    if restored.dtype.kind == "f":
        whole: Pixels = np.where(np.isnan(before), after, mixed)
        return whole
    rounded: Pixels = np.rint(mixed).clip(0, _top(restored.dtype)).astype(restored.dtype)
    return rounded


def _furthest(before: Pixels, change: Pixels, top: float) -> Pixels:
    """Returns the strength at which the first channel of each pixel reaches 0 or the top, H×W×1."""
    room = np.where(change > 0, top - before, before)
    with np.errstate(divide="ignore", invalid="ignore"):
        reached = np.where(change == 0, np.inf, room / np.abs(change))
    furthest: Pixels = reached.min(axis=2, keepdims=True)
    return furthest


def _top(dtype: np.dtype[np.generic]) -> float:
    return 1.0 if dtype.kind == "f" else float(np.iinfo(dtype).max)  # type: ignore[type-var]


def enlarged(original: Pixels, scale: int) -> Pixels:
    """Returns H×W×C `scale` times as high and wide, of the same type: what an upscaler's result is blended with.

    Bicubic. Each value depends on two pixels on each side of its own.
    """
    if scale == 1:
        return original
    size = (original.shape[1] * scale, original.shape[0] * scale)
    larger = cv2.resize(to_float(original), size, interpolation=cv2.INTER_CUBIC)
    return from_float(larger.reshape(*size[::-1], original.shape[2]), original.dtype)


@dataclass(frozen=True)
class Strength:
    """How much of the restoration the images of a run get.

    Attributes:
        factor: 0 is the input, 1 the full restoration.
        maps: Finds a gray image that says where how much: black is nothing, white is `factor`. None for everywhere.
    """

    factor: float = 1.0
    maps: FileFinder | None = None

    def open(self, path: Path, header: Header) -> StrengthRows | None:
        """Opens the map of an image; None without maps.

        Raises:
            ValueError: If the image has no map of its size.
        """
        if self.maps is None:
            return None
        return StrengthRows(self.factor, open_beside(self.maps(path), path, header, "strength map"))


FULL = Strength()
"""The result is what the network says."""


@dataclass(frozen=True)
class StrengthRows:
    """The strength of one image's pixels, read along with it."""

    factor: float
    reader: RowReader

    @property
    def held(self) -> int:
        """Bytes that the decoder holds of the whole map; 0 if it streams."""
        return self.reader.header.held

    def __call__(self, rows: int) -> Pixels:
        """Returns the strength of the next rows, H×W×1 float32; of a colour image the luma counts, alpha does not."""
        gray = to_float(to_channels(self.reader.read(rows)[0], 1))
        return np.nan_to_num(gray, posinf=1).clip(0, 1) * np.float32(self.factor)

    def close(self) -> None:
        """Closes the map."""
        self.reader.close()


def strength_of(factor: float, maps: str | Path | None, sources: Sequence[Path]) -> Strength:
    """Returns the strength for a run; reads no map yet.

    Args:
        factor: 0 (the input) to 1 (the full restoration), or beyond.
        maps: Folder of maps with the relative paths of their images, whatever the extension; one map, if there is one
            image; None to restore everywhere alike.
        sources: Folders of images, and images.

    Raises:
        UserError: If there are no such maps, or they are among the images.
    """
    return Strength(float(factor), None if maps is None else find_files(str(maps), sources, "strength map"))
