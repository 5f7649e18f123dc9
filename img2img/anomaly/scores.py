"""Scores of autoencoders: how abnormal an image is to a model that was trained on normal ones only.

Each score is a function of a `View` of a batch; a higher value is more abnormal. It returns None for a view that lacks
what it needs. PCA's view of the same batch goes through the same functions, for the scores `pca_<score>`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from img2img.anomaly.gaussian import GaussianFit

TOP_FRACTION = 0.01
"""Fraction of the pixels whose errors `top_error` averages."""
WINDOWS_PER_SIDE = 12
"""Windows that fit side by side into an image."""
LOWEST_TRAINING_ERROR = 0.1
"""Lower bound of the per-pixel training error, as a fraction of its mean; avoids division by zero."""
LOWEST_MEAN_ERROR = (0.5 / 255) ** 2
"""Half a level of 8 bits, squared: in images that are reconstructed better, rounding would stand out."""


@dataclass(frozen=True, eq=False)
class View:
    """A batch of N images, and what a model makes of it.

    Attributes:
        image: N×C×H×W in [0, 1].
        reconstruction: N×C×H×W in [0, 1].
        latents: N×k.
        training_latents: Gaussian fit of the training images' latents; None where they were not measured.
        layers: Of each layer of the encoder the mean squared difference between image and reconstruction in each
            channel, N×channels; empty for an encoder of one layer, whose output is the latents.
        training_layers: Gaussian fit of the same for the training images, all layers concatenated.
        training_error: Mean squared error of each pixel over the training images, H×W; None where it was not measured.
        nats: -ELBO, or -log p, of each image in nats, N; None for a model that defines no probability.
    """

    image: Tensor
    reconstruction: Tensor
    latents: Tensor
    training_latents: GaussianFit | None = None
    layers: Sequence[Tensor] = ()
    training_layers: GaussianFit | None = None
    training_error: Tensor | None = None
    nats: Tensor | None = None

    @cached_property
    def errors(self) -> Tensor:
        """Squared error of each pixel, N×H×W: the mean over its channels."""
        return ((self.image.float() - self.reconstruction.float()) ** 2).mean(1)

    @cached_property
    def map(self) -> Tensor:
        """Mean of the errors over a window about each pixel, N×H×W."""
        return smoothed(self.errors, borders=True)

    @cached_property
    def contrast(self) -> Tensor:
        """The map relative to its mean over the image, N×H×W; the mean counts as at least `LOWEST_MEAN_ERROR`."""
        return self.map / self.map.mean((1, 2), keepdim=True).clamp_min(LOWEST_MEAN_ERROR)


def smoothed(errors: Tensor, borders: bool) -> Tensor:
    """Returns means over windows of N×H×W, whose odd side is a `WINDOWS_PER_SIDE`th of the image's.

    With `borders` the size is kept: windows at the border are averaged over their part within the image.
    """
    height, width = ((side // WINDOWS_PER_SIDE) | 1 for side in errors.shape[-2:])
    padding = (height // 2, width // 2) if borders else 0
    return F.avg_pool2d(errors[:, None], (height, width), 1, padding, count_include_pad=False)[:, 0]


def error(view: View) -> Tensor:
    """Mean squared error per value."""
    return view.errors.flatten(1).mean(1)


def top_error(view: View) -> Tensor:
    """Mean of the largest hundredth of the pixels' squared errors."""
    pixels = view.errors.flatten(1)
    return pixels.topk(max(1, round(TOP_FRACTION * pixels.shape[1])), 1).values.mean(1)


def local_error(view: View) -> Tensor | None:
    """Largest mean over a window of the squared errors, each in units of the pixel's error on training images.

    A small defect counts as much as a large one, and edges that are never reconstructed well do not hide it.
    """
    relative = relative_errors(view)
    return None if relative is None else smoothed(relative, borders=False).flatten(1).amax(1)


def relative_errors(view: View) -> Tensor | None:
    """Returns the squared errors, each in units of the pixel's error on training images, N×H×W."""
    if view.training_error is None:
        return None
    typical = F.avg_pool2d(view.training_error[None], 3, 1, 1, count_include_pad=False)
    typical = typical.clamp_min(LOWEST_TRAINING_ERROR * float(typical.mean())).to(view.errors.device)
    return view.errors / typical


def mahalanobis(view: View) -> Tensor | None:
    """Distance of the latents from their mean over the training images, in units of their spread there."""
    return None if view.training_latents is None else view.training_latents.from_mean(view.latents)


def neighbour(view: View) -> Tensor | None:
    """Distance of the latents from those of the nearest training image, in units of their spread there."""
    return None if view.training_latents is None else view.training_latents.from_nearest(view.latents)


def rapp_sap(view: View) -> Tensor | None:
    """Sum of the squared errors along the layers, each layer by its mean (Kim et al., "RaPP", ICLR 2020)."""
    return torch.stack([layer.mean(1) for layer in view.layers]).sum(0) if view.layers else None


def rapp_nap(view: View) -> Tensor | None:
    """The same, with every channel compared to the training images (RaPP's normalised variant)."""
    if not view.layers or view.training_layers is None:
        return None
    return view.training_layers.from_mean(torch.cat(list(view.layers), 1))


def neg_elbo(view: View) -> Tensor | None:
    """Negative evidence lower bound in nats; of PCA -log p under probabilistic PCA."""
    return view.nats


SCORES = (error, top_error, local_error, mahalanobis, neighbour, rapp_sap, rapp_nap, neg_elbo)


def scores_of(views: dict[str, View]) -> dict[str, Tensor]:
    """Returns every score of every view, N each, under the view's prefix and the score's name."""
    found = {prefix + score.__name__: score(view) for prefix, view in views.items() for score in SCORES}
    return {name: values.float() for name, values in found.items() if values is not None}
