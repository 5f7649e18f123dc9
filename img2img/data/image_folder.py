"""Images to restore: a folder or a single file, read as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from img2img.data.holes import find_holes
from img2img.data.stream import EvaluationSampler
from img2img.imaging.files import find_images, read_image, to_float


class FolderImages(Dataset[dict[str, Any]]):
    """The images under a folder, or one image, asked for as (number, counted).

    An item has `input` (1×C×H×W float32 in [0, 1]), `dtype`, `alpha` and `metadata` of the file, `path` and
    `relative`, and, where masks are given, `mask` (1×1×H×W float32, 1 in holes and 0 elsewhere); or, where the file or
    its mask cannot be used, `path` and `problem`. Nothing is decoded for padding.

    Args:
        root: The folder, searched recursively, or the image.
        mask: Where the holes are, see `img2img.data.holes.find_holes`; None for images without holes.

    Raises:
        FileNotFoundError: If the folder or file does not exist, or holds no image.
        UserError: If the mask is none.
    """

    def __init__(self, root: Path, mask: str | None = None) -> None:
        self.find_holes = None if mask is None else find_holes(mask, root)
        self.root = root.parent if root.is_file() else root
        self.paths = [root] if root.is_file() else find_images(root)
        if not self.paths:
            raise FileNotFoundError(f"no images (JPEG, PNG, WebP, TIFF, BMP) under {root}")

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, item: tuple[int, bool]) -> dict[str, Any]:
        number, counted = item
        path = self.paths[number]
        batch: dict[str, Any] = {"path": path, "relative": path.relative_to(self.root), "counted": counted}
        if not counted:
            return batch
        try:
            image = read_image(path)
            if self.find_holes is not None:
                image, holes = self.find_holes(path, image)
                batch["mask"] = torch.from_numpy(holes).float()[None, None]
        except ValueError as error:  # unreadable, or without a mask that fits: the others go on
            return batch | {"problem": str(error)}
        pixels = torch.from_numpy(to_float(image.pixels)).permute(2, 0, 1)[None]
        # Not the image itself: Lightning, looking for tensors to move, refuses frozen dataclasses.
        return batch | {
            "input": pixels,
            "dtype": image.pixels.dtype,
            "alpha": image.alpha,
            "metadata": image.metadata,
        }


def _as_it_is(item: Any) -> Any:
    """Stands in for the loader's own conversion, which would make a tensor of the alpha channel."""
    return item


def predict_loader(root: Path, workers: int, rank: int, world_size: int, mask: str | None = None) -> DataLoader[Any]:
    """Returns the loader of this rank's images, one at a time, with their masks if there are.

    Raises:
        FileNotFoundError: If the folder or file does not exist, or holds no image.
        UserError: If the mask is none.
    """
    images = FolderImages(root, mask)
    sampler = EvaluationSampler(len(images), rank, world_size)
    return DataLoader(images, batch_size=None, sampler=sampler, collate_fn=_as_it_is, num_workers=workers)


class ImageFolder(LightningDataModule):
    """The data of `img2img restore`: a folder of images, searched recursively, or one image.

    Args:
        root: The folder or the file.
        num_workers: Processes that read ahead.
        mask: Where the holes are: a folder of masks of the same names, or a mask for one image (white is hole);
            `alpha`, what is not opaque; or a colour such as `#ff00ff`. None for images without holes.

    Raises:
        UserError: If the mask is none of these.
    """

    def __init__(self, root: str, num_workers: int = 0, mask: str | None = None) -> None:
        super().__init__()
        self.root, self.num_workers, self.mask = Path(root), num_workers, mask
        if mask is not None:
            find_holes(mask, self.root)  # now, not when the model has been loaded

    def predict_dataloader(self) -> DataLoader[Any]:
        """Returns this rank's share of the images."""
        if self.trainer is None:
            raise RuntimeError("ImageFolder makes its loader for a Trainer; call trainer.predict(task, datamodule=…)")
        trainer = self.trainer
        return predict_loader(self.root, self.num_workers, trainer.global_rank, trainer.world_size, self.mask)
