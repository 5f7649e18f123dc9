"""Latents of interest: draws from the prior, the straight line between two, one latent moved at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from img2img.data.stream import draws_of_sample
from img2img.errors import UserError
from img2img.tasks.autoencoding import QUANTILES, Autoencoder, Distribution

Decode = Callable[[Tensor], Tensor]
"""Maps latents N×k to images N×C×H×W."""


def training_latents(task: Autoencoder) -> Distribution:
    """Returns the distribution of the latents of the model's training images.

    Raises:
        UserError: If the checkpoint was written before training ended, when they are measured.
    """
    known = task.statistics.latents
    if known is None:
        raise UserError(
            "this checkpoint does not hold the latents of its training images, which are measured when training ends: "
            "continue with img2img fit … --ckpt_path last"
        )
    return known


def sampled_latents(task: Autoencoder, count: int, seed: int = 0, temperature: float = 1.0) -> tuple[Tensor, str]:
    """Draws latents from the prior N(0, I) of a variational autoencoder, or from a Gaussian fitted to training latents.

    Args:
        task: The model.
        count: Number of latents.
        seed: Seed of the draws; latent i depends only on it and on i.
        temperature: Factor on the latents' spread.

    Returns:
        The latents, count×k on the CPU, and in words the distribution that they come from.

    Raises:
        UserError: If the model has neither a prior nor `training_latents`.
    """
    rows = [draws_of_sample(seed, i)[0].standard_normal(task.network.latent_dim) for i in range(count)]
    noise = temperature * torch.from_numpy(np.stack(rows))
    if task.per_latent > 1:  # mean and variance: training kept the posterior near N(0, I)
        return noise.float(), "the prior N(0, I)"
    known = training_latents(task)
    variances, axes = torch.linalg.eigh(known.covariance.double())
    spread = (axes * variances.clamp_min(0).sqrt()) @ axes.T  # the symmetric root, which is unique
    latents = known.mean.double() + noise @ spread
    return latents.float(), "a Gaussian fitted to the latents of its training images"


def drawn_images(task: Autoencoder, latents: Tensor, seed: int, first: int = 0) -> Tensor:
    """Draws images from the distributions over pixels that latents define.

    Args:
        task: The model.
        latents: N×k, on the model's device.
        seed: Seed of the draws; an image depends only on it, its number and its latent. A sample's first generator
            draws its latent (see `sampled_latents`), its second one its pixels.
        first: Number of the first image.

    Returns:
        The images, N×C×H×W, not clamped to [0, 1].

    Raises:
        UserError: If the decoder defines no distribution.
    """
    seeds = [draws_of_sample(seed, first + i)[1].getrandbits(63) for i in range(len(latents))]
    generators = [torch.Generator(latents.device).manual_seed(number) for number in seeds]
    # One by one, so that the noise of an image does not depend on its batch.
    return torch.cat([task.draw(latents[i : i + 1], generators[i]) for i in range(len(latents))])


def straight_line(first: Tensor, last: Tensor, steps: int) -> tuple[Tensor, list[float]]:
    """Returns latents on the straight line between two, steps×k with both ends, and their fractions of the way."""
    fractions = torch.linspace(0, 1, steps)
    return torch.lerp(first, last, fractions[:, None]), fractions.tolist()


def quantile_values(quantiles: Tensor, steps: int) -> tuple[list[float], Tensor]:
    """Returns `steps` levels from the lowest to the highest of `QUANTILES`, and the latents' values there, steps×k.

    Levels between the known ones, and their values, are interpolated.

    Args:
        quantiles: The latents' quantiles at `QUANTILES`, one row per level, k columns.
        steps: Number of levels.
    """
    known = np.arange(len(QUANTILES))
    places = np.linspace(0, len(QUANTILES) - 1, steps)
    values = [np.interp(places, known, column.numpy()) for column in quantiles.T]
    return np.interp(places, known, QUANTILES).tolist(), torch.from_numpy(np.stack(values, 1)).float()


def one_moved(latent: Tensor, moved: Sequence[int], values: Tensor) -> Tensor:
    """Returns copies of a latent vector, m×steps×k, in each of which one of the m `moved` latents has another value.

    Args:
        latent: k numbers.
        moved: Indices of the latents to move, m of them.
        values: Values of all latents, steps×k.
    """
    found = latent.repeat(len(moved), len(values), 1)
    for row, d in enumerate(moved):
        found[row, :, d] = values[:, d]
    return found


def effects(decode: Decode, latent: Tensor, moved: Sequence[int], ends: Tensor, at_once: int = 32) -> Tensor:
    """Returns the mean squared change of an image when a latent moves from one value to another, for m latents.

    Args:
        decode: Maps latents to images.
        latent: Latents of the image, k numbers.
        moved: Indices of the latents to move, m of them.
        ends: The two values of each latent, 2×k.
        at_once: Number of images to decode together.
    """
    found = []
    for first in range(0, len(moved), at_once):
        some = moved[first : first + at_once]
        low, high = (decode(one_moved(latent, some, end[None]).flatten(0, 1)) for end in ends)
        found.append(((high - low) ** 2).flatten(1).mean(1))
    return torch.cat(found)
