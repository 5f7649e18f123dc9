"""Scores images with an `AnomalySegmentation`, and with what normal images look like as a whole."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from img2img.anomaly.gaussian import GaussianFit, moments
from img2img.anomaly.pixel_histogram import PixelHistogram, gathered
from img2img.anomaly.scorable import NormalImages
from img2img.anomaly.scores import View, local_error, relative_errors, smoothed
from img2img.latents.runner import Devices, run_over
from img2img.tasks import AnomalySegmentation
from img2img.tasks.appearance import Appearance, Look, small_copies
from img2img.tasks.autoencoding import MOST_CODES
from img2img.tasks.base import Batch
from img2img.tasks.pca import fit_principal
from img2img.tasks.thresholds import Scored, Thresholds

COMBINED, WHOLE, NEIGHBOUR = "combined", "whole_error", "neighbour"
SIDES = (32, 64)
"""Of the small copies of images. Small parts of an image are the network's work."""
SIDE_OF_NEIGHBOURS = 8
"""Of the copies among which the nearest is sought: parts that are seen again lie a little elsewhere."""
MOST_COMPONENTS = 256
"""The most principal components that describe copies: half as many as training images, at most so many."""
MOST_WHOLE = 1_000
"""The most training images whose small copies are kept in memory, evenly spread."""
QUANTILES = torch.tensor([0.16, 0.5, 0.84])
"""They hold the centre and ± 1 σ of a normal distribution."""
HIGHEST_RELATIVE = 1e6
"""Larger errors, in units of the training images', are counted as this one."""
LEAST_SPREAD = 0.05
"""Of scores, on their logarithmic scale: few or equal held-out images may show less."""


class ScorableSegmentation:
    """An `AnomalySegmentation` as `img2img.anomaly.scorable.Scorable`, with three scores more.

    The network sees a part of an image at a time and points at what was put there. A second look asks how well the
    image as a whole is made of normal ones: `whole_error` is the `local_error` of its reconstruction by principal
    components, the geometric mean of copies of 32×32 and 64×64 pixels. The components are those of the training images
    and their mirror images: four times as many examples. `combined` adds both on a logarithmic scale, each in units of
    its spread over held-out normal images; it is recommended. `neighbour` is the distance from the nearest training
    image, among copies of 8×8 pixels, as `img2img.anomaly.gaussian` measures it: the score for parts that are seen
    again. A checkpoint without calibration has none of them.

    The map is, for each pixel, the higher one of the network's probability and of the error as a whole, which is put on
    the scale of the probabilities by how both are spread over held-out normal images.

    Args:
        task: The model. What calibration finds becomes its `appearance`, and its `thresholds`.
    """

    def __init__(self, task: AnomalySegmentation) -> None:
        self.task = task
        self.image_size, self.in_channels = task.image_size, task.in_channels

    @property
    def recommended(self) -> str:
        """The combined score, where it is known."""
        return self.task.recommended if self.task.appearance is None else COMBINED

    @property
    def thresholds(self) -> Thresholds:
        """The task's thresholds."""
        return self.task.thresholds

    @thresholds.setter
    def thresholds(self, found: Thresholds) -> None:
        self.task.thresholds = found

    def score_batch(self, batch: Batch) -> Scored:
        """Returns the scores of the task and, where they are known, those of its appearance; and a map of both."""
        found, appearance = self.task.score_batch(batch), self.task.appearance
        if appearance is None:
            return found
        error, where = errors_as_a_whole(appearance, batch["image"])
        scores = {**found.scores, WHOLE: error}
        parts = [(logarithm(scores[name]) - centre) / spread for name, (centre, spread) in appearance.spreads.items()]
        scores[COMBINED] = torch.stack(parts).mean(0)
        if appearance.copies is not None:
            scores[NEIGHBOUR] = GaussianFit(appearance.copies).from_nearest(_smallest(batch["image"])).float()
        found = replace(found, scores=scores)
        if not appearance.pixels:
            return found
        (centre, spread), (whole_centre, whole_spread) = (appearance.pixels[name] for name in ("map", WHOLE))
        as_probability = (centre + spread * (logarithm(where) - whole_centre) / whole_spread).exp().clamp_max(1)
        marks = found.maps[""] if found.marks is None else found.marks
        both = [torch.maximum(own, as_probability) for own in (found.maps[""], marks)]
        return replace(found, maps={"": both[0]}, marks=both[1])

    def measure_training(self, data: NormalImages, where: Devices | None, freeze: bool) -> None:
        """Finds components and small copies of the training images, and the spread of scores over held-out ones."""
        few, every = (data.clean_images("train", most) for most in (MOST_WHOLE, MOST_CODES))
        rows = run_over(self.task, few, partial(_small, (*SIDES, SIDE_OF_NEIGHBOURS)), where)
        looks = tuple(look_at(torch.stack([row[str(side)] for row in rows])) for side in SIDES)
        if len(every.paths) > len(rows):
            rows = run_over(self.task, every, partial(_small, (SIDE_OF_NEIGHBOURS,)), where)
        copies = torch.stack([row[str(SIDE_OF_NEIGHBOURS)] for row in rows]).flatten(1)
        appearance = Appearance(looks, {}, copies=replace(moments(copies), codes=copies))
        histograms = {"map": PixelHistogram(), WHOLE: PixelHistogram(highest=HIGHEST_RELATIVE)}

        def both(task: AnomalySegmentation, batch: Batch) -> dict[str, Any]:
            found, (error, relative) = task.score_batch(batch), errors_as_a_whole(appearance, batch["image"])
            for name, values in (("map", found.maps[""]), (WHOLE, relative)):
                histograms[name].add(values[batch["counted"].to(values.device)].cpu().numpy())
            return {task.recommended: found.scores[task.recommended], WHOLE: error}

        held_out = run_over(self.task, data.clean_images("val", MOST_WHOLE), both, where)
        values = {name: torch.tensor([float(row[name]) for row in held_out]) for name in (self.task.recommended, WHOLE)}
        spreads = {name: spread_of(torch.quantile(each, QUANTILES)) for name, each in values.items()}
        pixels = {
            name: spread_of(torch.tensor([histogram.quantile(float(q)) for q in QUANTILES]))
            for name, histogram in gathered(histograms).items()
        }
        self.task.appearance = replace(appearance, spreads=spreads, pixels=pixels)


def look_at(copies: Tensor) -> Look:
    """Returns the principal components of copies N×C×side×side and of their mirror images."""
    mirrored = (copies.flip(axes).numpy() for axes in ([], [-1], [-2], [-1, -2]))
    pca = fit_principal(mirrored, min(MOST_COMPONENTS, math.ceil(len(copies) / 2)))
    return Look(pca, (pca.reconstruct(copies).clamp(0, 1) - copies).square().mean((0, 1)))


def errors_as_a_whole(appearance: Appearance, image: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the error of images N×C×H×W as a whole, N, and where it lies, N×H×W; see `ScorableSegmentation`."""
    errors, maps = [], []
    with torch.autocast(image.device.type, enabled=False):
        for look in appearance.looks:
            copies, pca = look.small(image), look.pca.to(image.device)
            latents = pca.encode(copies)
            view = View(copies, pca.decode(latents, copies.shape).clamp(0, 1), latents, training_error=look.error)
            error, relative = local_error(view), relative_errors(view)
            assert error is not None, "the training error is known"
            assert relative is not None
            errors.append(logarithm(error))
            small = logarithm(smoothed(relative, borders=True))[:, None]
            maps.append(F.interpolate(small, image.shape[-2:], mode="bilinear")[:, 0])
    return torch.stack(errors).mean(0).exp(), torch.stack(maps).mean(0).exp()


def logarithm(score: Tensor) -> Tensor:
    """Returns the logarithm of a score, in which a probability and an error are spread alike."""
    return score.float().clamp_min(1e-7).log()


def spread_of(quantiles: Tensor) -> tuple[float, float]:
    """Returns the centre and the spread of the logarithms of a score, given its `QUANTILES`."""
    low, centre, high = logarithm(quantiles).tolist()
    return centre, max((high - low) / 2, LEAST_SPREAD)


def _small(sides: Sequence[int], task: AnomalySegmentation, batch: Batch) -> dict[str, Tensor]:
    return {str(side): small_copies(batch["image"], side).cpu() for side in sides}


def _smallest(image: Tensor) -> Tensor:
    return small_copies(image, SIDE_OF_NEIGHBOURS).flatten(1)
