"""Histogram of the values of millions of pixels, in a memory that does not grow with their number."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from img2img.tasks.gather import gather

Key = TypeVar("Key")

LOWEST, HIGHEST = 1e-9, 10.0
BINS = 4096
"""Each bin is half a per cent wide, between these limits."""


class PixelHistogram:
    """Counts non-negative values, such as squared errors, in bins of equal width on a logarithmic scale.

    Values outside [1e-9, highest] are counted in the first or last bin.

    Args:
        counts: How many values each bin has already; None for an empty histogram.
        highest: Upper edge of the last bin.
    """

    def __init__(self, counts: NDArray[np.int64] | None = None, highest: float = HIGHEST) -> None:
        self.counts = np.zeros(BINS, np.int64) if counts is None else counts
        self.highest = highest

    def add(self, values: NDArray[Any]) -> None:
        """Counts values of any shape."""
        places = np.log(np.maximum(values.ravel(), LOWEST) / LOWEST) / np.log(self.highest / LOWEST)
        self.counts += np.bincount(np.minimum((places * BINS).astype(np.int64), BINS - 1), minlength=BINS)

    def __add__(self, other: PixelHistogram) -> PixelHistogram:
        return PixelHistogram(self.counts + other.counts, self.highest)

    def quantile(self, fraction: float) -> float:
        """Returns a value that this fraction of the counted ones does not exceed: the upper edge of a bin."""
        found = int(np.searchsorted(np.cumsum(self.counts), fraction * int(self.counts.sum())))
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
    ours, theirs = abnormal.counts.astype(float), normal.counts.astype(float)
    if not ours.sum() or not theirs.sum():
        raise ValueError("an ROC curve needs normal and abnormal values")
    below = np.cumsum(theirs) - theirs / 2
    return float((ours * below).sum() / (ours.sum() * theirs.sum()))
