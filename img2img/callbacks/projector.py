"""The latent space in TensorBoard's Projector: each image as a point with its thumbnail and the name of its folder."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from img2img.callbacks.collector import ValidationCollector, boards
from img2img.data.pairs import WholePairs
from img2img.errors import printable
from img2img.tasks import Autoencoder
from img2img.tasks.gather import gather

MOST_POINTS = 10_000
SIDE = 64  # of a thumbnail, in pixels, at most
SPRITE_SIDE = 4096
"""Of the picture with all thumbnails, in pixels, at most. TensorBoard shows up to 8192, for which torch needs 2 GB."""


@dataclass(frozen=True)
class Point:
    """One image in the latent space: its number, latents (k), thumbnail (C×side×side uint8) and names."""

    n: int
    latent: Tensor
    thumbnail: Tensor
    label: str
    name: str
    error: str


class ProjectorThumbnails:
    """Makes square thumbnails of as many of the images as the Projector can show, evenly spread.

    Args:
        images: How many images there are.
    """

    def __init__(self, images: int) -> None:
        points = max(1, min(images, MOST_POINTS))
        self.chosen = frozenset(i * images // points for i in range(points))
        self.side = min(SIDE, SPRITE_SIDE // math.ceil(math.sqrt(points)))

    def of(self, image: Tensor, n: Tensor) -> list[Tensor | None]:
        """Returns the thumbnail of each image on the CPU, None for those that are not shown.

        Args:
            image: N×C×H×W in [0, 1]; put on white if not square. Small images are not enlarged.
            n: Their numbers, N.
        """
        height, width = image.shape[-2:]
        longest = max(height, width)
        scale = min(1.0, self.side / longest)
        size = (max(1, round(height * scale)), max(1, round(width * scale)))
        small = nn.functional.interpolate(image.float().clamp(0, 1), size, mode="area")
        room = [max(size) - side for side in size]
        padding = (room[1] // 2, room[1] - room[1] // 2, room[0] // 2, room[0] - room[0] // 2)
        square = nn.functional.pad(small, padding, value=1.0)
        pixels = (square * 255).round().byte().cpu()
        return [pixels[i].clone() if number in self.chosen else None for i, number in enumerate(n.tolist())]


def write_points(writer: SummaryWriter, points: list[Point], step: int) -> None:
    """Writes points of a training step, in any order, for the Projector beside a writer's events."""
    points = sorted(points, key=lambda point: point.n)
    writer.add_embedding(
        torch.stack([point.latent.float() for point in points]),
        # A tab or a line break in a name would shift the columns of the table.
        metadata=[[printable(point.label) or ".", printable(point.name), point.error] for point in points],
        label_img=torch.stack([point.thumbnail for point in points]).float() / 255,
        global_step=step,
        tag="latents",
        metadata_header=["label", "file", "error"],
    )


class LatentProjector(ValidationCollector[Point]):
    """Writes the last validation's latents for the Projector, once, when training ends.

    Each point has a thumbnail, the image's folder (relative to the validation images' root), its name and the mean
    squared error of its reconstruction; an image that is corrupted in several ways is as many points. At most
    `MOST_POINTS`, evenly spread.
    """

    def __init__(self) -> None:
        super().__init__()
        self._thumbnails = ProjectorThumbnails(0)
        self._images: Any = None  # a data set of anyone's

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts again: which validation is the last is known only afterwards."""
        super().on_validation_epoch_start(trainer, pl_module)
        self._images = getattr(trainer.val_dataloaders, "dataset", None)
        self._thumbnails = ProjectorThumbnails(len(self._images) if hasattr(self._images, "__len__") else 0)

    def collect(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any) -> Iterator[Point]:
        """Yields the points of a batch."""
        if not isinstance(pl_module, Autoencoder):
            return
        latents = pl_module.encode(batch["input"]).float().cpu()
        errors = ((outputs["output"] - batch["target"]) ** 2).flatten(1).mean(1).tolist()
        several = isinstance(self._images, WholePairs) and len(self._images.names) > 1
        for i, thumbnail in enumerate(self._thumbnails.of(batch["input"], batch["n"])):
            if thumbnail is not None and batch["counted"][i]:
                label, name = self._label_and_name(Path(batch["path"][i]))
                name += f" · {batch['corruption'][i]}" if several else ""
                yield Point(int(batch["n"][i]), latents[i].clone(), thumbnail, label, name, f"{errors[i]:.5f}")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes what all processes have kept, on rank zero."""
        points = gather(self.items)
        if points and trainer.is_global_zero:
            for board in boards(trainer):
                write_points(board, points, trainer.global_step)

    def _label_and_name(self, path: Path) -> tuple[str, str]:
        """Returns the folder of a validation image and its name, both relative to the validation images' root."""
        if not isinstance(self._images, WholePairs):  # someone else's data: the name of the folder alone
            return path.parent.name, path.name
        name = self._images.source.name(path)
        return name.rpartition("/")[0], name
