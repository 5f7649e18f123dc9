"""Synthetic defects of a surface: stains, pits, cracks and missing material."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from img2img.corruptions import regions
from img2img.corruptions.anomalies import Anomaly
from img2img.corruptions.base import Float, Range, bounds


class Stain(Anomaly):
    """A region that is darker or brighter, with sharp or wide soft edges: stains, wear, uneven coating or light.

    Args:
        size: Size of the region in pixels, or a range; drawn log-uniformly.
        strength: Change of brightness, in [0, 1], or a range; drawn log-uniformly, darker as often as brighter. 0.1 is
            a tenth of the brightness of each pixel, and for half of the stains a tenth of the whole range.
        softness: Reach of the edges in units of the size, or a range.
        p: Probability of applying it.
    """

    def __init__(
        self,
        size: Range = (8.0, 200.0),
        strength: Range = (0.06, 0.6),
        softness: Range = (0.02, 0.5),
        p: float = 1.0,
    ) -> None:
        super().__init__(p)
        self.size, self.strength = bounds("size", size, least=1), bounds("strength", strength, least=0.01, most=1)
        self.softness = bounds("softness", softness, least=0.001, most=2)

    def damage(self, img: Float, other: Float) -> Float:
        """Returns the image with the stain."""
        rng, size = self.random_generator, self._log_uniform(self.size)
        region = regions.soften(regions.blob(rng, img.shape, size), size * self._log_uniform(self.softness))
        if rng.random() < 0.5:  # not everywhere as strong
            region = region * np.clip(0.7 + 0.4 * regions.smooth_noise(rng, img.shape, max(size / 2, 4)), 0, 1.5)
        change = self._sign() * self._log_uniform(self.strength) * region[..., None] * self._tint(img.shape[2])
        if rng.random() < 0.5:
            return img + change * 0.5
        return img * (1 + change)


class Pits(Anomaly):
    """Small holes, grains and dents: spots of another brightness, with a lit and a shaded side.

    Args:
        count: How many, or a range.
        size: Diameter in pixels, or a range; drawn log-uniformly for each.
        strength: How different they are, in [0, 1], or a range; drawn for each.
        p: Probability of applying it.
    """

    def __init__(
        self,
        count: int | tuple[int, int] = (1, 5),
        size: Range = (3.0, 30.0),
        strength: Range = (0.25, 1.0),
        p: float = 1.0,
    ) -> None:
        super().__init__(p)
        self.count, self.size = bounds("count", count, least=1), bounds("size", size, least=1)
        self.strength = bounds("strength", strength, most=1)

    def damage(self, img: Float, other: Float) -> Float:
        """Returns the image with the pits."""
        changed = img
        for _ in range(self._whole_number(self.count)):
            size = self._log_uniform(self.size)
            region = regions.soften(regions.blob(self.random_generator, img.shape, size), min(2.0, size / 4))
            changed = self._shade(changed, region, size)
        return changed

    def _shade(self, img: Float, region: Float, size: float) -> Float:
        """Returns the image with one pit: a level of its own, and light on its edges."""
        rng, strength = self.random_generator, self._uniform(self.strength)
        present = region > 0.5
        if not present.any():
            return img
        level = img[present].mean(0)
        level = level * self._uniform((0.1, 0.7)) if rng.random() < 0.7 else level + self._uniform((0.1, 0.5))
        changed = img + strength * region[..., None] * (np.asarray(level, np.float32) - img)
        slope = regions.lit_edges(rng, regions.soften(region, min(3.0, size / 4)))
        return changed + np.float32(strength * rng.uniform(0, 0.2)) * slope[..., None]


class Cracks(Anomaly):
    """Thin lines that wander and may branch: cracks, scratches, hairs.

    Random walks of varying width, darker more often than brighter; straight ones are scratches.

    Args:
        count: How many, or a range.
        length: Length in pixels, or a range; drawn log-uniformly for each.
        width: Greatest width in pixels, or a range; drawn log-uniformly for each.
        strength: How different they are, in [0, 1], or a range; drawn for each.
        p: Probability of applying it.
    """

    def __init__(
        self,
        count: int | tuple[int, int] = (1, 2),
        length: Range = (15.0, 250.0),
        width: Range = (0.7, 5.0),
        strength: Range = (0.25, 1.0),
        p: float = 1.0,
    ) -> None:
        super().__init__(p)
        self.count, self.length = bounds("count", count, least=1), bounds("length", length, least=1)
        self.width, self.strength = bounds("width", width, least=0.1), bounds("strength", strength, most=1)

    def damage(self, img: Float, other: Float) -> Float:
        """Returns the image with the cracks."""
        changed, size = img, img.shape[1::-1]
        for _ in range(self._whole_number(self.count)):
            rng = self.random_generator
            bend = self._log_uniform((0.01, 0.5))
            start = float(rng.random() * size[0]), float(rng.random() * size[1])
            points = regions.curve(rng, start, self._log_uniform(self.length), bend)
            width = self._log_uniform(self.width)
            region = self._drawn(img, points, width)
            for _ in range(int(rng.integers(3))):
                fork = points[int(rng.integers(len(points)))]
                length = self._log_uniform(self.length) / 3
                region = np.maximum(region, self._drawn(img, regions.curve(rng, fork, length, bend), width / 2))
            region = regions.soften(region, self._uniform((0, 1.5)))
            level = self._uniform((-0.05, 0.35)) if rng.random() < 0.7 else self._uniform((0.6, 1.0))
            weight = region[..., None] * np.float32(self._uniform(self.strength))
            if rng.random() < 0.5:  # relative to what is there
                changed = changed * (1 + weight * (2 * level - 1))
            else:
                changed = changed + weight * (max(level, 0) - changed)
        return changed

    def _drawn(self, img: Float, points: NDArray[np.float64], width: float) -> Float:
        """Returns a line along the points whose width varies and ends in a tip."""
        steps = len(points) - 1
        pressure = np.convolve(self.random_generator.normal(0, 0.6, steps + 8), np.ones(9) / 3, "valid")
        taper = np.minimum(1, np.linspace(4, 0.3, steps))
        return regions.line(img.shape, points, np.clip(width * taper * (0.75 + 0.5 * pressure), 0.15, width))


class Chips(Anomaly):
    """Missing material at a border or an edge: the region shows flat, dark or pale, faceted ground instead.

    Args:
        size: Size of the region in pixels, or a range; drawn log-uniformly.
        opacity: How much of the ground is seen, in [0, 1], or a range.
        p: Probability of applying it.
    """

    def __init__(self, size: Range = (10.0, 120.0), opacity: Range = (0.5, 1.0), p: float = 1.0) -> None:
        super().__init__(p)
        self.size, self.opacity = bounds("size", size, least=1), bounds("opacity", opacity, most=1)

    def damage(self, img: Float, other: Float) -> Float:
        """Returns the image with the chip."""
        rng, size = self.random_generator, self._log_uniform(self.size)
        region = regions.blob(rng, img.shape, size, regions.edge_point(rng, img))
        region = regions.soften(region, self._uniform((0.0, 3.0)))
        level = np.quantile(img[::4, ::4], rng.uniform(0, 1) ** 2) * rng.uniform(0.5, 1.3)
        relief = regions.smooth_noise(rng, img.shape, max(size / 2, 4), 0.6) * self._uniform((0.0, 0.08))
        detail = img - np.atleast_3d(cv2.blur(img, (9, 9)))  # the ground has some of the surface's grain
        ground = level + relief[..., None] + self._uniform((0.0, 1.0)) * detail
        weight = region[..., None] * np.float32(self._uniform(self.opacity))
        changed = img + weight * (ground.astype(np.float32) - img)
        slope = regions.lit_edges(rng, regions.soften(region, 2.0))
        return np.asarray(changed + np.float32(rng.uniform(0, 0.15)) * slope[..., None], np.float32)
