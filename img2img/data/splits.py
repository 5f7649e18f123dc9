"""Finds the images for training, validation and test."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from img2img.data.stream import image_of_sample, part_of_sample
from img2img.imaging.files import find_images
from img2img.imaging.formats import READABLE_NAMES
from img2img.shipped import shipped_folder

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
MIN_IMAGES_TO_SPLIT = 3
_TURNS = 1000  # samples in a round, in which each of several folders gets its fraction


@dataclass(frozen=True)
class Source:
    """A folder and the images in it that belong to one split.

    Attributes:
        root: The folder that names are relative to.
        paths: The images, sorted by their path relative to the root.
    """

    root: Path
    paths: tuple[Path, ...]

    def name(self, path: Path) -> str:
        """Returns the image's path relative to the root, with forward slashes: the same on every machine."""
        return path.relative_to(self.root).as_posix()

    def of_sample(self, seed: int, n: int) -> Path:
        """Returns the image that sample n is cut from: each image once per pass, in a new order for each pass."""
        return self.paths[image_of_sample(seed, len(self.paths), n)]

    def restricted(self, paths: Collection[Path]) -> Source:
        """Returns the source with only these images."""
        return replace(self, paths=tuple(path for path in self.paths if path in paths))


@dataclass(frozen=True)
class MixedSource(Source):
    """The images of several folders, between which training alternates.

    Attributes:
        parts: The images of each folder; `root` is the first folder.
        weights: How often each is drawn from, in any unit.
    """

    parts: tuple[Source, ...] = ()
    weights: tuple[float, ...] = ()

    def name(self, path: Path) -> str:
        """Returns the image's path relative to the innermost folder that holds it."""
        inside = [part.root for part in self.parts if path.is_relative_to(part.root)]
        return path.relative_to(max(inside, key=lambda root: len(root.parts))).as_posix()

    def of_sample(self, seed: int, n: int) -> Path:
        """Returns the image that sample n is cut from; within a folder, each image comes once per pass."""
        part, number = part_of_sample(seed, self._shares, n)
        return self.parts[part].of_sample(seed, number)

    def restricted(self, paths: Collection[Path]) -> MixedSource:
        """Returns the source with only these images, without the folders that have none of them."""
        kept = [(part.restricted(paths), weight) for part, weight in zip(self.parts, self.weights, strict=True)]
        return mix([part for part, _ in kept], [weight for _, weight in kept])

    def weighted(self, weigh: Callable[[Path], float]) -> MixedSource:
        """Returns a source that draws from each folder in proportion to the total weight of its images."""
        return mix(self.parts, [sum(map(weigh, part.paths)) for part in self.parts])

    @cached_property
    def _shares(self) -> tuple[int, ...]:
        of_all = np.array(self.weights) / sum(self.weights)
        return tuple(int(share) for share in np.maximum(1, np.round(of_all * _TURNS)))


def mix(parts: Sequence[Source], weights: Sequence[float]) -> MixedSource:
    """Returns the images of several folders as one source; folders without images are left out."""
    kept = [(part, weight) for part, weight in zip(parts, weights, strict=True) if part.paths]
    paths = tuple(path for part, _ in kept for path in part.paths)
    root = parts[0].root
    return MixedSource(root, paths, tuple(part for part, _ in kept), tuple(float(weight) for _, weight in kept))


def resolve_root(root: str, option: str = "--data.root") -> Path:
    """Returns the folder that `root` names: the user's folder, or the shipped set of that name.

    Args:
        root: A path, or `starter` or `starter_jpeg`.
        option: The option that gave it, for the message.

    Raises:
        FileNotFoundError: If no such folder or set exists.
    """
    folder = Path(root).expanduser()
    if folder.is_dir():
        return folder
    shipped = shipped_folder(root) if root.startswith("starter") else None
    if shipped is not None and shipped.is_dir():
        return shipped
    raise FileNotFoundError(f"the image folder {root} does not exist; give {option} a folder of photographs")


def find_split(root: Path, split: Split, seed: int, share: float, advice: str = "") -> Source:
    """Finds the images of one split.

    A root with a `train` folder keeps its own split (`test` falls back to `val`). Any other root is split by image: a
    fraction `share` of the images goes to val and as many to test. An image's place depends on the seed and its
    relative path, so that adding photographs moves few of the others.

    Args:
        root: The folder.
        split: The split to find.
        seed: Seed of the random split.
        share: Fraction of the images for val, and for test; at least one image each, but no image if it is 0.
        advice: What else the user can do if images are missing, for the messages.

    Returns:
        The images of the split, never empty.

    Raises:
        FileNotFoundError: If there are no images, or too few to split.
    """
    if (root / "train").is_dir():
        folder = root / split
        if split == "test" and not folder.is_dir():
            folder = root / "val"
        if not folder.is_dir():
            raise FileNotFoundError(f"{root} has a folder train/ but no {folder.name}/; add one{advice}")
        return whole_folder(folder)
    everything = whole_folder(root)
    if len(everything.paths) < MIN_IMAGES_TO_SPLIT:
        raise FileNotFoundError(
            f"{root} holds {len(everything.paths)} image(s): too few to split into train, val and test; "
            f"give at least {MIN_IMAGES_TO_SPLIT}{advice}"
        )
    if share == 0 and split != "train":
        raise FileNotFoundError(f"share: 0 keeps no images of {root} for {split}; give a larger share{advice}")
    held_out = max(1, round(share * len(everything.paths))) if share else 0

    def place(path: Path) -> bytes:
        return hashlib.blake2b(f"{seed}:{everything.name(path)}".encode()).digest()

    order = sorted(everything.paths, key=place)
    if 2 * held_out >= len(everything.paths):
        raise FileNotFoundError(
            f"{root} holds {len(everything.paths)} images, and a share of {share} for val and for test leaves none for "
            f"training; give more images or a smaller share{advice}"
        )
    parts = {"val": order[:held_out], "test": order[held_out : 2 * held_out], "train": order[2 * held_out :]}
    return Source(root, tuple(sorted(parts[split], key=everything.name)))


def whole_folder(folder: Path) -> Source:
    """Returns all the images under a folder.

    Raises:
        FileNotFoundError: If there are no images.
    """
    paths = tuple(find_images(folder))
    if not paths:
        raise FileNotFoundError(f"no images ({READABLE_NAMES}) under {folder}")
    return Source(folder, paths)
