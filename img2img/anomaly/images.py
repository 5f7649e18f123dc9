"""Images of a folder as a scorable model takes them: scaled to its size, or in their own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from img2img.anomaly.scorable import Scorable
from img2img.data.labelled_images import LabelledImages, prediction_loader, to_tensor
from img2img.imaging.files import UnreadableImage, read_finite, to_channels, to_float

UNREADABLE_SIZE = (32, 32)
"""Height and width of the black image that stands for one that cannot be read."""


def images_for(model: Scorable, source: Path, batch_size: int) -> LabelledImages:
    """Returns the images of a folder, or one image, for a model.

    Raises:
        UserError: If there are no images.
        FileNotFoundError: If the source does not exist.
    """
    if model.image_size is None:
        return ImagesInTheirSize(source, model.in_channels)
    return LabelledImages(source, model.image_size, model.in_channels, batch_size)


class ImagesInTheirSize(LabelledImages):
    """As `LabelledImages`, but each image keeps its size, and is a batch of its own.

    Args:
        source: Folder, searched recursively, or one image.
        channels: 3 or 1.
    """

    def __init__(self, source: Path, channels: int) -> None:
        super().__init__(source, UNREADABLE_SIZE, channels, batch_size=1)

    def predict_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Returns the loader of this process's share."""
        return prediction_loader(self, _Images(self.root, self.paths, self.channels), 1, self.num_workers)


class _Images(Dataset[dict[str, Any]]):
    def __init__(self, root: Path, paths: Sequence[Path], channels: int) -> None:
        self.root, self.paths, self.channels = root, paths, channels

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, item: tuple[int, bool]) -> dict[str, Any]:
        n, counted = item
        path = self.paths[n]
        folder = path.relative_to(self.root).parent.as_posix()
        image, problem = torch.zeros(self.channels, *UNREADABLE_SIZE), ""
        try:
            image = to_tensor(to_float(to_channels(read_finite(path).pixels, self.channels)))
        except UnreadableImage as error:
            problem = str(error)
        known = {"n": n, "counted": counted, "path": str(path), "label": "" if folder == "." else folder}
        return known | {"image": image, "size": torch.tensor(image.shape[1:]), "problem": problem}
