"""Pictures of scored images for the page of a report: small, few, and with their marks apart from the photograph."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyvips
from numpy.typing import NDArray

from img2img.anomaly.overlay import marks_of, times_threshold, truth_of
from img2img.imaging.files import from_float, read_image, to_channels, to_float
from img2img.inference.thumbnails import picture
from img2img.tasks.gather import gather
from img2img.tasks.thresholds import Threshold

MOST = 500
"""The most images on a page."""
MOST_MISSED = 100
"""The most of these that are not the most abnormal ones, but abnormal by their label and below the threshold."""
FEW = 200
SIDE_OF_FEW, SIDE = 480, 320
"""Longest side of pictures in pixels, of up to `FEW` images and of more."""
DETAIL = 320
"""Height and width of details, in pixels of the image."""
DETAILED_FROM = 2.0
"""Images this many times larger than their picture have a detail, because thin defects vanish in the picture."""


@dataclass(frozen=True)
class Layers:
    """A picture in layers, all of one size.

    Attributes:
        width: Of what is shown, in pixels of the image.
        height: The same.
        photo: JPEG.
        marks: Red where the map exceeds its threshold, as WebP with opacity; None without a map.
        truth: Outline of the mask, as WebP with opacity; None without a mask.
    """

    width: int
    height: int
    photo: bytes
    marks: bytes | None = None
    truth: bytes | None = None


@dataclass(frozen=True)
class Pictures:
    """An image's pictures: `whole`, and if it is large the `detail` about the highest value of its map."""

    path: str
    whole: Layers
    detail: Layers | None = None


class ReportPictures:
    """Keeps pictures of the most abnormal images, and of abnormal ones that are missed, while images are scored.

    Pictures are made only of images that are among these so far, and those that no longer are get dropped, so memory
    does not grow with the number of images.

    Args:
        images: How many images will be scored.
        threshold: Of the score.
        normal: Labels of normal images; empty if nothing is known.
        masks: Each image's mask, white where it is abnormal.
        limits: `img2img.tasks.thresholds.Thresholds.pixels`.

    Attributes:
        problems: A line for each image whose pictures this process could not make.
    """

    def __init__(
        self,
        images: int,
        threshold: float,
        normal: Collection[str],
        masks: Mapping[str, Path],
        limits: Mapping[str, Threshold],
    ) -> None:
        self.side = SIDE_OF_FEW if images <= FEW else SIDE
        self.threshold, self.normal, self.masks, self.limits = threshold, normal, masks, limits
        self.problems: list[str] = []
        self._highest: list[tuple[float, str, Pictures]] = []
        self._missed: list[tuple[float, str, Pictures]] = []  # ordered by the negative score

    def add(
        self,
        path: str,
        label: str,
        score: float,
        values: NDArray[np.float32] | None,
        contrast: NDArray[np.float32] | None,
    ) -> None:
        """Takes an image's score and, of models that make maps, its marks and contrast as in `MapFiles.write`."""
        high = len(self._highest) < MOST or score > self._highest[0][0]
        missed = bool(self.normal) and label not in self.normal and score <= self.threshold
        low = missed and (len(self._missed) < MOST_MISSED or -score > self._missed[0][0])
        if not high and not low:
            return
        try:
            pictures = self._made(path, values, contrast)
        except (OSError, ValueError) as error:
            self.problems.append(f"the pictures of {path} cannot be made: {error}")
            return
        for wanted, kept, order, most in (
            (high, self._highest, score, MOST),
            (low, self._missed, -score, MOST_MISSED),
        ):
            if wanted:
                (heapq.heappushpop if len(kept) == most else heapq.heappush)(kept, (order, path, pictures))

    def gathered(self) -> dict[str, Pictures]:
        """Returns the pictures of all processes by the paths of the images, at most `MOST`; all processes call it."""
        highest = heapq.nlargest(MOST, gather(self._highest))
        missed = heapq.nlargest(MOST_MISSED, gather(self._missed))
        among = {path for _, path, _ in highest}
        others = [entry for entry in missed if entry[1] not in among]
        return {path: pictures for _, path, pictures in (*highest[: MOST - len(others)], *others)}

    def _made(self, path: str, values: NDArray[np.float32] | None, contrast: NDArray[np.float32] | None) -> Pictures:
        pixels = read_image(Path(path)).pixels
        times = None if values is None else times_threshold(values, contrast, self.limits, pixels.shape)
        mask = None
        if path in self.masks:
            mask = to_float(to_channels(read_image(self.masks[path]).pixels, 1)[..., 0]) > 0.5
            if mask.shape != pixels.shape[:2]:
                mask = None  # `MaskedPixels` names it
        shrink = max(1.0, max(pixels.shape[:2]) / self.side)
        whole = _layers(pixels, times, mask, shrink)
        if times is None or shrink < DETAILED_FROM:
            return Pictures(path, whole)
        part = _about(np.unravel_index(int(times.argmax()), times.shape), times.shape)
        return Pictures(path, whole, _layers(pixels[part], times[part], None if mask is None else mask[part]))


def _about(place: Any, shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Returns the rows and columns of the detail about a place, inside of an image."""
    first = [max(0, min(int(at) - DETAIL // 2, length - DETAIL)) for at, length in zip(place, shape, strict=True)]
    return slice(first[0], first[0] + DETAIL), slice(first[1], first[1] + DETAIL)


def _layers(
    pixels: NDArray[Any], times: NDArray[np.float32] | None, mask: NDArray[np.bool_] | None, shrink: float = 1.0
) -> Layers:
    """Returns the layers of an image, H×W×C, with its map in units of the threshold and its mask, both H×W."""
    height, width = pixels.shape[:2]
    size = max(1, round(width / shrink)), max(1, round(height / shrink))
    small = np.atleast_3d(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA))
    photo = picture(from_float(to_float(small), np.uint8))
    marks = None if times is None else _encoded(marks_of(_largest(times, size, shrink)))
    truth = None if mask is None else _encoded(truth_of(_largest(mask.astype(np.uint8), size, shrink) > 0))
    return Layers(width, height, photo, marks, truth)


def _largest(values: NDArray[Any], size: tuple[int, int], shrink: float) -> NDArray[Any]:
    """Returns H×W values at another width and height, of each square the largest, so that thin lines do not vanish."""
    side = int(np.ceil(shrink))
    around = cv2.dilate(values, np.ones((side, side), np.uint8)) if side > 1 else values
    return np.asarray(cv2.resize(around, size, interpolation=cv2.INTER_NEAREST))


def _encoded(marks: NDArray[np.uint8]) -> bytes:
    """Returns H×W×4 as WebP without loss."""
    image = pyvips.Image.new_from_array(np.ascontiguousarray(marks)).copy(interpretation="srgb")
    return bytes(image.webpsave_buffer(lossless=True, keep="none"))
