"""Clean images of a training's data, for prediction: to measure with a trained model what is normal."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from img2img.data.cache import DecodedCache
from img2img.data.labelled_images import prediction_loader, to_tensor
from img2img.imaging.values import to_float


class CleanImages(LightningDataModule):
    """Clean, readable images for prediction, opened by a cache and shared among the processes.

    A batch has `image` (N×C×H×W in [0, 1]), `n`, `path`, `counted` and `problem` (empty), as in `LabelledImages`.
    """

    def __init__(self, cache: DecodedCache, paths: Sequence[Path], batch_size: int = 32) -> None:
        super().__init__()
        self.cache, self.paths, self.batch_size = cache, paths, batch_size

    def predict_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Returns the loader of this process's share."""
        return prediction_loader(self, self.paths, partial(_opened, cache=self.cache), self.batch_size)


def _opened(path: Path, cache: DecodedCache) -> dict[str, Any]:
    return {"image": to_tensor(to_float(np.array(cache.open(path)))), "problem": ""}
