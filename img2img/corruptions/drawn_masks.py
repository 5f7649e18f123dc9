"""Drawn masks: brush strokes, scratches and dust, text."""

from __future__ import annotations

import math
import string
from collections.abc import Iterator
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from img2img.corruptions.base import Bool, Float, MaskTransform, Range, bounds

_ALPHABET = string.ascii_letters + string.digits + " " * 12  # one character in six is a space, which separates words
_SHIFT = 4  # fractional bits of the coordinates that OpenCV draws


class Strokes(MaskTransform):
    """Free-form strokes: random walks of a round brush that turns back and forth.

    After Yu et al., "Free-Form Image Inpainting with Gated Convolution" (DeepFill v2), ICCV 2019, algorithm 1, and
    Suvorov et al., "Resolution-robust Large Mask Inpainting with Fourier Convolutions" (LaMa), WACV 2022. Here, strokes
    are added until they cover a given fraction of the image, so that crops are as hard as whole images.

    Args:
        width: Width of the brush in pixels, or a range; drawn for each stroke. Thin: (2, 6), medium: (5, 25), thick:
            (25, 50). If the coverage leaves too little room for a stroke, the brush gets thinner.
        length: Length of a stroke's straight segments in pixels, or a range; drawn for each segment.
        turns: How often a stroke turns, or a range.
        coverage: Fraction of the image that is covered, or a range.
        fill: Value of the image in the holes.
        p: Probability of applying it.

    Raises:
        ValueError: If an argument is out of range (width, length >= 1, turns >= 0, coverage in [0, 0.9], because random
            strokes hardly cover more) or a range is reversed.
    """

    def __init__(
        self,
        width: Range = (5.0, 25.0),
        length: Range = (10.0, 100.0),
        turns: int | tuple[int, int] = (1, 5),
        coverage: Range = (0.05, 0.3),
        fill: float = 0.0,
        p: float = 1.0,
    ) -> None:
        super().__init__(p)
        self.width, self.length = bounds("width", width, least=1), bounds("length", length, least=1)
        self.turns, self.coverage = bounds("turns", turns), bounds("coverage", coverage, most=0.9)
        self.fill = fill

    def draw_hole(self, img: Float) -> tuple[Bool, float]:
        """Returns what the strokes cover, H×W, and the fill."""
        hole = np.zeros(img.shape[:2], np.uint8)
        area = self._uniform(self.coverage) * hole.size
        missing, painted = area, 0.0
        # Strokes may overlap or leave the image, so "painted" bounds their number.
        while missing >= max(1.0, 0.1 * area) and painted < 5 * area:
            brush = min(self._uniform(self.width), math.sqrt(missing / 2))  # at least a stroke of two brush widths fits
            painted += self._walk(hole, max(brush, 1.0), missing)
            missing = area - cv2.countNonZero(hole)
        return hole.view(np.bool_), self.fill

    def _walk(self, hole: NDArray[np.uint8], brush: float, missing: float) -> float:
        """Draws one stroke that covers no more than `missing` pixels; returns about how many it painted."""
        height, width = hole.shape
        segments = self._whole_number(self.turns) + 1
        x, y = (self.random_generator.random(2) * (width, height)).tolist()
        lengths = self.random_generator.uniform(*self.length, segments).tolist()
        # Turns of 60° to 150°, alternately left and right, like someone erasing something.
        angles = self.random_generator.uniform(math.pi / 3, math.pi * 5 / 6, segments).tolist()
        direction = self.random_generator.random() * 2 * math.pi
        painted = 0.0
        for number, (length, angle) in enumerate(zip(lengths, angles, strict=True)):
            reach = min(length, (missing - painted) / brush - brush)  # the round ends cover pixels too
            if number and reach < 1:
                break
            start = (int(x), int(y))
            x = min(max(x + max(reach, 0) * math.cos(direction), 0), width - 1)
            y = min(max(y + max(reach, 0) * math.sin(direction), 0), height - 1)
            # OpenCV's lines are a pixel or two wider than their thickness, except for 1.
            cv2.line(hole, start, (int(x), int(y)), 1, max(1, round(brush) - 1))
            painted += brush * (max(reach, 0) + (0 if number else brush))
            direction += angle if number % 2 else -angle
        return painted


class Scratches(MaskTransform):
    """Scratches and dust of old photographs and film: damage to restore and, with the mask, holes to inpaint.

    Scratches are long, thin, nearly straight lines of varying width with gaps; dust is irregular specks and, one in
    six, short bent hairs. Kokaram, "Motion Picture Restoration", 1998, describes such defects for film, and Wan et al.,
    "Bringing Old Photos Back to Life", CVPR 2020, for photographs; the way they are drawn is our own.

    Args:
        count: Scratches per 256×256 pixels (counted by their midpoints), or a range.
        length: Length of a scratch in pixels, or a range; drawn for each.
        width: Greatest width of a scratch in pixels, or a range; drawn for each.
        dust: Specks and hairs per 256×256 pixels, or a range.
        speck: Diameter of a speck in pixels, or a range; drawn for each.
        fill: Brightness of a defect, all channels alike, or a range; drawn for each. 1 is lost emulsion on a print, 0
            is dust on a print from a negative; (0.7, 1) draws only light defects.
        p: Probability of applying it.

    Raises:
        ValueError: If an argument is out of range (length, width, speck >= 1, the others >= 0) or a range is reversed.
    """

    def __init__(
        self,
        count: Range = (2.0, 12.0),
        length: Range = (40.0, 300.0),
        width: Range = (1.0, 3.0),
        dust: Range = (10.0, 60.0),
        speck: Range = (1.0, 5.0),
        fill: Range = (0.0, 1.0),
        p: float = 1.0,
    ) -> None:
        super().__init__(p)
        self.count, self.dust, self.fill = bounds("count", count), bounds("dust", dust), bounds("fill", fill)
        self.length, self.width = bounds("length", length, least=1), bounds("width", width, least=1)
        self.speck = bounds("speck", speck, least=1)

    def draw_hole(self, img: Float) -> tuple[Bool, Float]:
        """Returns where the defects are, H×W, and their brightness, N×1."""
        brightness = np.full(img.shape[:2], -1, np.float32)
        for points in self._curves(brightness.shape, self._uniform(self.count), self.length, bend=0.04):
            self._scratch(brightness, points, self._uniform(self.width))
        dust = self._uniform(self.dust)
        for points in self._curves(brightness.shape, dust / 6, (8, 40), bend=0.4):
            cv2.polylines(brightness, [_fixed(points)], False, self._uniform(self.fill), shift=_SHIFT)
        for outline in self._specks(brightness.shape, dust * 5 / 6):
            cv2.fillPoly(brightness, [_fixed(outline)], self._uniform(self.fill), shift=_SHIFT)
        hole = brightness >= 0
        return hole, brightness[hole][:, None]

    def _number(self, density: float, pixels: float) -> int:
        """Draws the number of defects, rounding at random, so that crops have as many per area as whole images."""
        return int(density * pixels / 256**2 + self.random_generator.random())

    def _curves(
        self, shape: tuple[int, ...], density: float, lengths: tuple[float, float], bend: float
    ) -> Iterator[NDArray[np.float64]]:
        """Draws bent lines, N×2 (x, y) each, in and around the image, so that crops also show parts of long ones."""
        margin, size = lengths[1] / 2, np.array(shape[::-1])
        number = self._number(density, float(np.prod(size + 2 * margin)))
        centres = self.random_generator.random((number, 2)) * (size + 2 * margin) - margin
        angles = self.random_generator.uniform(0, 2 * math.pi, number)
        length = self.random_generator.uniform(*lengths, (number, 1))
        sagitta = self.random_generator.uniform(-bend, bend, (number, 1)) * length
        along = np.stack([np.cos(angles), np.sin(angles)], 1)
        side = along[:, ::-1] * (-1, 1)
        # Lines whose box or strip does not touch the image are not drawn (separating axes).
        offset, slack = centres - size / 2, np.abs(sagitta)
        near = (np.abs(offset) < size / 2 + np.abs(along) * length / 2 + slack).all(1)
        near &= np.abs((offset * side).sum(1)) < (np.abs(side) * size / 2).sum(1) + slack[:, 0]
        for n in np.flatnonzero(near):
            steps = np.linspace(-0.5, 0.5, max(8, int(length[n, 0] / 6)))[:, None]
            yield centres[n] + steps * length[n] * along[n] + (1 - 4 * steps**2) * sagitta[n] * side[n]

    def _scratch(self, brightness: Float, points: NDArray[np.float64], width: float) -> None:
        """Draws a line of varying pressure, with gaps where the pressure is negative."""
        knots = max(3, len(points) // 4)
        drawn = self.random_generator.uniform(-0.4, 1, knots)
        pressure = np.interp(np.linspace(0, knots - 1, len(points)), range(knots), drawn)
        chord = points[-1] - points[0]
        normal = chord[::-1] * (-1, 1) / np.linalg.norm(chord)  # one for all points: the line is nearly straight
        half = np.outer(np.maximum(pressure * width - 1, 0) / 2, normal)  # OpenCV paints the outline too: a pixel
        fill = self._uniform(self.fill)
        ends = np.flatnonzero(np.diff(pressure > 0)) + 1
        for run in np.split(np.arange(len(points)), ends):
            if pressure[run[0]] > 0:
                ribbon = np.concatenate([points[run] + half[run], (points[run] - half[run])[::-1]])
                cv2.fillPoly(brightness, [_fixed(ribbon)], fill, shift=_SHIFT)

    def _specks(self, shape: tuple[int, ...], density: float) -> NDArray[np.float64]:
        """Draws the outlines of specks, number×7×2 (x, y)."""
        number = self._number(density, shape[0] * shape[1])
        radii = (self.random_generator.uniform(*self.speck, (number, 1, 1)) - 1) / 2
        radii = radii * self.random_generator.uniform(0.5, 1.3, (number, 7, 1))
        angles = np.arange(7) * (2 * math.pi / 7)
        centres = self.random_generator.random((number, 1, 2)) * (shape[1], shape[0])
        outlines: NDArray[np.float64] = centres + radii * np.stack([np.cos(angles), np.sin(angles)], 1)
        return outlines


class TextMask(MaskTransform):
    """Lines of random words over the image: the "text removal" of Bertalmio et al., "Image Inpainting", SIGGRAPH 2000.

    Args:
        size: Size of the letters in pixels, or a range; drawn once per image.
        coverage: Fraction of the image that the letters cover, or a range; a full page covers about a fifth, never
            more. Approximate on images with room for only a few letters.
        fill: Value of the image in the holes.
        p: Probability of applying it.

    Raises:
        ValueError: If an argument is out of range (size >= 4, coverage in [0, 1]) or a range is reversed.
    """

    def __init__(
        self, size: int | tuple[int, int] = (10, 40), coverage: Range = (0.05, 0.15), fill: float = 0.0, p: float = 1.0
    ) -> None:
        super().__init__(p)
        self.size, self.coverage = bounds("size", size, least=4), bounds("coverage", coverage, most=1)
        self.fill = fill

    def draw_hole(self, img: Float) -> tuple[Bool, float]:
        """Returns where the letters are, H×W, and the fill."""
        height, width = img.shape[:2]
        size = self._whole_number(self.size)
        font, advance, ink = _font(size)
        missing = area = self._uniform(self.coverage) * height * width
        page = Image.new("L", (width, height))
        pen = ImageDraw.Draw(page)
        pen.fontmode = "1"  # no antialiasing: a pixel is either missing or not
        leading = round(1.25 * size)
        tops = np.arange(-int(self.random_generator.integers(leading)), height, leading)
        for top in self.random_generator.permutation(tops).tolist():
            if missing < max(1, min(area, ink / 2)):
                break
            letters = max(1, round(min(missing / ink, (width + size) / advance + 1)))
            left = self._uniform((-size, max(width - letters * advance, 0)))
            chosen = self.random_generator.integers(len(_ALPHABET), size=letters)
            pen.text((int(left), top), "".join(_ALPHABET[n] for n in chosen), fill=1, font=font)
            missing = area - page.histogram()[1]
        return np.array(page, dtype=np.bool_), self.fill


def _fixed(points: NDArray[np.float64]) -> NDArray[np.int32]:
    fixed: NDArray[np.int32] = np.round(points * 2**_SHIFT).astype(np.int32)
    return fixed


@lru_cache(maxsize=64)
def _font(size: int) -> tuple[ImageFont.FreeTypeFont | ImageFont.ImageFont, float, float]:
    """Returns Pillow's built-in font, and the mean advance and number of inked pixels of its letters."""
    font = ImageFont.load_default(size)
    page = Image.new("L", (2 * size * len(_ALPHABET), 2 * size))
    pen = ImageDraw.Draw(page)
    pen.fontmode = "1"
    pen.text((0, 0), _ALPHABET, fill=1, font=font)
    return font, pen.textlength(_ALPHABET, font) / len(_ALPHABET), page.histogram()[1] / len(_ALPHABET)
