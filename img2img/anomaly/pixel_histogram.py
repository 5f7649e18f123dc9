"""Histograms of the values of millions of pixels, in a memory that does not grow with their number, and their curves.

All figures are exact up to the width of the bins: values in one bin count as equal.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from img2img.tasks.gather import gather

Key = TypeVar("Key")

LOWEST, HIGHEST = 1e-9, 10.0
BINS = 16384
"""Each bin is an eighth of a per cent wide, between these limits: probabilities near 1 are still told apart."""
MOST_FALSE = 0.3
"""False positive rate up to which AUPRO is integrated."""


class PixelHistogram:
    """Counts non-negative values, such as squared errors, in bins of equal width on a logarithmic scale.

    Values outside [1e-9, highest] are counted in the first or last bin.

    Args:
        counts: How many values each bin has already; None for an empty histogram.
        highest: Upper edge of the last bin.
    """

    def __init__(self, counts: NDArray[np.float64] | None = None, highest: float = HIGHEST) -> None:
        self.counts = np.zeros(BINS) if counts is None else counts
        self.highest = highest

    def add(self, values: NDArray[Any], weights: NDArray[np.float64] | None = None) -> None:
        """Counts values of any shape; with `weights` of the same shape, each as so much."""
        places = np.minimum(self._place(values.ravel()).astype(np.int64), BINS - 1)
        self.counts += np.bincount(places, None if weights is None else weights.ravel(), BINS)

    def _place(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Returns where values lie on the scale of the bins, from 0."""
        relative = np.maximum(values.astype(np.float64), LOWEST) / LOWEST
        return np.asarray(np.log(relative) / np.log(self.highest / LOWEST) * BINS)

    def above(self, limit: float) -> float:
        """Returns how many of the counted values exceed a limit, such as a `quantile`: what the bins above it hold."""
        first = int(np.ceil(float(self._place(np.array(limit))) - 1e-6))
        return float(self.counts[first:].sum())

    def __add__(self, other: PixelHistogram) -> PixelHistogram:
        return PixelHistogram(self.counts + other.counts, self.highest)

    def quantile(self, fraction: float) -> float:
        """Returns a value that this fraction of the counted ones does not exceed: the upper edge of a bin."""
        found = int(np.searchsorted(np.cumsum(self.counts), fraction * self.counts.sum()))
        return float(LOWEST * (self.highest / LOWEST) ** ((min(found, BINS - 1) + 1) / BINS))


def gathered(mine: dict[Key, PixelHistogram]) -> dict[Key, PixelHistogram]:
    """Returns the sums of the histograms of all processes, by their keys; every process must call it."""
    total: dict[Key, PixelHistogram] = {}
    for histograms in gather([mine]):
        for key, histogram in histograms.items():
            total[key] = total[key] + histogram if key in total else histogram
    return total


def auroc(normal: PixelHistogram, abnormal: PixelHistogram) -> float:
    """Returns the area under the ROC curve: how probably an abnormal value exceeds a normal one (ties count half).

    Raises:
        ValueError: If either is empty.
    """
    ours, theirs = abnormal.counts, normal.counts
    if not ours.sum() or not theirs.sum():
        raise ValueError("an ROC curve needs normal and abnormal values")
    below = np.cumsum(theirs) - theirs / 2
    return float((ours * below).sum() / (ours.sum() * theirs.sum()))


def average_precision(normal: PixelHistogram, abnormal: PixelHistogram) -> float:
    """Returns the mean precision over the abnormal values, each with the threshold just below it.

    Raises:
        ValueError: If there are no abnormal values.
    """
    ours = abnormal.counts[::-1]
    if not ours.sum():
        raise ValueError("average precision needs abnormal values")
    found, false = np.cumsum(ours), np.cumsum(normal.counts[::-1])
    there = ours > 0
    return float((ours[there] * found[there] / (found + false)[there]).sum() / ours.sum())


def aupro(normal: PixelHistogram, regions: PixelHistogram) -> float:
    """Returns the mean fraction of each defect that is found, over false positive rates from 0 to `MOST_FALSE`.

    Bergmann et al., "The MVTec Anomaly Detection Dataset" (IJCV 2021): a small defect counts as much as a large one.

    Args:
        normal: Values of the normal pixels.
        regions: Values of the abnormal pixels, each weighted by one over the area of its connected region.

    Raises:
        ValueError: If either is empty.
    """
    ours, theirs = (np.cumsum(histogram.counts[::-1]) for histogram in (regions, normal))
    if not ours[-1] or not theirs[-1]:
        raise ValueError("AUPRO needs normal pixels and regions")
    overlap, false = (np.concatenate([[0], counts / counts[-1]]) for counts in (ours, theirs))
    within = false < MOST_FALSE
    at_most = np.append(false[within], MOST_FALSE)
    end = int(within.sum())
    share = (MOST_FALSE - false[end - 1]) / (false[end] - false[end - 1])
    reached = np.append(overlap[within], overlap[end - 1] + share * (overlap[end] - overlap[end - 1]))
    area = np.diff(at_most) @ (reached[1:] + reached[:-1]) / 2  # `np.trapezoid` is of NumPy 2
    return float(area / MOST_FALSE)
