"""Datasets of (input, target) pairs: numbered samples for training, whole images for validation and test."""

from __future__ import annotations

import copy
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, TypedDict

import cv2
import numpy as np
import torch
from albumentations import BaseCompose, BasicTransform, Compose, RandomCrop
from numpy.typing import NDArray
from torch.utils.data import Dataset

from img2img.corruptions.base import Float
from img2img.data.cache import DecodedCache
from img2img.data.names import ManyPaths
from img2img.data.splits import Source
from img2img.data.stream import Draws, draws_of_image, draws_of_sample
from img2img.errors import UserError
from img2img.imaging.files import UnreadableImage, to_float

# A step of a corruption: any albumentations transform or composition (OneOf, SomeOf, Sequential …).
Transform: TypeAlias = BasicTransform | BaseCompose
Steps: TypeAlias = Sequence[Transform]
_UNREADABLE = 100  # images in a row that end training


class Sample(TypedDict, total=False):
    """One pair as the datasets return it: H×W×C float32 tensors, before collation."""

    input: torch.Tensor
    target: torch.Tensor
    mask: torch.Tensor  # H×W×1, 1 = hole: here the input says nothing about the target; between 0 and 1: in part
    real: bool  # the mask marks real defects; what they hide is not known. Only where there are any
    path: str
    n: int
    corruption: str
    counted: bool


class Pair(NamedTuple):
    """The pixels of a sample: H×W×C float32 input and target, H×W×1 float32 mask in [0, 1] (1 = hole); and `real`."""

    input: Float
    target: Float
    mask: Float
    real: bool | None = None  # as in `Sample`


def compose(transforms: Steps, additional_targets: dict[str, str] | None = None) -> Compose:
    """Chains transforms; `apply` provides the generators, so the composition's own unseeded ones are never used."""
    return Compose(list(transforms), additional_targets=additional_targets)


def apply(pipeline: Compose, image: NDArray[Any], draws: Draws) -> NDArray[Any]:
    """Applies a pipeline with given generators."""
    return apply_to_all(pipeline, {"image": image}, draws)["image"]


def apply_to_all(pipeline: Compose, targets: dict[str, NDArray[Any]], draws: Draws) -> dict[str, NDArray[Any]]:
    """Applies a pipeline with given generators to an image and its companions; returns all as H×W×C.

    Uses `set_random_state`, because `set_random_seed` seeds every transform alike: two kinds of noise in one pipeline
    would then be identical.
    """
    pipeline.set_random_state(*draws)
    # Some albumentations transforms drop the channel of gray images.
    return {name: done if done.ndim == 3 else done[..., None] for name, done in pipeline(**targets).items()}


def parts_of(transform: Transform) -> list[Transform]:
    """Returns a transform, or the members of a composition (OneOf, SomeOf …), any of which may be applied."""
    if isinstance(transform, BaseCompose):
        return [part for member in transform.transforms for part in parts_of(member)]
    return [transform]


def needs_other(transforms: Steps) -> bool:
    """Returns whether a transform declares `needs_other`: it takes `data["other"]`, a crop of another image."""
    return any(getattr(part, "needs_other", False) for transform in transforms for part in parts_of(transform))


def corrupt(pipeline: Compose, target: Float, draws: Draws, other: Float | None = None) -> tuple[Float, Float]:
    """Returns the corrupted copy of a target, H×W×C float32, not clipped; and the mask of its holes, H×W×1 float32.

    Holes are the pixels that a transform marks in the `mask`, as `CoarseDropout(fill=0, fill_mask=1)` does; values
    between 0 and 1 say how far a pixel is replaced. `other` is another image of the target's size, for transforms that
    take from it (see `needs_other`).

    Raises:
        UserError: If the corruption changed the size: input and target must match pixel by pixel.
    """
    (height, width), whole = target.shape[:2], np.zeros(target.shape[:2], np.float32)
    beside = {} if other is None else {"other": other}
    result = apply_to_all(pipeline, {"image": target.copy(), "mask": whole, **beside}, draws)
    damaged = result["image"]
    if damaged.shape[:2] != (height, width):
        raise UserError(
            f"the corruption turned a {width}×{height} image into {damaged.shape[1]}×{damaged.shape[0]}; "
            "transforms that change the size belong in data.geometry"
        )
    return np.ascontiguousarray(damaged, dtype=np.float32), np.clip(result["mask"], 0, 1, dtype=np.float32)


def collate(samples: Sequence[Sample]) -> dict[str, Any]:
    """Stacks samples into a batch of N×C×H×W tensors, channels last in memory, which suits convolutions."""
    batch: dict[str, Any] = {key: [sample[key] for sample in samples] for key in samples[0]}  # type: ignore[literal-required]
    for key in [key for key in ("input", "target", "mask") if key in batch]:
        if len(shapes := {tuple(image.shape) for image in batch[key]}) > 1:
            raise UserError(
                f"the {key}s of a batch differ in shape: {', '.join(map(str, sorted(shapes)))} (height, width, "
                "channels); a transform that changes the shape, such as ToGray, needs p: 1.0"
            )
        batch[key] = torch.stack(batch[key]).permute(0, 3, 1, 2)
    return batch | {key: torch.tensor(batch[key]) for key in ("n", "counted", "real") if key in batch}


def _spare_cores() -> None:
    """Limits OpenCV to one thread: more would compete with the network for the cores and gain nothing on crops.

    Called before workers are forked, because a worker hangs if it changes a thread pool that already exists; and in
    spawned workers, which start without the setting.
    """
    if cv2.getNumThreads() > 1:
        cv2.setNumThreads(1)


class StreamPairs(Dataset[Sample], ABC):
    """Training dataset whose item n is sample n of the stream of this seed; subclasses cut it from its image."""

    def __init__(self, source: Source, seed: int) -> None:
        self.source, self.seed = source, seed
        _spare_cores()

    @abstractmethod
    def pair(self, path: Path, draws: Draws) -> Pair:
        """Returns a crop of an image, drawn with the sample's own generators."""

    def __getitem__(self, n: int) -> Sample:
        _spare_cores()
        path, pair = self._readable(n) if isinstance(self.source.paths, ManyPaths) else self._pair_of(n, n)
        return {**_tensors(pair), "path": str(path), "n": n}

    def _pair_of(self, image: int, n: int) -> tuple[Path, Pair]:
        """Returns the pair that the draws of sample n make of the image of a sample."""
        path = self.source.of_sample(self.seed, image)
        return path, self.pair(path, draws_of_sample(self.seed, n))

    def _readable(self, n: int) -> tuple[Path, Pair]:
        """Returns sample n of images that were not checked before; if its image is unreadable, of the next sample's."""
        for image in range(n, n + _UNREADABLE):
            try:
                return self._pair_of(image, n)
            except UnreadableImage as error:
                warnings.warn(f"skipped an unreadable file: {error}", stacklevel=2)
        raise UnreadableImage(f"{_UNREADABLE} images in a row cannot be read; check {self.source.root}")


class WholePairs(Dataset[Sample], ABC):
    """Evaluation dataset of whole images, each once with every named corruption; its indices are (number, counted).

    Args:
        source: The images.
        names: The corruptions.
        crop_size: Side of the centre crop, in pixels; None for the whole image.
    """

    def __init__(self, source: Source, names: Sequence[str], crop_size: int | None = None) -> None:
        self.source, self.names, self.crop_size = source, tuple(names), crop_size
        _spare_cores()

    @abstractmethod
    def pair(self, path: Path, name: str) -> Pair:
        """Returns the pair for an image and a corruption's name, the same at every call."""

    def __len__(self) -> int:
        return len(self.source.paths) * len(self.names)

    def __getitem__(self, item: tuple[int, bool]) -> Sample:
        _spare_cores()
        number, counted = item
        image, corruption = divmod(number, len(self.names))
        path, name = self.source.paths[image], self.names[corruption]
        about: Sample = {"path": str(path), "n": number, "corruption": name, "counted": counted}
        return {**_tensors(self.pair(path, name)), **about}

    def centre(self, image: NDArray[Any]) -> Float:
        """Returns a float32 copy of the centre crop, or of the whole image."""
        if self.crop_size is not None:
            top, left = (max(0, (side - self.crop_size) // 2) for side in image.shape[:2])
            image = image[top : top + self.crop_size, left : left + self.crop_size]
        return to_float(np.array(image))


class TrainingPairs(StreamPairs):
    """Training stream of clean crops and their corrupted copies.

    Args:
        source: The images.
        cache: Opens the images.
        geometry: Transforms that input and target share: crop, flips, rotations.
        corruption: Transforms that make the input from a copy of the target.
        seed: Seed of the stream.
    """

    def __init__(self, source: Source, cache: DecodedCache, geometry: Steps, corruption: Steps, seed: int) -> None:
        super().__init__(source, seed)
        self.cache, self.geometry, self.corruption = cache, compose(geometry), compose(corruption)
        self._needs_other = needs_other(corruption)

    def pair(self, path: Path, draws: Draws) -> Pair:
        """Returns a crop with its corrupted copy."""
        target = self._crop(path, draws)
        other = self._other(path, draws) if self._needs_other else None
        damaged, mask = corrupt(self.corruption, target, draws, other)
        return Pair(damaged, target, mask)

    def _crop(self, path: Path, draws: Draws) -> Float:
        return to_float(np.array(apply(self.geometry, self.cache.open(path), draws)))

    def _other(self, path: Path, draws: Draws) -> Float:
        """Returns a crop of another training image; of the same one only if it is the only one."""
        first = int(draws[0].integers(len(self.source.paths)))
        for n in range(first, first + _UNREADABLE):
            other = self.source.of_sample(self.seed, n)
            if other != path or len(self.source.paths) == 1:
                with suppress(UnreadableImage):  # warned of when its own turn comes
                    return self._crop(other, draws)
        raise UnreadableImage(f"{_UNREADABLE} images in a row cannot be read; check {self.source.root}")


class EvaluationPairs(WholePairs):
    """Evaluation dataset of whole clean images and their corrupted copies.

    Args:
        source: The images.
        cache: Opens the images.
        corruptions: Pipelines by name; the draws depend only on seed and image, so all share one pattern.
        seed: Seed of the draws.
        crop_size: Side of the centre crop; None for the whole image.
    """

    def __init__(
        self,
        source: Source,
        cache: DecodedCache,
        corruptions: Mapping[str, Steps],
        seed: int,
        crop_size: int | None = None,
    ) -> None:
        super().__init__(source, tuple(corruptions), crop_size)
        self.cache, self.seed = cache, seed
        # Copies: a thread may be drawing the next training batch with the same transforms, see `AheadLoader`.
        self.corruptions = {name: compose(copy.deepcopy(transforms)) for name, transforms in corruptions.items()}
        self._needs_other = {name: needs_other(transforms) for name, transforms in corruptions.items()}

    def pair(self, path: Path, name: str) -> Pair:
        """Returns an image with its corrupted copy."""
        target, draws = self.centre(self.cache.open(path)), draws_of_image(self.seed, self.source.name(path))
        other = self._other(path, target.shape[:2], draws) if self._needs_other[name] else None
        damaged, mask = corrupt(self.corruptions[name], target, draws, other)
        return Pair(damaged, target, mask)

    def _other(self, path: Path, size: tuple[int, ...], draws: Draws) -> Float:
        """Returns a crop, as large as the image, of another one of the split; smaller ones are padded by reflection."""
        first = int(draws[0].integers(len(self.source.paths)))
        other = self.source.paths[first]
        if other == path:
            other = self.source.paths[(first + 1) % len(self.source.paths)]
        crop = compose([random_crop(*size)])
        return to_float(np.array(apply(crop, self.cache.open(other), draws)))


def random_crop(height: int, width: int) -> Transform:
    """Returns a transform that cuts a piece of this size; smaller images are padded by reflection."""
    return RandomCrop(height, width, pad_if_needed=True, border_mode=cv2.BORDER_REFLECT_101, p=1.0)


def _tensors(pair: Pair) -> Sample:
    seen, target, mask = map(torch.from_numpy, pair[:3])
    tensors: Sample = {"input": seen, "target": target, "mask": mask}
    return tensors if pair.real is None else {**tensors, "real": pair.real}
