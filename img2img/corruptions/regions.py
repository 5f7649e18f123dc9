"""Shapes of defects: soft regions, curves and places, drawn from a given generator."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.fft import dstn, idstn

from img2img.corruptions.base import Float


def log_uniform(rng: np.random.Generator, ends: tuple[float, float]) -> float:
    """Returns a number whose logarithm is uniform: small ones are as likely per octave as large ones."""
    return float(math.exp(rng.uniform(math.log(ends[0]), math.log(ends[1]))))


def smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], scale: float, roughness: float = 0.5) -> Float:
    """Returns value noise of several octaves, H×W, mean about 0 and deviation about 1.

    Random grids are enlarged by cubic interpolation, which looks like Perlin's gradient noise (Perlin, "An Image
    Synthesizer", SIGGRAPH 1985).

    Args:
        rng: The generator.
        shape: Height and width.
        scale: Size of the coarsest cells in pixels.
        roughness: Amplitude of each octave relative to the one before, which is twice as coarse.
    """
    total, power = np.zeros(shape[:2], np.float32), 0.0
    for octave in range(4):
        cell = scale / 2**octave
        if octave and cell < 2:
            break
        grid = [math.ceil(side / cell) + 3 for side in shape[:2]]
        values = rng.standard_normal(grid, dtype=np.float32)
        offset = rng.uniform(1, 2, 2)
        matrix = np.array([[1 / cell, 0, offset[0]], [0, 1 / cell, offset[1]]])
        flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
        size = (shape[1], shape[0])
        total += roughness**octave * cv2.warpAffine(values, matrix, size, flags=flags, borderMode=cv2.BORDER_REFLECT)
        power += roughness ** (2 * octave)
    return np.asarray(total * (1.4 / math.sqrt(power)), np.float32)


def soften(region: Float, reach: float) -> Float:
    """Returns a region, H×W, with edges that fade over about `reach` pixels to each side: two box filters."""
    side = 2 * round(reach / 2) + 1
    if side < 3:
        return region
    return np.asarray(cv2.blur(cv2.blur(region, (side, side)), (side, side)), np.float32)


def lit_edges(rng: np.random.Generator, region: Float) -> Float:
    """Returns the slope of a region, H×W, towards a light from a random side: one edge bright, the other dark."""
    angle = rng.uniform(0, 2 * math.pi)
    across, down = cv2.Sobel(region, cv2.CV_32F, 1, 0), cv2.Sobel(region, cv2.CV_32F, 0, 1)
    return np.asarray(across * math.cos(angle) + down * math.sin(angle), np.float32)


def blob(
    rng: np.random.Generator, shape: tuple[int, ...], size: float, centre: tuple[float, float] | None = None
) -> Float:
    """Returns a region about `size` pixels across, H×W in [0, 1], its centre (x, y) anywhere unless given.

    One in two is an ellipse with a wavy outline, one in four is torn by smooth noise, as DRAEM's Perlin regions
    (Zavrtanik et al., ICCV 2021), one in four is a rotated box, as CutPaste's (Li et al., CVPR 2021). They are up to
    five times as long as wide.
    """
    height, width = shape[:2]
    centre = (float(rng.uniform(0, width)), float(rng.uniform(0, height))) if centre is None else centre
    stretch, angle = math.sqrt(log_uniform(rng, (1, 5))), rng.uniform(0, 2 * math.pi)
    kind = int(rng.integers(4))
    steps = np.linspace(0, 2 * math.pi, 72, endpoint=False)
    if kind == 0:
        outline = np.array([(1, 1), (-1, 1), (-1, -1), (1, -1)]) * 0.5
    else:
        radius = np.full(72, 0.5)
        for wave in range(2, 6):
            radius *= 1 + rng.uniform(0, 0.5 / wave) * np.cos(wave * steps + rng.uniform(0, 2 * math.pi))
        outline = np.stack([np.cos(steps), np.sin(steps)], 1) * radius[:, None]
    outline = outline * (size * stretch, size / stretch)
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    points = np.rint((outline @ turn + centre) * 16).astype(np.int32)
    region = np.zeros((height, width), np.float32)
    cv2.fillPoly(region, [points], 1.0, cv2.LINE_8, shift=4)
    if kind == 1:
        region[smooth_noise(rng, shape, max(size / 2, 4)) < -0.2] = 0
    return region


def curve(rng: np.random.Generator, start: tuple[float, float], length: float, bend: float) -> NDArray[np.float64]:
    """Returns the points of a random walk of about `length` pixels, N×2 (x, y), with steps of about 3 pixels.

    Args:
        rng: The generator.
        start: Its first point.
        length: Length along the walk in pixels.
        bend: Deviation of the change of direction at each step, in radians.
    """
    steps = max(2, round(length / 3))
    directions = rng.uniform(0, 2 * math.pi) + np.cumsum(rng.normal(0, bend, steps))
    moves = np.stack([np.cos(directions), np.sin(directions)], 1) * (length / steps)
    return np.asarray(np.concatenate([[start], start + np.cumsum(moves, 0)]), np.float64)


def line(shape: tuple[int, ...], points: NDArray[np.float64], widths: NDArray[np.float64]) -> Float:
    """Returns a line of varying width, H×W in [0, 1]; lines thinner than a pixel are faint.

    Args:
        shape: Height and width of the image.
        points: N×2 (x, y) in pixels.
        widths: Width of each of the N - 1 segments in pixels.
    """
    canvas = np.zeros((shape[0] * 2, shape[1] * 2), np.uint8)  # twice as large, so that widths come in half pixels
    corners = np.rint(points * 32).astype(np.int32)
    for begin, end, width in zip(corners[:-1], corners[1:], widths, strict=True):
        brush = max(1, round(2 * width - 0.5))
        value = 255 * min(1.0, 2 * width)
        cv2.line(canvas, begin.tolist(), end.tolist(), value, brush, cv2.LINE_8, 4)
    small = cv2.resize(canvas, (shape[1], shape[0]), interpolation=cv2.INTER_AREA)
    return np.asarray(small / 255, np.float32)


def edge_point(rng: np.random.Generator, image: Float) -> tuple[float, float]:
    """Returns a point (x, y) where something ends: on the border of the image, or on an edge in it, each as likely.

    Args:
        rng: The generator.
        image: H×W×C.
    """
    height, width = image.shape[:2]
    if rng.random() < 0.5:
        along, side = rng.random(), int(rng.integers(4))
        return ((along * width, 0), (along * width, height), (0, along * height), (width, along * height))[side]
    gray = cv2.blur(image.mean(2, dtype=np.float32), (5, 5))
    slope = cv2.Sobel(gray, cv2.CV_32F, 1, 0) ** 2 + cv2.Sobel(gray, cv2.CV_32F, 0, 1) ** 2
    steep = np.flatnonzero(slope >= np.quantile(slope[::2, ::2], 0.98))
    y, x = divmod(int(steep[int(rng.integers(steep.size))]), width)
    return float(x), float(y)


def membrane(frame: Float) -> Float:
    """Returns the smoothest surface that has the values of `frame` on its border: Laplace's equation.

    Adding it to a patch makes the patch meet its surroundings without a step, which is Poisson image editing (Pérez
    et al., SIGGRAPH 2003) of a box. Solved exactly, by sine transforms.

    Args:
        frame: H×W×C, H and W at least 3; only the outermost rows and columns count.
    """
    height, width = frame.shape[:2]
    source = np.zeros((height - 2, width - 2, frame.shape[2]), np.float32)
    source[0] += frame[0, 1:-1]
    source[-1] += frame[-1, 1:-1]
    source[:, 0] += frame[1:-1, 0]
    source[:, -1] += frame[1:-1, -1]
    rows = 2 - 2 * np.cos(math.pi * np.arange(1, height - 1) / (height - 1))
    columns = 2 - 2 * np.cos(math.pi * np.arange(1, width - 1) / (width - 1))
    waves = dstn(source, 1, axes=(0, 1)) / (rows[:, None] + columns)[..., None]
    surface = frame.copy()
    surface[1:-1, 1:-1] = idstn(waves, 1, axes=(0, 1))
    return surface
