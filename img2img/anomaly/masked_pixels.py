"""Compares maps with masks of the defects, pixel by pixel and defect by defect."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from img2img.anomaly.detection import OVERALL, PCA, PIXELS, Quality, Table, at_threshold
from img2img.anomaly.overlay import resize_map
from img2img.anomaly.pixel_histogram import PixelHistogram, aupro, auroc, average_precision, gathered
from img2img.imaging.files import read_image, to_channels, to_float
from img2img.tasks.thresholds import Threshold

Kind = Literal["normal", "abnormal", "regions"]
"""What a histogram counts: pixels outside of the masks, inside, or inside with one over the area of their region."""
Counts = dict[tuple[str, str, Kind], PixelHistogram]
"""Values of the pixels of maps, by label, prefix and kind."""


class MaskedPixels:
    """Counts the values of maps inside and outside of the masks, for curves over all pixels and all defects.

    Args:
        masks: Each image's mask, white where it is abnormal.
        normal: Labels whose images are normal everywhere; other images without a mask are left out.
        limits: `img2img.tasks.thresholds.Thresholds.pixels`.

    Attributes:
        problems: A line for each mask that this process could not use.
    """

    def __init__(self, masks: dict[str, Path], normal: Collection[str], limits: Mapping[str, Threshold]) -> None:
        self.masks, self.normal, self.limits = masks, set(normal), limits
        self.counts: Counts = {}
        self.problems: list[str] = []

    def add(self, path: str, label: str, shape: tuple[int, int], maps: Mapping[str, NDArray[np.float32]]) -> None:
        """Counts the pixels of an image's maps, by their prefix, each H×W of any size; `shape` is the image's."""
        if label in self.normal:
            abnormal = np.zeros(shape, bool)
        elif path in self.masks:
            try:
                mask = to_channels(read_image(self.masks[path]).pixels, 1)[..., 0]
            except ValueError as error:
                self.problems.append(str(error))
                return
            if mask.shape != shape:
                sizes = " instead of ".join(f"{width}×{height}" for height, width in (mask.shape, shape))
                self.problems.append(f"the mask {self.masks[path]} has another size than its image: {sizes}")
                return
            abnormal = to_float(mask) > 0.5
        else:
            return
        weights = _region_weights(abnormal)
        for prefix, values in maps.items():
            resized = resize_map(values, shape)
            self._histogram(label, prefix, "normal").add(resized[~abnormal])
            self._histogram(label, prefix, "abnormal").add(resized[abnormal])
            self._histogram(label, prefix, "regions").add(resized[abnormal], weights)

    def _histogram(self, label: str, prefix: str, kind: Kind) -> PixelHistogram:
        return self.counts.setdefault((label, prefix, kind), PixelHistogram())

    def gathered_quality(self) -> Table:
        """Returns how well all processes' maps tell masked pixels from normal ones; every process must call it."""
        counts = gathered(self.counts)
        labels = sorted({label for label, _, _ in counts} - self.normal)
        groups = {label or ".": [label] for label in labels} | ({OVERALL: labels} if len(labels) > 1 else {})
        table: Table = {}
        for name, group in groups.items():
            for prefix in ("", PCA):
                inside, regions = (_sum(counts, group, prefix, kind) for kind in ("abnormal", "regions"))
                outside = _sum(counts, [*group, *sorted(self.normal)], prefix, "normal")
                if inside.counts.any() and outside.counts.any():
                    quality = self._quality(prefix, outside, inside, regions)
                    table.setdefault(name, {})[prefix + PIXELS] = quality
        return table

    def _quality(
        self, prefix: str, outside: PixelHistogram, inside: PixelHistogram, regions: PixelHistogram
    ) -> Quality:
        limit, decided = self.limits.get(f"{prefix}map"), None
        if limit is not None:
            found, false = (histogram.above(limit.value) for histogram in (inside, outside))
            decided = at_threshold(found, false, float(inside.counts.sum()))
        curves = auroc(outside, inside), average_precision(outside, inside), aupro(outside, regions)
        return Quality(*curves, at_threshold=decided)


def _region_weights(abnormal: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Returns one over the area of the connected region (8 neighbours) that each abnormal pixel belongs to."""
    _, regions = cv2.connectedComponents(abnormal.astype(np.uint8), connectivity=8)
    inside = regions[abnormal]
    return np.asarray(1 / np.bincount(inside)[inside])


def _sum(counts: Counts, labels: Sequence[str], prefix: str, kind: Kind) -> PixelHistogram:
    found = (counts.get((label, prefix, kind), PixelHistogram()) for label in labels)
    return sum(found, PixelHistogram())
