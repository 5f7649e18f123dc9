"""The latent space in TensorBoard's Projector: each image as a point with its thumbnail and the name of its folder."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from img2img.data.pairs import WholePairs
from img2img.errors import printable
from img2img.tasks import Autoencoder
from img2img.tasks.gather import gather

MOST_POINTS = 10_000
SIDE = 64
"""Of a thumbnail, in pixels, at most."""
SPRITE_SIDE = 4096
"""Of the picture that holds all thumbnails, in pixels, at most. TensorBoard shows up to 8192, but to draw so large a
one torch takes 2 GB."""


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
        """Returns for each of N×C×H×W in [0, 1] its thumbnail on the CPU, None for those that are not shown.

        Args:
            image: The images; on white where they are not square. Small ones are not enlarged.
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
    """Writes points for the Projector beside a writer's events.

    Args:
        writer: Where.
        points: In any order.
        step: Of training.
    """
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


class LatentProjector(Callback):
    """Writes the last validation's latents for the Projector, once, when training ends.

    With each point go its thumbnail, the folder that the image lies in (relative to the validation images' root), its
    name and the mean squared error of its reconstruction; an image that is corrupted in several ways is as many points.
    At most `MOST_POINTS`, evenly spread.
    """

    def __init__(self) -> None:
        self._points: list[Point] = []
        self._thumbnails = ProjectorThumbnails(0)
        self._images: Any = None  # a data set of anyone's

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins anew: which validation is the last is known only afterwards."""
        self._images = getattr(trainer.val_dataloaders, "dataset", None)
        self._thumbnails = ProjectorThumbnails(len(self._images) if hasattr(self._images, "__len__") else 0)
        self._points = []

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keeps the latents; here, for averaged weights are swapped out again before the epoch's end."""
        if not isinstance(pl_module, Autoencoder) or trainer.sanity_checking or trainer.state.fn != "fit":
            return
        latents = pl_module.encode(batch["input"]).float().cpu()
        errors = ((outputs["output"] - batch["target"]) ** 2).flatten(1).mean(1).tolist()
        several = isinstance(self._images, WholePairs) and len(self._images.names) > 1
        for i, thumbnail in enumerate(self._thumbnails.of(batch["input"], batch["n"])):
            if thumbnail is not None and batch["counted"][i]:
                label, name = self._label_and_name(Path(batch["path"][i]))
                name += f" · {batch['corruption'][i]}" if several else ""
                point = Point(int(batch["n"][i]), latents[i].clone(), thumbnail, label, name, f"{errors[i]:.5f}")
                self._points.append(point)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes what all processes have kept, on rank zero."""
        points = gather(self._points)
        if not points or not trainer.is_global_zero or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                write_points(logger.experiment, points, trainer.global_step)

    def _label_and_name(self, path: Path) -> tuple[str, str]:
        """Returns the folder of a validation image and its name, both relative to the validation images' root."""
        if not isinstance(self._images, WholePairs):  # someone else's data: the name of the folder alone
            return path.parent.name, path.name
        name = self._images.source.name(path)
        return name.rpartition("/")[0], name
