"""What scoring, calibration and maps ask of a model."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from img2img.errors import UserError
from img2img.latents.runner import Devices

if TYPE_CHECKING:
    from lightning.pytorch import LightningDataModule
    from torch import Tensor

    from img2img.data.splits import Split
    from img2img.tasks import Task
    from img2img.tasks.base import Batch
    from img2img.tasks.thresholds import Scored, Thresholds


class NormalImages(Protocol):
    """The images that a model was trained on and validated with, such as `WholeImages`."""

    def clean_images(self, split: Split, most: int) -> LightningDataModule:
        """Returns the images of a split for prediction, at most so many, evenly spread."""


@runtime_checkable
class Scorable(Protocol):
    """A model that says how abnormal images are, and where.

    A task is scorable if it has these members; it inherits nothing from here. Its own `on_save_checkpoint` and
    `on_load_checkpoint` keep what it has measured, and the thresholds, under `statistics` beside the recipe.
    `as_scorable` makes an autoencoder scorable.

    Attributes:
        recommended: The score whose threshold decides which images are abnormal.
        thresholds: Set by `calibrate`; empty before.
    """

    recommended: str
    thresholds: Thresholds

    @property
    def image_size(self) -> tuple[int, int] | None:
        """Height and width that images are scaled to; None for a model that takes each image in its own size."""

    @property
    def in_channels(self) -> int:
        """Channels of the images: 3 or 1."""

    def score_batch(self, batch: Batch) -> Scored:
        """Scores the `image` of a batch, N×C×H×W in [0, 1]; the names of the scores are always the same."""

    def measure_training(self, data: NormalImages, where: Devices | None, freeze: bool) -> None:
        """Measures the training images, as far as the scores need it; the first part of calibration.

        Args:
            data: The images.
            where: Where to compute; None for `Devices()`.
            freeze: Whether weights that follow the training images may be set to what these show; False to leave the
                weights as training has to find them when it goes on.
        """


def as_scorable(task: Task, name: str = "the model") -> Scorable:
    """Returns a task that is scorable, or one made of an autoencoder.

    Args:
        task: The model.
        name: What the message calls it.

    Raises:
        UserError: If the task is neither.
    """
    from img2img.anomaly.autoencoder import ScorableAutoencoder
    from img2img.tasks import Autoencoder

    if isinstance(task, Scorable):
        return task
    if isinstance(task, Autoencoder):
        return ScorableAutoencoder(task)
    raise UserError(
        f"{name} ({type(task).__name__}) does not say how abnormal images are: train a model with anomaly.yaml"
    )


def open_scorable(model: str | Path | Task, trust: Sequence[str] = ()) -> tuple[Task, Scorable]:
    """Returns a task from a checkpoint, or a copy of the given one, in evaluation mode, and the same as scorable.

    Args:
        model: Checkpoint, or a task. What is done with the copy (other devices, another precision) leaves it alone.
        trust: Further packages whose classes the checkpoint may name.

    Raises:
        UserError: If the model is not scorable.
        FileNotFoundError: If the checkpoint does not exist.
    """
    from img2img.tasks.recipe import load

    if isinstance(model, str | Path):
        task = load(model, trust).eval()
        return task, as_scorable(task, str(model))
    task = copy.deepcopy(model).eval()
    return task, as_scorable(task)


def by_image(scores: Mapping[str, Tensor]) -> list[dict[str, float]]:
    """Returns the scores of N images, N values each, as a dictionary for each image."""
    columns = [values.tolist() for values in scores.values()]
    return [dict(zip(scores, row, strict=True)) for row in zip(*columns, strict=True)]
