"""Pictures of what an autoencoder's latents mean: samples, interpolations, traversals, axes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from numpy.typing import NDArray
from torch import Tensor

from img2img.callbacks.collector import ValidationCollector, boards
from img2img.callbacks.pictures import log_picture
from img2img.data import WholeImages
from img2img.imaging.drawing import draw_sheet
from img2img.tasks import Autoencoder, VariationalAutoencoder
from img2img.tasks.gather import gather
from img2img.tasks.latent_space import effects, one_moved, sampled_latents, straight_line
from img2img.tasks.pca import PrincipalComponents, principal_axes

Picture = NDArray[np.uint8]

SAMPLES, SAMPLES_IN_ROW = 32, 8
STEPS = 8  # images of an interpolation, both ends included
DEVIATIONS = (-2.0, -4 / 3, -2 / 3, 0.0, 2 / 3, 4 / 3, 2.0)  # of a traversal, in standard deviations
MOST_TRAVERSED = 8
MOST_TRIED = 32  # the latents that vary most; those that change the image most are shown
MOST_AXES = 64
AXIS_RANGE = 3.0  # what is drawn as black and white, in units of the value that all pixels of a flat axis have


class LatentPictures(ValidationCollector[tuple[int, Tensor]]):
    """Draws what an autoencoder's latents mean, at every validation, under tags that begin with `latents/`.

    `interpolation` between two validation images; `traversal` of one of them along the latents that change it
    most; for a variational one `samples`, the mean images of fixed latents drawn from the prior, and the
    histogram `kl`, each latent's mean divergence; for a linear one, at the end of training, its principal `axes`.
    Other tasks, and runs without a logger, are left alone; the histogram is TensorBoard's alone.
    """

    def collect(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any
    ) -> Iterator[tuple[int, Tensor]]:
        """Yields the number and the latents of each image."""
        if isinstance(pl_module, Autoencoder) and trainer.loggers:
            latents = pl_module.encode(batch["input"]).float().cpu()
            for i, n in enumerate(batch["n"].tolist()):
                if batch["counted"][i]:
                    yield n, latents[i]

    def on_collected(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draws, on rank zero; here, while the weights are the averaged ones."""
        found = sorted(gather(self.items), key=lambda item: item[0])
        if isinstance(pl_module, Autoencoder) and found and trainer.is_global_zero:
            self._show(trainer, pl_module, torch.stack([latents for _, latents in found]))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the histogram of what the task has measured by now."""
        fitting = trainer.state.fn == "fit" and not trainer.sanity_checking and trainer.is_global_zero
        if fitting and isinstance(pl_module, VariationalAutoencoder) and pl_module.kl_per_dimension is not None:
            for board in boards(trainer):
                board.add_histogram("latents/kl", pl_module.kl_per_dimension, trainer.global_step)

    def _show(self, trainer: Trainer, task: Autoencoder, latents: Tensor) -> None:
        pictures = {"interpolation": draw_interpolation(task, latents[0], latents[len(latents) // 2])}
        if len(latents) > 1:
            pictures["traversal"] = draw_traversal(task, latents)
        if isinstance(task, VariationalAutoencoder):
            pictures["samples"] = draw_samples(task)
        data = getattr(trainer, "datamodule", None)
        if trainer.should_stop and isinstance(data, WholeImages):
            axes = principal_axes(task.network, task.statistics.pca, data.targets("train"))
            if axes is not None:
                pictures["axes"] = draw_axes(axes, (task.network.in_channels, *task.network.image_size))
        for name, picture in pictures.items():
            log_picture(trainer, f"latents/{name}", picture)


@torch.no_grad()
def _decode(task: Autoencoder, latents: Tensor) -> Tensor:
    return task.decode(latents.to(task.device)).cpu()


def draw_samples(task: Autoencoder) -> Picture:
    """Returns the mean images of latents drawn from the prior N(0, I): the first ones of `img2img sample`."""
    latents, _ = sampled_latents(task, SAMPLES)
    return draw_sheet(_decode(task, latents), SAMPLES_IN_ROW)


def draw_interpolation(task: Autoencoder, first: Tensor, last: Tensor) -> Picture:
    """Returns the images on the straight line between two latents, k values each."""
    latents, fractions = straight_line(first, last, STEPS)
    return draw_sheet(_decode(task, latents), STEPS, [f"{fraction:.0%}" for fraction in fractions])


def draw_traversal(task: Autoencoder, latents: Tensor) -> Picture:
    """Returns the first image with one latent after the other moved, those first that change it most.

    Args:
        task: The model.
        latents: Of at least two images, N×k; each latent moves about its mean in its standard deviations over them.
    """
    deviations = latents.std(0)
    values = latents.mean(0) + deviations * torch.tensor(DEVIATIONS)[:, None]
    tried = deviations.argsort(descending=True, stable=True)[:MOST_TRIED].tolist()
    effect = effects(partial(_decode, task), latents[0], tried, values[[0, -1]])
    chosen = [tried[i] for i in effect.argsort(descending=True, stable=True)[:MOST_TRAVERSED].tolist()]
    captions = [f"{latent}: {steps:+.1f} sd" for latent in chosen for steps in DEVIATIONS]
    images = _decode(task, one_moved(latents[0], chosen, values).flatten(0, 1))
    return draw_sheet(images, len(DEVIATIONS), captions)


def draw_axes(fit: PrincipalComponents, shape: tuple[int, ...]) -> Picture:
    """Returns principal axes as C×H×W images about gray, on a fixed scale, with their shares of the variance."""
    values = fit.axes.shape[1]
    total = float(fit.variances.sum()) + fit.residual * (values - len(fit.axes))
    axes = fit.axes[:MOST_AXES] * values**0.5 / (2 * AXIS_RANGE)
    captions = [f"{i + 1}: {float(variance) / total:.1%}" for i, variance in enumerate(fit.variances[:MOST_AXES])]
    return draw_sheet(0.5 + axes.view(-1, *shape), SAMPLES_IN_ROW, captions)
