"""Datasets of (input, target) pairs: numbered samples for training, whole images for validation and test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, TypedDict

import albumentations
import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, get_worker_info

from img2img.data.cache import DecodedCache
from img2img.data.folders import Source
from img2img.data.stream import Draws, draws_of_image, draws_of_sample, image_of_sample
from img2img.errors import UserError
from img2img.imaging.files import to_float

Transform: TypeAlias = albumentations.BasicTransform | albumentations.BaseCompose
"""What may stand in a corruption: any albumentations transform or composition (OneOf, SomeOf, Sequential …)."""


class Sample(TypedDict, total=False):
    """One pair as the datasets give it: H×W×C float32 tensors, before collation."""

    input: torch.Tensor
    target: torch.Tensor
    path: str
    n: int
    corruption: str
    counted: bool


def compose(transforms: Sequence[Transform]) -> albumentations.Compose:
    """Chains transforms; draws come from `apply`, never from the composition's own unseeded state."""
    return albumentations.Compose(list(transforms))


def apply(pipeline: albumentations.Compose, image: NDArray[Any], draws: Draws) -> NDArray[Any]:
    """Applies a pipeline with given generators.

    `set_random_state` rather than `set_random_seed`: the latter seeds every transform alike, so that two kinds of
    noise in one pipeline would be the same numbers.
    """
    pipeline.set_random_state(*draws)
    result: NDArray[Any] = pipeline(image=image)["image"]
    return result


def corrupt(pipeline: albumentations.Compose, target: NDArray[np.float32], draws: Draws) -> NDArray[np.float32]:
    """Returns the corrupted copy of a target, H×W×C float32, possibly outside [0, 1].

    Raises:
        UserError: If the corruption changed the size: input and target must match pixel by pixel.
    """
    damaged = apply(pipeline, target.copy(), draws)
    if damaged.ndim == 2:  # some albumentations transforms drop the channel of gray images
        damaged = damaged[..., None]
    if damaged.shape[:2] != target.shape[:2]:
        raise UserError(
            f"the corruption turned a {target.shape[1]}×{target.shape[0]} image into "
            f"{damaged.shape[1]}×{damaged.shape[0]}; transforms that change the size belong into data.geometry"
        )
    return np.ascontiguousarray(damaged, dtype=np.float32)


def collate(samples: Sequence[Sample]) -> dict[str, Any]:
    """Stacks samples to a batch: N×C×H×W tensors that lie in memory channels last, as convolutions like them."""
    batch: dict[str, Any] = {key: [sample[key] for sample in samples] for key in samples[0]}  # type: ignore[literal-required]
    for key in ("input", "target"):
        if key in batch:
            batch[key] = torch.stack(batch[key]).permute(0, 3, 1, 2)
    for key in ("n", "counted"):
        if key in batch:
            batch[key] = torch.tensor(batch[key])
    return batch


def _spare_cores() -> None:
    """Keeps OpenCV's threads of a worker process from fighting with the network for the cores."""
    if get_worker_info() is not None and cv2.getNumThreads() > 1:
        cv2.setNumThreads(1)


class TrainingPairs(Dataset[Sample]):
    """Item n is sample n of the stream.

    Args:
        source: The images.
        cache: Opens them.
        geometry: What input and target share: crop, flips, rotations.
        corruption: What makes the input of a copy of the target.
        seed: Seed of the stream.
    """

    def __init__(
        self,
        source: Source,
        cache: DecodedCache,
        geometry: Sequence[Transform],
        corruption: Sequence[Transform],
        seed: int,
    ) -> None:
        self.source, self.cache, self.seed = source, cache, seed
        self.geometry, self.corruption = compose(geometry), compose(corruption)

    def __getitem__(self, n: int) -> Sample:
        _spare_cores()
        path = self.source.paths[image_of_sample(self.seed, len(self.source.paths), n)]
        draws = draws_of_sample(self.seed, n)
        target = to_float(np.array(apply(self.geometry, self.cache.open(path), draws)))
        damaged = corrupt(self.corruption, target, draws)
        return {
            "input": torch.from_numpy(damaged),
            "target": torch.from_numpy(target),
            "path": str(path),
            "n": n,
        }


class EvaluationPairs(Dataset[Sample]):
    """Whole images, each once with every named corruption; items are asked for as (number, counted).

    Args:
        source: The images.
        cache: Opens them.
        corruptions: Pipelines by name; the draws depend on seed and image alone, so that all share one pattern.
        seed: Seed of the draws.
        crop_size: Side of the centre crop to look at; None for the whole image.
    """

    def __init__(
        self,
        source: Source,
        cache: DecodedCache,
        corruptions: Mapping[str, Sequence[Transform]],
        seed: int,
        crop_size: int | None = None,
    ) -> None:
        self.source, self.cache, self.seed, self.crop_size = source, cache, seed, crop_size
        self.corruptions = [(name, compose(transforms)) for name, transforms in corruptions.items()]

    def __len__(self) -> int:
        return len(self.source.paths) * len(self.corruptions)

    def __getitem__(self, item: tuple[int, bool]) -> Sample:
        _spare_cores()
        number, counted = item
        image, corruption = divmod(number, len(self.corruptions))
        path: Path = self.source.paths[image]
        name, pipeline = self.corruptions[corruption]
        target = to_float(np.array(self._centre(self.cache.open(path))))
        damaged = corrupt(pipeline, target, draws_of_image(self.seed, self.source.name(path)))
        return {
            "input": torch.from_numpy(damaged),
            "target": torch.from_numpy(target),
            "path": str(path),
            "n": number,
            "corruption": name,
            "counted": counted,
        }

    def _centre(self, image: NDArray[Any]) -> NDArray[Any]:
        if self.crop_size is None:
            return image
        top, left = (max(0, (side - self.crop_size) // 2) for side in image.shape[:2])
        return image[top : top + self.crop_size, left : left + self.crop_size]
