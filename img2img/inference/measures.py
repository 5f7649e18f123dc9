"""What a run measures of each file as it writes it: how much changed, and what could explain that."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from img2img.imaging.values import Pixels, to_channels, to_float

MOST = 1 << 16
"""Pixels of a tile that are looked at: evenly spread pairs of rows."""


_MEANS = {"noise", "sigma", "clipped", "hole"}
FAR = 3 / 255
"""A value this near to black or white, or within three σ of the noise, may well be it."""


class Measures:
    """Measures a file from its tiles.

    The figures are in units of the pixel range, from 0 to 1:

    - `change`: root mean square of output minus input; of the luma where the input is gray, and may become coloured.
    - `noise`: estimate of the σ of the input's noise, from the median of the absolute diagonal details at the finest
      scale (Donoho & Johnstone, "Ideal spatial adaptation by wavelet shrinkage", Biometrika 1994), mean over tiles. It
      sees noise that changes from pixel to pixel, not grain that is larger.
    - `sigma`: mean σ of the error, as the model estimates it, if it does.
    - `clipped`: share of the values that are black or white (0 or 1), and were further from it than noise explains.
    - `spread` and `spread_before`: standard deviation of output and input, each channel around its own mean.
    - `hole`: share of the image that was filled, with masks.
    """

    def __init__(self, scale: int) -> None:
        self.scale = scale
        self._sums: defaultdict[str, float] = defaultdict(float)
        self._moments: dict[str, Pixels] = {}

    def add(self, original: Pixels, output: Pixels, sigma: Pixels | None, white: float, hole: float | None) -> None:
        """Adds a tile.

        Args:
            original: The input, H×W×C.
            output: The output, (scale·H)×(scale·W)×C'.
            sigma: The map of σ, floats in [0, 1] or 16 bits, of the output's size; None without one.
            white: The σ that is 1 in the map.
            hole: The share that was filled; None without masks.
        """
        rows = _some_rows(original)
        before = to_float(original[rows])
        after = to_float(output[(rows[:, None] * self.scale + np.arange(self.scale)).ravel()])
        self._add_moments("spread", after)
        self._add_moments("spread_before", before)
        small = _shrunk(after, self.scale)
        compared = before[..., :1] if _is_gray(before) else before
        self._mean("change", np.square(to_channels(small, compared.shape[2]) - compared))
        noise = None
        if len(before) > 1 and before.shape[1] > 1:
            noise = _noise(before)
            self._sum("noise", noise * original.size, original.size)
        if small.shape[2] == before.shape[2]:
            far = max(3 * (noise or 0), FAR)
            clipped = ((small <= 0) & (before > far)) | ((small >= 1) & (before < 1 - far))
            self._mean("clipped", clipped.astype(np.float32))
        if sigma is not None:
            self._mean("sigma", to_float(sigma) * white)
        if hole is not None:
            self._sum("hole", hole * original.size, original.size)

    def _sum(self, name: str, total: float, count: float) -> None:
        self._sums[name] += total
        self._sums[f"{name} count"] += count

    def _mean(self, name: str, values: Pixels) -> None:
        finite = values[np.isfinite(values)]
        self._sum(name, float(finite.sum(dtype=np.float64)), finite.size)

    def _add_moments(self, name: str, values: Pixels) -> None:
        """Adds the number, sum and sum of squares of each channel."""
        flat = np.where(np.isfinite(values), values, np.nan).reshape(-1, values.shape[2]).astype(np.float64)
        found = np.stack([np.isfinite(flat).sum(0), np.nansum(flat, 0), np.nansum(flat**2, 0)])
        self._moments[name] = self._moments.get(name, 0) + found

    def result(self) -> dict[str, float]:
        """Returns the figures, rounded; without those that could not be measured."""
        counts = {name: self._sums[f"{name} count"] for name in list(self._sums) if f"{name} count" in self._sums}
        mean = {name: self._sums[name] / count for name, count in counts.items() if count}
        found: dict[str, float] = {name: mean[name] for name in mean if name in _MEANS}
        if "change" in mean:
            found["change"] = mean["change"] ** 0.5
        for name, (number, total, squares) in self._moments.items():
            if number.all():
                found[name] = float(np.maximum(0, squares / number - (total / number) ** 2).mean() ** 0.5)
        return {name: round(value, 6) for name, value in sorted(found.items())}


def _is_gray(pixels: Pixels) -> bool:
    """Returns whether an image has one channel, or three that are equal."""
    return pixels.shape[2] == 1 or (pixels.shape[2] == 3 and bool((pixels == pixels[..., :1]).all()))


def _some_rows(pixels: Pixels) -> Pixels:
    """Returns numbers of rows: all of a small tile, evenly spread pairs of neighbours of a large one."""
    height, width = pixels.shape[:2]
    step = max(1, -(-height * width // MOST))
    rows: Pixels = np.arange(height)
    chosen: Pixels = rows[rows // 2 % step == 0]
    return chosen


def _shrunk(pixels: Pixels, scale: int) -> Pixels:
    """Returns the mean of each square of `scale` pixels a side."""
    if scale == 1:
        return pixels
    height, width, channels = pixels.shape
    squares = pixels.reshape(height // scale, scale, width // scale, scale, channels)
    small: Pixels = squares.mean(axis=(1, 3))
    return small


def _noise(pixels: Pixels) -> float:
    """Returns an estimate of the noise in pairs of rows, H×W×C."""
    height, width = pixels.shape[0] // 2 * 2, pixels.shape[1] // 2 * 2
    even, odd = pixels[0:height:2], pixels[1:height:2]
    detail = (even[:, 0:width:2] - even[:, 1:width:2] - odd[:, 0:width:2] + odd[:, 1:width:2]) / 2
    finite = np.abs(detail[np.isfinite(detail)])
    return float(np.median(finite)) / 0.6745 if finite.size else 0.0
