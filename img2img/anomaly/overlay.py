"""Overlays: images with red where a map exceeds its threshold, and a thin outline around that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from img2img.imaging.values import from_float, to_channels, to_float
from img2img.tasks.thresholds import Threshold

RED, LIGHT = (230, 25, 30), (255, 255, 255)
BLUE, DARK = (60, 190, 255), (0, 0, 0)
FAINT, STRONG = 0.18, 0.45
"""Opacity of the red just above the threshold, and from `STRONG_FROM`: what is below it stays visible."""
STRONG_FROM = 16.0  # times the threshold
STEPS = 8  # of the opacity in between: pictures with few levels are small
LINES_PER_SIDE = 400
"""The outline is one pixel wide for each so many pixels of the longer side, so that it shows in a picture that fits a
screen."""


def times_threshold(
    values: NDArray[np.float32],
    contrast: NDArray[np.float32] | None,
    limits: Mapping[str, Threshold],
    size: Sequence[int],
) -> NDArray[np.float32]:
    """Returns a map in units of its threshold, at an image's height and width.

    Args:
        values: What is marked, h×w: the map, or the smoothed one.
        contrast: The map relative to the level of its image, h×w, or None; the larger of both counts.
        limits: `img2img.tasks.thresholds.Thresholds.pixels`; without a `contrast` the map alone counts, and without
            `marks` the limits count as they are.
        size: Height and width of the image.
    """
    times = resize_map(values, size) / limits["map"].value
    if contrast is not None and "contrast" in limits:
        times = np.maximum(times, resize_map(contrast, size) / limits["contrast"].value)
    return times / np.float32(limits["marks"].value) if "marks" in limits else times


def resize_map(values: NDArray[np.float32], size: Sequence[int]) -> NDArray[np.float32]:
    """Returns a map at an image's height and width, with bilinear interpolation."""
    resized = cv2.resize(values, (int(size[1]), int(size[0])), interpolation=cv2.INTER_LINEAR)
    return np.asarray(resized, np.float32)


def marks_of(times: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Returns the marks of an overlay alone, H×W×4 with opacity: red above the threshold, and an outline around it.

    `times` is the map in units of its threshold, H×W. The outline lies outside of what it surrounds, so that it hides
    no defect: a red line, and a paler light one that makes it readable on red and on dark images.
    """
    inside = times > 1
    strength = np.rint(np.clip(np.log(np.maximum(times, 1)) / np.log(STRONG_FROM), 0, 1) * STEPS) / STEPS
    marks = np.zeros((*times.shape, 4), np.float32)
    marks[..., :3] = RED
    marks[..., 3] = np.where(inside, FAINT + (STRONG - FAINT) * strength, 0)
    line, edge = _outlines(inside)
    marks[line, 3] = 1
    marks[edge] = (*LIGHT, 0.5)
    return np.asarray(np.rint(marks * (1, 1, 1, 255)), np.uint8)


def truth_of(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Returns the outline of a mask, H×W, in light blue, H×W×4 with opacity; what it surrounds stays as it is."""
    marks = np.zeros((*mask.shape, 4), np.uint8)
    line, edge = _outlines(mask)
    marks[line] = (*BLUE, 255)
    marks[edge] = (*DARK, 128)
    return marks


def _outlines(inside: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Returns a line around a region, H×W, and another one around that; each as thin as the picture's size allows."""
    width = max(1, round(max(inside.shape) / LINES_PER_SIDE))
    square = np.ones((2 * width + 1,) * 2, np.uint8)
    first = cv2.dilate(inside.astype(np.uint8), square)
    second = cv2.dilate(first, square)
    return (first > 0) & ~inside, second > first


def draw_overlay(pixels: NDArray[Any], times: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Returns an image, H×W×1 or H×W×3, with `marks_of` its map on it, H×W×3.

    `times` is the map in units of its threshold, H×W.
    """
    plain = to_channels(from_float(to_float(pixels), np.uint8), 3)
    marks = marks_of(times)
    opacity = marks[..., 3:].astype(np.float32) / 255
    return np.asarray(np.rint(plain + opacity * (marks[..., :3].astype(np.float32) - plain)), np.uint8)
