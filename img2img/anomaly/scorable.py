"""What scoring, calibration and maps ask of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from img2img.errors import UserError
from img2img.latents.runner import Devices, name_of, open_task

if TYPE_CHECKING:
    from torch import Tensor

    from img2img.data.clean_images import CleanImages
    from img2img.data.splits import Split
    from img2img.tasks import Task
    from img2img.tasks.base import Batch
    from img2img.tasks.thresholds import Scored, Thresholds


class NormalImages(Protocol):
    """The images that a model was trained on and validated with, such as `CorruptedPairs` and `WholeImages`."""

    def clean_images(self, split: Split, most: int) -> CleanImages:
        """Returns the images of a split for prediction, at most so many, evenly spread."""

    def trained_images(self, most: int) -> CleanImages:
        """Returns all images that training sees, those with real defects too, at most so many."""


@runtime_checkable
class Scorable(Protocol):
    """A model that says how abnormal images are, and where.

    A task is scorable if it has these members; it need not inherit from this class. Its own `on_save_checkpoint` and
    `on_load_checkpoint` keep what it has measured, and the thresholds, under `statistics` beside the recipe.
    `as_scorable` makes an autoencoder and an `AnomalySegmentation` so.

    Attributes:
        thresholds: Set by `calibrate`; empty before.
    """

    thresholds: Thresholds

    @property
    def recommended(self) -> str:
        """The score whose threshold decides which images are abnormal."""

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
            freeze: Whether weights may be set to what the training images show; False if training resumes from them.
        """


def as_scorable(task: Task, name: str = "the model") -> Scorable:
    """Returns a task as scorable: itself, or what wraps it; `name` is what messages call the model.

    Raises:
        UserError: If the task is not scorable.
    """
    from img2img.anomaly.autoencoder import ScorableAutoencoder
    from img2img.anomaly.segmentation import ScorableSegmentation
    from img2img.tasks import AnomalySegmentation, Autoencoder

    if isinstance(task, Scorable):
        return task
    if isinstance(task, Autoencoder):
        return ScorableAutoencoder(task)
    if isinstance(task, AnomalySegmentation):
        return ScorableSegmentation(task)
    raise UserError(
        f"{name} ({type(task).__name__}) does not say how abnormal images are: train a model with anomaly.yaml"
    )


def is_scorable(task: Task) -> bool:
    """Returns whether `as_scorable` takes a task."""
    from img2img.tasks import AnomalySegmentation, Autoencoder

    return isinstance(task, Autoencoder | AnomalySegmentation | Scorable)


def open_scorable(model: str | Path | Task, trust: Sequence[str] = ()) -> tuple[Task, Scorable]:
    """Opens a model with `open_task`, and returns it as a task and as scorable.

    Raises:
        UserError: If the model is not scorable.
        FileNotFoundError: If the checkpoint does not exist.
    """
    task = open_task(model, trust)
    return task, as_scorable(task, name_of(model))


def by_image(scores: Mapping[str, Tensor]) -> list[dict[str, float]]:
    """Returns scores, N values each, as a dictionary for each of the N images."""
    columns = [values.tolist() for values in scores.values()]
    return [dict(zip(scores, row, strict=True)) for row in zip(*columns, strict=True)]
