"""Images of a folder as a model takes them, labelled with the names of their folders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from img2img.data.scaling import scale_to
from img2img.data.stream import EvaluationSampler
from img2img.errors import UserError
from img2img.imaging.files import UnreadableImage, find_images, read_finite, to_channels, to_float
from img2img.imaging.formats import READABLE_NAMES
from img2img.imaging.values import Pixels

Size = tuple[int, int]  # height and width, in pixels
Read = Callable[[Path], dict[str, Any]]
UNREADABLE: Size = (32, 32)  # of the black image in place of one that cannot be read, where images keep their own size


class LabelledImages(LightningDataModule):
    """Images of a folder as a trained model takes them, shared among the processes.

    A batch has `image` (N×C×H×W in [0, 1], the model's size), `n` (numbers in the order of the names), `path`, `label`
    (the folder, relative to the root; empty at its top), `size` (N×2, height and width of the file), `counted` (False
    for the repeated images that fill up a process's share) and `problem` (why a file cannot be read, with a black image
    in its place; else empty).

    Args:
        source: Folder, searched recursively, or one image.
        image_size: Height and width to scale to; None for images in their own sizes, each a batch of its own.
        channels: 3 or 1.
        batch_size: Images that go through the network together.
        num_workers: Processes that read; None for four where the network runs on another device, and none on CPUs.
        paths: The files of the folder to read; None for all its images.

    Raises:
        UserError: If there are no images.
        FileNotFoundError: If the source does not exist.
    """

    def __init__(
        self,
        source: Path,
        image_size: Sequence[int] | None,
        channels: int,
        batch_size: int = 32,
        num_workers: int | None = None,
        paths: Sequence[Path] | None = None,
    ) -> None:
        super().__init__()
        self.root = source if source.is_dir() else source.parent
        found = paths if paths is not None else find_images(source) if source.is_dir() else [source]
        self.paths = list(found)
        if not self.paths:
            raise UserError(f"no images ({READABLE_NAMES}) under {source}")
        if paths is None and not self.paths[0].exists():
            raise FileNotFoundError(f"{source} does not exist")
        self.image_size: Size | None = None if image_size is None else (int(image_size[0]), int(image_size[1]))
        self.channels, self.num_workers = channels, num_workers
        self.batch_size = 1 if image_size is None else batch_size

    def predict_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Returns the loader of this process's share."""
        read = partial(_read_labelled, root=self.root, image_size=self.image_size, channels=self.channels)
        return prediction_loader(self, self.paths, read, self.batch_size, self.num_workers)


def _read_labelled(path: Path, root: Path, image_size: Size | None, channels: int) -> dict[str, Any]:
    folder, problem = path.relative_to(root).parent.as_posix(), ""
    try:
        image, size = read_scaled(path, image_size, channels)
    except UnreadableImage as error:
        image, size, problem = torch.zeros(channels, *(image_size or UNREADABLE)), (0, 0), str(error)
    label = "" if folder == "." else folder
    return {"label": label, "image": image, "size": torch.tensor(size), "problem": problem}


def read_scaled(path: Path, image_size: Size | None, channels: int) -> tuple[Tensor, Size]:
    """Returns an image as a model takes it, C×H×W in [0, 1], and its height and width in the file.

    It has 1 or 3 `channels` and is scaled to `image_size`, unless that is None.

    Raises:
        UnreadableImage: If the file is missing, damaged, or holds NaN or infinity.
    """
    pixels = to_channels(read_finite(path).pixels, channels)
    scaled = pixels if image_size is None else scale_to(pixels, image_size)
    return to_tensor(to_float(scaled)), (pixels.shape[0], pixels.shape[1])


def to_tensor(pixels: Pixels) -> Tensor:
    """Returns H×W×C pixels as a tensor C×H×W."""
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def prediction_loader(
    data: LightningDataModule, paths: Sequence[Path], read: Read, batch_size: int, num_workers: int | None = None
) -> DataLoader[dict[str, Any]]:
    """Returns the loader of this process's share of images, with `n`, `counted` and `path` beside what `read` returns.

    Args:
        data: The data module, whose Trainer decides the share.
        paths: The files.
        read: Returns the rest of an item, whose tensors can be stacked; pickled for spawned workers.
        batch_size: Images in a batch.
        num_workers: Processes that read; None for four where the network runs on another device, and none on CPUs.

    Raises:
        RuntimeError: If the data module has no Trainer.
    """
    if data.trainer is None:
        raise RuntimeError(f"{type(data).__name__} makes its loader for a Trainer: trainer.predict(…, datamodule=…)")
    sampler = EvaluationSampler(len(paths), data.trainer.global_rank, data.trainer.world_size)
    on_cpu = data.trainer.strategy.root_device.type == "cpu"
    workers = (0 if on_cpu else 4) if num_workers is None else num_workers
    images = _Images(paths, read)
    # By name, because Lightning builds the loader again from the names of its arguments.
    return DataLoader(images, batch_size=batch_size, sampler=sampler, num_workers=workers, collate_fn=_collate)


class _Images(Dataset[dict[str, Any]]):
    def __init__(self, paths: Sequence[Path], read: Read) -> None:
        self.paths, self.read = paths, read

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, item: tuple[int, bool]) -> dict[str, Any]:
        n, counted = item
        return {"n": n, "counted": counted, "path": str(self.paths[n]), **self.read(self.paths[n])}


def _collate(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    batch: dict[str, Any] = {key: [item[key] for item in items] for key in items[0]}
    stacked = {name: torch.stack(values) for name, values in batch.items() if isinstance(values[0], torch.Tensor)}
    return batch | stacked | {name: torch.tensor(batch[name]) for name in ("n", "counted")}
