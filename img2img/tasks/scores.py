"""How abnormal an image is, to a model that has seen normal ones only: one function a score, more is more abnormal.

Each is given a `View` of a batch, and says nothing (None) of a view that lacks what it needs. PCA's view of the same
batch goes through the same functions, for what stands beside each score as `pca_<score>`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from img2img.tasks.autoencoding import Autoencoder, Statistics
from img2img.tasks.base import Batch
from img2img.tasks.cloud import Cloud

TOP_SHARE = 0.01
WINDOWS = 12
"""So many windows fit beside each other into an image."""
LEAST_USUAL = 0.1
"""What is usual at a pixel is taken for at least this share of what is usual at all, for it may be nothing."""
COPY = 0.01
"""An image that is nearer to a training image than this share of what is usual was trained on."""


@dataclass(frozen=True, eq=False)
class View:
    """A batch as a model sees it.

    Attributes:
        image: N×C×H×W in [0, 1].
        drawn: What the model makes of it, alike.
        latents: N×k.
        known: Latents of the training images; None where they were not measured.
        layers: Of each layer of the encoder, how differently image and drawn image excite it: N×channels, the mean
            squared difference of each; empty where there is one layer only, whose values the latents are.
        known_layers: The same of the training images, all layers beside each other.
        usual: Mean squared error of each pixel over the training images, H×W; None where it was not measured.
        nats: -ELBO, or -log p, of each image in nats, N; None where the model is no distribution.
    """

    image: Tensor
    drawn: Tensor
    latents: Tensor
    known: Cloud | None = None
    layers: Sequence[Tensor] = ()
    known_layers: Cloud | None = None
    usual: Tensor | None = None
    nats: Tensor | None = None

    @cached_property
    def errors(self) -> Tensor:
        """Squared error of each pixel, N×H×W: the mean over its channels."""
        return ((self.image.float() - self.drawn.float()) ** 2).mean(1)

    @cached_property
    def map(self) -> Tensor:
        """The errors, each the mean over a window about it; N×H×W."""
        return _smoothed(self.errors, borders=True)


def _smoothed(errors: Tensor, borders: bool) -> Tensor:
    """Returns means over windows of N×H×W; with borders over those as well that reach beyond the image, for its part.

    Windows have an odd side, a `WINDOWS`th of the image's.
    """
    height, width = ((side // WINDOWS) | 1 for side in errors.shape[-2:])
    padding = (height // 2, width // 2) if borders else 0
    return F.avg_pool2d(errors[:, None], (height, width), 1, padding, count_include_pad=False)[:, 0]


def error(view: View) -> Tensor:
    """Mean squared error per value."""
    return view.errors.flatten(1).mean(1)


def top_error(view: View) -> Tensor:
    """Mean of the largest hundredth of the pixels' squared errors."""
    pixels = view.errors.flatten(1)
    return pixels.topk(max(1, round(TOP_SHARE * pixels.shape[1])), 1).values.mean(1)


def local_error(view: View) -> Tensor | None:
    """Largest mean over a window of the squared errors, in units of what each pixel's is on training images.

    A small defect weighs as much as a large one, and an edge that is never drawn well does not hide it.
    """
    if view.usual is None:
        return None
    usual = F.avg_pool2d(view.usual[None], 3, 1, 1, count_include_pad=False)
    usual = usual.clamp_min(LEAST_USUAL * float(usual.mean())).to(view.errors.device)
    return _smoothed(view.errors / usual, borders=False).flatten(1).amax(1)


def mahalanobis(view: View) -> Tensor | None:
    """Distance of the latents from their mean over the training images, in units of how these spread."""
    return None if view.known is None else view.known.from_mean(view.latents)


def neighbour(view: View) -> Tensor | None:
    """Distance of the latents from those of the nearest training image, in units of how these spread."""
    return None if view.known is None else view.known.from_nearest(view.latents)


def rapp_sap(view: View) -> Tensor | None:
    """Squared error along the layers, summed: Kim et al., "RaPP", ICLR 2020, each layer by its mean."""
    return torch.stack([layer.mean(1) for layer in view.layers]).sum(0) if view.layers else None


def rapp_nap(view: View) -> Tensor | None:
    """The same, every channel compared with what it is on training images (RaPP's normalised variant)."""
    if not view.layers or view.known_layers is None:
        return None
    return view.known_layers.from_mean(torch.cat(list(view.layers), 1))


def neg_elbo(view: View) -> Tensor | None:
    """How improbable the image is, in nats: -ELBO, of PCA -log p under its probabilistic variant."""
    return view.nats


SCORES = (error, top_error, local_error, mahalanobis, neighbour, rapp_sap, rapp_nap, neg_elbo)
PCA = "pca_"


def scores_of(views: dict[str, View]) -> dict[str, Tensor]:
    """Returns every score of every view, N each, under the view's prefix and the score's name."""
    found = {prefix + score.__name__: score(view) for prefix, view in views.items() for score in SCORES}
    return {name: values.float() for name, values in found.items() if values is not None}


class Scorer:
    """Looks at images through an autoencoder, and through PCA beside it.

    Args:
        statistics: What is known of the training images; scores that need what is not there are left out.
    """

    def __init__(self, statistics: Statistics) -> None:
        self.pca = statistics.pca
        self.known = Cloud(statistics.latents) if statistics.latents else None
        self.known_linear = Cloud(statistics.pca_latents) if statistics.pca_latents else None
        self.known_layers = Cloud(statistics.layers, alike=True) if statistics.layers else None
        self.usual = statistics.errors
        held_out = statistics.scores.get("neighbour")
        self._copies = COPY * float(held_out["normal"].median()) if held_out else 0.0

    def views(self, task: Autoencoder, batch: Batch) -> dict[str, View]:
        """Returns the views of a batch by the prefix of their scores: the model's, and PCA's if it is known.

        Never in mixed precision, so that scores and thresholds are measured alike.
        """
        with torch.autocast(batch["image"].device.type, enabled=False):
            return self._views(task, batch)

    def _views(self, task: Autoencoder, batch: Batch) -> dict[str, View]:
        image = batch["image"]
        task.check_size(image)
        found, k = task.network.layers(image), task.network.latent_dim
        latents = task.encode(image)
        drawn, elbo = task.decode(latents), task.elbo_of(batch)
        again = task.network.layers(drawn.to(image.dtype)) if len(found) > 1 else found
        pairs = list(zip(found, again, strict=True))
        pairs[-1] = (found[-1][:, :k], again[-1][:, :k])  # without log-variances
        layers = [_by_channel(one, other) for one, other in pairs] if len(found) > 1 else []
        nats = None if elbo is None else -elbo.float()
        views = {"": View(image, drawn, latents, self.known, layers, self.known_layers, self.usual.get(""), nats)}
        if self.pca is not None:
            linear = self.pca = self.pca.to(image.device)
            code = linear.encode(image)
            drawn = linear.decode(code, image.shape).clamp(0, 1)
            nats = None if elbo is None else linear.nats(image)
            views[PCA] = View(image, drawn, code, self.known_linear, usual=self.usual.get(PCA), nats=nats)
        return views

    def trained_on(self, scores: dict[str, Tensor]) -> Tensor:
        """Returns which images lie where a training image lies, N: their own, or a copy of it."""
        return scores["neighbour"] < self._copies


def _by_channel(one: Tensor, other: Tensor) -> Tensor:
    """Returns the mean squared difference of each channel, N×C, of N×C×h×w or N×C."""
    difference = (one.float() - other.float()) ** 2
    return difference.flatten(2).mean(2) if difference.ndim > 2 else difference
