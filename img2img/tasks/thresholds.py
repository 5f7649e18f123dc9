"""Anomaly scores and maps of a batch, and thresholds from held-out normal images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

_TRAINING = "training"  # name of what is known of the training images, beside the names of scores and maps


@dataclass(frozen=True, eq=False)
class Scored:
    """Anomaly scores and maps of N images.

    Attributes:
        scores: N values each, by name; a higher value is more abnormal.
        maps: Non-negative values N×h×w, in any resolution, such as squared errors; a higher value is more abnormal. The
            name is the prefix of the reference that the map belongs to, such as `pca_`; empty for the task's own.
        contrast: The task's own map relative to the level of each image, N×h×w; None if the map's own values are
            comparable between images.
        marks: The task's own map as overlays show it, N×h×w, smoothed so that no single pixel decides; None for the map
            as it is.
    """

    scores: Mapping[str, Tensor]
    maps: Mapping[str, Tensor]
    contrast: Tensor | None = None
    marks: Tensor | None = None


@dataclass(frozen=True, eq=False)
class HeldOut:
    """One score of held-out normal images, and its threshold.

    Attributes:
        normal: The value of each of n images.
        quantile: Fraction of the images that do not exceed the threshold.
        threshold: Images above it are abnormal.
    """

    normal: Tensor
    quantile: float
    threshold: float


@dataclass(frozen=True)
class Threshold:
    """A threshold for the pixels of maps.

    Attributes:
        value: Pixels above it are abnormal.
        quantile: Fraction of the pixels of held-out normal images that do not exceed it; of `marks` that of the images.
    """

    value: float
    quantile: float


@dataclass(frozen=True, eq=False)
class Thresholds:
    """Thresholds of all scores and maps, measured on held-out normal images; empty before that.

    Attributes:
        scores: Thresholds of the scores, by name.
        pixels: Thresholds of the maps, by prefix plus `map`, and of the `contrast`. And that of the `marks` of
            overlays, in units of these: how many times of theirs the map or the contrast must reach. Checkpoints of
            earlier versions lack it, whose overlays mark what exceeds the others.
        fingerprints: Of training images, N×side×side uint8, which tell whether a scored image is one of them; see
            `img2img.data.near_duplicates`. None in checkpoints of earlier versions.
    """

    scores: Mapping[str, HeldOut] = field(default_factory=dict)
    pixels: Mapping[str, Threshold] = field(default_factory=dict)
    fingerprints: Tensor | None = None

    def plain(self) -> dict[str, dict[str, Any]]:
        """Returns the thresholds as tensors and numbers, for a checkpoint."""
        pixels = {name: {"quantile": limit.quantile, "threshold": limit.value} for name, limit in self.pixels.items()}
        known = {} if self.fingerprints is None else {_TRAINING: {"fingerprints": self.fingerprints}}
        return {name: dict(vars(held)) for name, held in self.scores.items()} | pixels | known

    @classmethod
    def from_plain(cls, plain: Mapping[str, Mapping[str, Any]]) -> Thresholds:
        """Rebuilds thresholds from the result of `plain`. Scores hold the values of the images, maps do not."""
        scores, pixels = {}, {}
        for name, found in plain.items():
            if name == _TRAINING:
                continue
            if "normal" in found:
                scores[name] = HeldOut(found["normal"], found["quantile"], found["threshold"])
            else:
                pixels[name] = Threshold(found["threshold"], found["quantile"])
        return cls(scores, pixels, plain.get(_TRAINING, {}).get("fingerprints"))
