"""The clean images of a split for prediction: an autoencoder is measured on them when training ends."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from img2img.data.cache import DecodedCache
from img2img.data.labelled_images import prediction_loader, to_tensor
from img2img.imaging.values import to_float


class CleanImages(LightningDataModule):
    """Readable images as they are stored in a cache, shared among the processes.

    A batch has `image` (N×C×H×W in [0, 1]), `n`, `path`, `counted` and `problem` (always empty), as one of
    `LabelledImages` has.

    Args:
        cache: Opens them.
        paths: The files.
        batch_size: Images that go through the network together.
    """

    def __init__(self, cache: DecodedCache, paths: Sequence[Path], batch_size: int = 32) -> None:
        super().__init__()
        self.cache, self.paths, self.batch_size = cache, paths, batch_size

    def predict_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Returns the loader of this process's share."""
        return prediction_loader(self, _Images(self.cache, self.paths), self.batch_size, None)


class _Images(Dataset[dict[str, Any]]):
    def __init__(self, cache: DecodedCache, paths: Sequence[Path]) -> None:
        self.cache, self.paths = cache, paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, item: tuple[int, bool]) -> dict[str, Any]:
        n, counted = item
        image = to_tensor(to_float(np.array(self.cache.open(self.paths[n]))))
        return {"n": n, "counted": counted, "path": str(self.paths[n]), "problem": "", "image": image}
