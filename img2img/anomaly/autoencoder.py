"""Scores images with an autoencoder, and with PCA beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from img2img.anomaly.detection import PCA
from img2img.anomaly.gaussian import GaussianFit, moments
from img2img.anomaly.scorable import NormalImages
from img2img.anomaly.scores import View, scores_of
from img2img.data import WholeImages
from img2img.errors import UserError
from img2img.latents.runner import Devices, first_process, run_over
from img2img.tasks import Autoencoder
from img2img.tasks.autoencoding import MOST_CODES, QUANTILES, Statistics
from img2img.tasks.base import Batch
from img2img.tasks.gather import gather
from img2img.tasks.pca import fit_principal, principal_axes
from img2img.tasks.thresholds import Scored, Thresholds

T = TypeVar("T")

MOST_RECONSTRUCTED = 4_000
"""The most training images whose reconstructions are measured, evenly spread; the others are only encoded."""


class ScorableAutoencoder:
    """An autoencoder as `img2img.anomaly.scorable.Scorable`.

    Args:
        task: The model. What calibration finds becomes its `statistics`.
    """

    recommended = "neighbour"

    def __init__(self, task: Autoencoder) -> None:
        self.task = task
        self.image_size, self.in_channels = task.network.image_size, task.network.in_channels
        self._compare_with(task.statistics)

    @property
    def thresholds(self) -> Thresholds:
        """The thresholds in the task's statistics."""
        return self.task.statistics.thresholds

    @thresholds.setter
    def thresholds(self, found: Thresholds) -> None:
        self.task.statistics = replace(self.task.statistics, thresholds=found)

    def _compare_with(self, known: Statistics) -> None:
        """Sets the training images with which views compare; views lack what is not known of them."""
        self._pca, self._errors = known.pca, known.errors
        self._latents = None if known.latents is None else GaussianFit(known.latents)
        self._pca_latents = None if known.pca_latents is None else GaussianFit(known.pca_latents)
        self._layers = None if known.layers is None else GaussianFit(known.layers, standardise=True)

    def score_batch(self, batch: Batch) -> Scored:
        """Returns all scores of the model and of PCA, and their maps.

        Never in mixed precision, so that scores are comparable with thresholds.
        """
        with torch.autocast(batch["image"].device.type, enabled=False):
            views = self._views(batch)
            maps = {prefix: view.map for prefix, view in views.items()}
            return Scored(scores_of(views), maps, views[""].contrast)

    def _views(self, batch: Batch, nats: bool = True) -> dict[str, View]:
        """Returns the model's view of a batch, and PCA's if it is known; the bounds (`nats`) take another pass."""
        task, image = self.task, batch["image"]
        task.check_size(image)
        found, k = task.network.layers(image), task.network.latent_dim
        latents = task.encode(image)
        reconstruction, elbo = task.decode(latents), task.elbo_of(batch) if nats else None
        layers = []
        if len(found) > 1:
            again = task.network.layers(reconstruction.to(image.dtype))
            found[-1], again[-1] = found[-1][:, :k], again[-1][:, :k]  # without log-variances
            layers = [_by_channel(one, other) for one, other in zip(found, again, strict=True)]
        bound, errors = None if elbo is None else -elbo.float(), self._errors.get("")
        own = View(image, reconstruction, latents, self._latents, layers, self._layers, errors, bound)
        return {"": own} if self._pca is None else {"": own, PCA: self._view_of_pca(image, nats=elbo is not None)}

    def _view_of_pca(self, image: Tensor, nats: bool) -> View:
        assert self._pca is not None
        pca = self._pca = self._pca.to(image.device)
        latents, bound = pca.encode(image), pca.nats(image) if nats else None
        reconstruction = pca.decode(latents, image.shape).clamp(0, 1)
        errors = self._errors.get(PCA)
        return View(image, reconstruction, latents, self._pca_latents, training_error=errors, nats=bound)

    def measure_training(self, data: NormalImages, where: Devices | None, freeze: bool) -> None:
        """Measures latents, layers and errors of the training images; see `Statistics`.

        The images are neither augmented nor corrupted. PCA is fitted only where it is missing.

        Raises:
            UserError: If the data module is not `WholeImages`, or the latents are not finite.
        """
        if not isinstance(data, WholeImages):
            raise UserError(f"an autoencoder is calibrated with the images of WholeImages, not {type(data).__name__}")
        task, few = self.task, data.clean_images("train", MOST_RECONSTRUCTED)
        pca = task.statistics.pca or _on_first(lambda: fit_principal(data.targets("train"), task.network.latent_dim))
        axes = _on_first(lambda: principal_axes(task.network, pca, data.targets("train")))
        self._compare_with(Statistics(pca=pca))
        sums = {prefix: torch.zeros(task.network.image_size, dtype=torch.float64) for prefix in ("", PCA)}
        rows = run_over(task, few, partial(self._measure, sums), where)
        every = data.clean_images("train", MOST_CODES)
        points = rows if len(every.paths) == len(rows) else run_over(task, every, self._encode, where)
        latents, pca_latents = (torch.stack([row[name] for row in points]) for name in ("latents", "pca_latents"))
        if not latents.isfinite().all():
            raise UserError("the latents are not finite, because training has diverged: try a smaller --model.lr")
        quantiles = torch.quantile(latents, torch.tensor(QUANTILES), 0)
        totals = {prefix: torch.stack(gather([mine])).sum(0) for prefix, mine in sums.items()}
        if freeze and "squared_error" in rows[0] and not data.corruption:  # else σ is what corrupted images have shown
            task.freeze_scale(sum(row["squared_error"] for row in rows) / len(rows))
        task.statistics = Statistics(
            pca=pca,
            axes=axes,
            latents=replace(moments(latents), quantiles=quantiles, codes=latents),
            pca_latents=replace(moments(pca_latents), codes=pca_latents),
            layers=moments(torch.stack([row["layers"] for row in rows])) if "layers" in rows[0] else None,
            errors={prefix: (total / len(rows)).float() for prefix, total in totals.items()},
        )
        self._compare_with(task.statistics)

    def _measure(self, sums: dict[str, Tensor], task: Autoencoder, batch: Batch) -> dict[str, Any]:
        """Returns what is known of a batch of training images, and adds its pixels' errors to the sums."""
        with torch.autocast(batch["image"].device.type, enabled=False):
            views = self._views(batch, nats=False)
        for prefix, view in views.items():
            sums[prefix] += view.errors[batch["counted"].to(view.errors.device)].cpu().double().sum(0)
        own, square = views[""], task.squared_error_of(batch)
        layers = {"layers": torch.cat(list(own.layers), 1)} if own.layers else {}
        squares = {} if square is None else {"squared_error": square}
        return {"latents": own.latents, "pca_latents": views[PCA].latents} | layers | squares

    def _encode(self, task: Autoencoder, batch: Batch) -> dict[str, Any]:
        """Returns the latents of a batch, the model's and PCA's."""
        assert self._pca is not None
        image = batch["image"]
        with torch.autocast(image.device.type, enabled=False):
            return {"latents": task.encode(image), "pca_latents": self._pca.to(image.device).encode(image)}


def _by_channel(one: Tensor, other: Tensor) -> Tensor:
    """Returns the mean squared difference of each channel, N×C, of N×C×h×w or N×C."""
    difference = (one.float() - other.float()) ** 2
    return difference.flatten(2).mean(2) if difference.ndim > 2 else difference


def _on_first(compute: Callable[[], T]) -> T:
    """Returns what the first process computes, on every process."""
    return cast(T, gather([compute() if first_process() else None])[0])
