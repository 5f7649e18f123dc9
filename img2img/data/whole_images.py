"""Data module for autoencoders: whole images at one size, optionally corrupted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from img2img.corruptions.base import Float
from img2img.data.corrupted_pairs import CorruptedPairs
from img2img.data.pairs import Transform
from img2img.data.scaling import Scaled
from img2img.data.splits import Split
from img2img.errors import UserError
from img2img.imaging.values import to_float


class WholeImages(CorruptedPairs):
    """Data module of whole images at one size; with a corruption, of (corrupted, clean) pairs.

    The images are scaled once, before they are stored in the cache.

    Args:
        image_size: Height and width to scale to, in pixels; the network's `image_size`.
        corruption: As in `CorruptedPairs`; None for no corruption: the input is the target.
        evaluation: As in `CorruptedPairs`; None for the `corruption` if there is one, otherwise the images as they are.
        geometry: As in `PairedData`; None for no transforms, because faces are upright.
        batch_size: Images in a batch, per process; also in validation and test.
        val_images: As in `PairedData`, but None by default.
        kwargs: Further arguments of `CorruptedPairs`: root, val_dir, test_dir, channels, share, num_workers, cache_gb,
            samples_per_epoch, seed.

    Raises:
        UserError: If an argument is out of range, or `defects` are given.
    """

    def __init__(
        self,
        image_size: Sequence[int] = (64, 64),
        corruption: list[Transform] | None = None,
        evaluation: dict[str, list[Transform]] | None = None,
        geometry: list[Transform] | None = None,
        batch_size: int = 32,
        val_images: int | None = None,
        **kwargs: Any,
    ) -> None:
        if len(image_size) != 2 or min(image_size) < 1:
            raise UserError(f"image_size must be [height, width] in pixels, such as [64, 64], not {list(image_size)}")
        if kwargs.get("defects") is not None:
            raise UserError(
                "WholeImages takes no defects: CorruptedPairs does, for a task that learns masks, as in anomaly.yaml"
            )
        corruption = corruption or []
        super().__init__(
            corruption=corruption,
            evaluation={("corrupted" if corruption else "whole"): corruption} if evaluation is None else evaluation,
            crop_size=max(image_size),
            val_crop_size=None,
            batch_size=batch_size,
            val_images=val_images,
            **kwargs,
        )
        self.image_size = (int(image_size[0]), int(image_size[1]))
        self.geometry = list(geometry or [])  # no crop
        self.evaluation_batch_size = batch_size
        self.cache = self.cache.finished_by(Scaled(self.image_size))

    def _samples_in_epoch(self) -> int:
        return len(self._sources["train"].paths)

    def targets(self, split: Split, batch_size: int = 256) -> Iterator[Float]:
        """Yields the clean images of a split, in batches N×C×H×W in [0, 1]; after `setup`.

        For closed-form fits: not augmented, and in the order of their names, the same in every process.
        """
        cache, paths = self._files(split, self._sources[split])[0]
        for first in range(0, len(paths), batch_size):
            images = [to_float(np.array(cache.open(path))) for path in paths[first : first + batch_size]]
            yield np.ascontiguousarray(np.stack(images).transpose(0, 3, 1, 2))
