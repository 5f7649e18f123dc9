"""Scores images with an autoencoder, and with PCA beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from img2img.anomaly.gaussian import GaussianFit, moments
from img2img.anomaly.scorable import NormalImages
from img2img.anomaly.scores import PCA, View, scores_of
from img2img.data import WholeImages
from img2img.errors import UserError
from img2img.latents.runner import Devices, first_process, run_over
from img2img.tasks import Autoencoder
from img2img.tasks.autoencoding import MOST_CODES, QUANTILES, Statistics
from img2img.tasks.base import Batch
from img2img.tasks.gather import gather
from img2img.tasks.pca import PrincipalComponents, fit_principal, principal_axes
from img2img.tasks.thresholds import Scored, Thresholds

T = TypeVar("T")

MOST_RECONSTRUCTED = 4_000
"""The most training images whose reconstructions are measured, evenly spread; of more, the encoder alone is run."""
COPY_DISTANCE = 0.01
"""An image that is nearer to a training image than this fraction of the held-out images' median is a training image."""


class ScorableAutoencoder:
    """An autoencoder as `img2img.anomaly.scorable.Scorable`.

    Args:
        task: The model. What calibration finds becomes its `statistics`.
    """

    recommended = "neighbour"

    def __init__(self, task: Autoencoder) -> None:
        self.task = task
        self._viewer = Viewer(task.statistics)

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the network's images."""
        return self.task.network.image_size

    @property
    def in_channels(self) -> int:
        """Channels of the network's images."""
        return self.task.network.in_channels

    @property
    def thresholds(self) -> Thresholds:
        """Those of the task's statistics."""
        return self.task.statistics.thresholds

    @thresholds.setter
    def thresholds(self, found: Thresholds) -> None:
        self._learn(replace(self.task.statistics, thresholds=found))

    def _learn(self, statistics: Statistics) -> None:
        self.task.statistics = statistics
        self._viewer = Viewer(statistics)

    def score_batch(self, batch: Batch) -> Scored:
        """Returns all scores of the model and of PCA, and their maps.

        Never in mixed precision, so that scores are comparable with thresholds.
        """
        with torch.autocast(batch["image"].device.type, enabled=False):
            views = self._viewer.views(self.task, batch)
            scores = scores_of(views)
            maps = {prefix: view.map for prefix, view in views.items()}
            return Scored(scores, maps, views[""].contrast, self._trained_on(scores))

    def _trained_on(self, scores: dict[str, Tensor]) -> Tensor | None:
        """Returns which images lie where a training image lies: such an image, or a copy of it."""
        held_out = self.thresholds.scores.get("neighbour")
        return None if held_out is None else scores["neighbour"] < COPY_DISTANCE * float(held_out.normal.median())

    def measure_training(self, data: NormalImages, where: Devices | None, freeze: bool) -> None:
        """Measures latents, layers and errors of the training images; see `Statistics`.

        The images are neither augmented nor corrupted. PCA is fitted only where it is missing.

        Raises:
            UserError: If the data module is not `WholeImages`, or the latents are not finite.
        """
        if not isinstance(data, WholeImages):
            raise UserError(f"an autoencoder is calibrated with the images of WholeImages, not {type(data).__name__}")
        task, few = self.task, data.clean_images("train", MOST_RECONSTRUCTED)
        k = task.network.latent_dim
        pca = task.statistics.pca or _on_first(lambda: fit_principal(data.targets("train"), k))
        axes = _on_first(lambda: principal_axes(task.network, pca, data.targets("train")))
        measuring = _Measuring(Viewer(Statistics(pca=pca)), task)
        rows = run_over(task, few, measuring, where)
        every = data.clean_images("train", MOST_CODES)
        points = rows if len(every.paths) == len(rows) else run_over(task, every, _points(pca), where)
        latents, pca_latents = (torch.stack([row[name] for row in points]) for name in ("latents", "pca_latents"))
        if not latents.isfinite().all():
            raise UserError("its latents are not finite, for training has diverged: try a smaller --model.lr")
        quantiles = torch.quantile(latents, torch.tensor(QUANTILES), 0)
        layers = moments(torch.stack([row["layers"] for row in rows])) if "layers" in rows[0] else None
        errors = {prefix: (found / len(rows)).float() for prefix, found in measuring.gathered_errors().items()}
        if freeze and "squared_error" in rows[0] and not data.corruption:  # else σ is what corrupted images have shown
            task.freeze_scale(sum(row["squared_error"] for row in rows) / len(rows))
        self._learn(
            Statistics(
                pca=pca,
                axes=axes,
                latents=replace(moments(latents), quantiles=quantiles, codes=latents),
                pca_latents=replace(moments(pca_latents), codes=pca_latents),
                layers=layers,
                errors=errors,
            )
        )


class Viewer:
    """Views images through an autoencoder, and through PCA beside it.

    Args:
        statistics: What is known of the training images; views lack what is not there.
    """

    def __init__(self, statistics: Statistics) -> None:
        latents, pca_latents, layers = statistics.latents, statistics.pca_latents, statistics.layers
        self.pca, self.errors = statistics.pca, statistics.errors
        self.latents = None if latents is None else GaussianFit(latents)
        self.pca_latents = None if pca_latents is None else GaussianFit(pca_latents)
        self.layers = None if layers is None else GaussianFit(layers, standardise=True)

    def views(self, task: Autoencoder, batch: Batch, nats: bool = True) -> dict[str, View]:
        """Returns the views of a batch by the prefix of their scores: the model's, and PCA's if it is known.

        Args:
            task: The model.
            batch: With `image`.
            nats: Whether to compute the bounds, which takes another pass.
        """
        image = batch["image"]
        task.check_size(image)
        found, k = task.network.layers(image), task.network.latent_dim
        latents = task.encode(image)
        reconstruction, elbo = task.decode(latents), task.elbo_of(batch) if nats else None
        again = task.network.layers(reconstruction.to(image.dtype)) if len(found) > 1 else found
        pairs = list(zip(found, again, strict=True))
        pairs[-1] = (found[-1][:, :k], again[-1][:, :k])  # without log-variances
        own = View(
            image,
            reconstruction,
            latents,
            self.latents,
            [_by_channel(one, other) for one, other in pairs] if len(found) > 1 else [],
            self.layers,
            self.errors.get(""),
            None if elbo is None else -elbo.float(),
        )
        return {"": own} if self.pca is None else {"": own, PCA: self._of_pca(image, nats=elbo is not None)}

    def _of_pca(self, image: Tensor, nats: bool) -> View:
        assert self.pca is not None
        pca = self.pca = self.pca.to(image.device)
        latents = pca.encode(image)
        return View(
            image,
            pca.decode(latents, image.shape).clamp(0, 1),
            latents,
            self.pca_latents,
            training_error=self.errors.get(PCA),
            nats=pca.nats(image) if nats else None,
        )


def _by_channel(one: Tensor, other: Tensor) -> Tensor:
    """Returns the mean squared difference of each channel, N×C, of N×C×h×w or N×C."""
    difference = (one.float() - other.float()) ** 2
    return difference.flatten(2).mean(2) if difference.ndim > 2 else difference


class _Measuring:
    """Measures batches of training images, and sums their pixels' errors.

    Args:
        viewer: Knows PCA.
        task: The model.
    """

    def __init__(self, viewer: Viewer, task: Autoencoder) -> None:
        self.viewer = viewer
        self.errors = {prefix: torch.zeros(task.network.image_size, dtype=torch.float64) for prefix in ("", PCA)}

    def __call__(self, task: Autoencoder, batch: Batch) -> dict[str, Any]:
        with torch.autocast(batch["image"].device.type, enabled=False):
            views = self.viewer.views(task, batch, nats=False)
        square = task.squared_error_of(batch)
        for prefix, view in views.items():
            counted = view.errors[batch["counted"].to(view.errors.device)]
            self.errors[prefix] += counted.cpu().double().sum(0)
        own = views[""]
        found = {"latents": own.latents, "pca_latents": views[PCA].latents}
        found |= {"layers": torch.cat(list(own.layers), 1)} if own.layers else {}
        return found | ({} if square is None else {"squared_error": square})

    def gathered_errors(self) -> dict[str, Tensor]:
        """Returns the sums over the images of all processes; every process must call it."""
        return {prefix: torch.stack(gather([found])).sum(0) for prefix, found in self.errors.items()}


def _points(pca: PrincipalComponents) -> Callable[[Autoencoder, Batch], dict[str, Any]]:
    """Returns a function that computes the latents of a batch, the model's and PCA's."""

    def latents(task: Autoencoder, batch: Batch) -> dict[str, Any]:
        image = batch["image"]
        with torch.autocast(image.device.type, enabled=False):
            return {"latents": task.encode(image), "pca_latents": pca.to(image.device).encode(image)}

    return latents


def _on_first(compute: Callable[[], T]) -> T:
    """Returns what the first process computes, on every process."""
    results: Sequence[Any] = gather([compute() if first_process() else None])
    found: T = results[0]
    return found
