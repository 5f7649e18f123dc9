"""Finds the images for training, validation and test."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from img2img.data.grouping import GroupBy, groups_of
from img2img.data.listing import images_of
from img2img.data.names import ChainedPaths, ManyPaths, Names, total
from img2img.data.remote import remote_root
from img2img.data.shard_images import name_in_shards, part_of_shards
from img2img.data.shards import is_shards
from img2img.data.stream import image_of_sample, part_of_sample
from img2img.errors import UserError
from img2img.imaging.formats import READABLE_NAMES
from img2img.shipped import shipped_folder

Split = Literal["train", "val", "test"]
MIN_IMAGES_TO_SPLIT = 3
_TURNS = 1000  # samples in a round, in which each of several folders gets its fraction


@dataclass(frozen=True)
class Source:
    """A folder and the images in it that belong to one split."""

    root: Path  # names are relative to it
    paths: Sequence[Path]  # sorted by name

    def name(self, path: Path) -> str:
        """Returns the image's path relative to the root, with forward slashes: the same on every machine."""
        return path.relative_to(self.root).as_posix()

    def of_sample(self, seed: int, n: int) -> Path:
        """Returns the image that sample n is cut from: each image once per pass, in a new order for each pass."""
        return self.paths[image_of_sample(seed, len(self.paths), n)]

    def restricted(self, paths: Collection[Path]) -> Source:
        """Returns the source with only these images."""
        if isinstance(self.paths, ManyPaths):
            return replace(self, paths=tuple(sorted((path for path in paths if path in self.paths), key=self.name)))
        return replace(self, paths=tuple(path for path in self.paths if path in paths))


@dataclass(frozen=True)
class ShardSource(Source):
    """Images in shards; they have the names that they had in the folder."""

    part: str = ""  # the folder of a split, which names leave out

    def name(self, path: Path) -> str:
        """Returns the image's path relative to the folder that was written as shards, or to the part of it."""
        return name_in_shards(path).removeprefix(f"{self.part}/")


@dataclass(frozen=True)
class MixedSource(Source):
    """The images of several folders, between which training alternates; `root` is the first folder."""

    parts: tuple[Source, ...] = ()  # the images of each folder
    weights: tuple[float, ...] = ()  # how often each folder is drawn from, in any unit

    def name(self, path: Path) -> str:
        """Returns the image's path relative to the innermost folder that holds it."""
        inside = [part for part in self.parts if path.is_relative_to(part.root)]
        return max(inside, key=lambda part: len(part.root.parts)).name(path)

    def of_sample(self, seed: int, n: int) -> Path:
        """Returns the image that sample n is cut from; within a folder, each image comes once per pass."""
        part, number = part_of_sample(seed, self._shares, n)
        return self.parts[part].of_sample(seed, number)

    def restricted(self, paths: Collection[Path]) -> MixedSource:
        """Returns the source with only these images, without the folders that have none of them."""
        return mix([part.restricted(paths) for part in self.parts], self.weights)

    def weighted(self, weigh: Callable[[Path], float]) -> MixedSource:
        """Returns a source that draws from each folder in proportion to the total weight of its images."""
        return mix(self.parts, [total(weigh, part.paths) for part in self.parts])

    @cached_property
    def _shares(self) -> tuple[int, ...]:
        return tuple(max(1, round(weight / sum(self.weights) * _TURNS)) for weight in self.weights)


def mix(parts: Sequence[Source], weights: Sequence[float]) -> MixedSource:
    """Returns the images of several folders as one source; folders without images are left out."""
    kept = [(part, float(weight)) for part, weight in zip(parts, weights, strict=True) if part.paths]
    of_parts = [part.paths for part, _ in kept]
    large = any(isinstance(paths, ManyPaths) for paths in of_parts)
    paths = ChainedPaths(of_parts) if large else tuple(path for paths in of_parts for path in paths)
    return MixedSource(parts[0].root, paths, tuple(part for part, _ in kept), tuple(weight for _, weight in kept))


def resolve_root(root: str, option: str = "--data.root") -> Path:
    """Returns the folder that `root` names: a path, the shipped set `starter` or `starter_jpeg`, or remote shards.

    Raises:
        FileNotFoundError: If no such folder or set exists; the message names the option.
        UserError: If `root` is an address of a kind that is not read.
    """
    remote = remote_root(root)
    if remote is not None:
        return remote
    folder = Path(root).expanduser()
    if folder.is_dir():
        return folder
    shipped = shipped_folder(root) if root.startswith("starter") else None
    if shipped is not None and shipped.is_dir():
        return shipped
    raise FileNotFoundError(f"the image folder {root} does not exist; give {option} a folder of photographs")


def find_split(
    root: Path, split: Split, seed: int, share: float, advice: str = "", group_by: GroupBy | None = None
) -> Source:
    """Finds the images of one split.

    A root with a `train` folder keeps its own split (`test` falls back to `val`). Any other root is split by image. An
    image's split depends on the seed and its relative path, so that adding photographs moves few of the others.

    Args:
        root: The folder.
        split: The split to find; never empty.
        seed: Seed of the random split.
        share: Fraction of the images for val, and for test; at least one image each, but no image if it is 0.
        advice: What else the user can do if images are missing, for the messages.
        group_by: Which images show one part and stay on one side, see `img2img.data.grouping.groups_of`; None for each
            image by itself.

    Raises:
        FileNotFoundError: If there are no images, or too few to split.
        UserError: If `group_by` cannot be used, or leaves too few parts to split.
    """
    if has_part(root, "train"):
        if group_by is not None:
            raise UserError(f"{root} is divided already, into train/ and others: leave out --data.group_by")
        part = "val" if split == "test" and not has_part(root, "test") else split
        if not has_part(root, part):
            raise FileNotFoundError(f"{root} has a folder train/ but no {part}/; add one{advice}")
        return whole_folder(root, part)
    everything = whole_folder(root)
    if len(everything.paths) < MIN_IMAGES_TO_SPLIT:
        raise FileNotFoundError(
            f"{root} holds {len(everything.paths)} image(s): too few to split into train, val and test; "
            f"give at least {MIN_IMAGES_TO_SPLIT}{advice}"
        )
    if share == 0 and split != "train":
        raise FileNotFoundError(f"share: 0 keeps no images of {root} for {split}; give a larger share{advice}")
    held_out = max(1, round(share * len(everything.paths))) if share else 0
    if 2 * held_out >= len(everything.paths):
        raise FileNotFoundError(
            f"{root} holds {len(everything.paths)} images, and a share of {share} for val and for test leaves none for "
            f"training; give more images or a smaller share{advice}"
        )
    paths = everything.paths
    if group_by is None:
        order = _shuffled(everything, seed)
        parts = {"val": order[:held_out], "test": order[held_out : 2 * held_out], "train": order[2 * held_out :]}
    else:
        parts = _divided_by_part(everything, group_by, seed, held_out)
    chosen = np.sort(parts[split])  # the images are sorted by name
    kept = paths.among(chosen) if isinstance(paths, ManyPaths) else tuple(paths[int(number)] for number in chosen)
    return replace(everything, paths=kept)


def _divided_by_part(source: Source, group_by: GroupBy, seed: int, held_out: int) -> dict[str, NDArray[np.intp]]:
    """Returns the numbers of the images of each split, with all images of a part in one of them.

    Parts go to val, then to test, in a seeded order and as long as they fit into `held_out` images each; the smallest
    if none does.
    """
    members: dict[str, list[int]] = {}
    for i, part in enumerate(groups_of([source.name(path) for path in source.paths], group_by)):
        members.setdefault(part, []).append(i)
    if len(members) < MIN_IMAGES_TO_SPLIT:
        raise UserError(
            f"--data.group_by {group_by} finds {len(members)} part(s) in {source.root}: too few to split into train, "
            f"val and test, which takes {MIN_IMAGES_TO_SPLIT}"
        )
    left = sorted(members, key=lambda part: _place(seed, part))
    splits: dict[str, NDArray[np.intp]] = {}
    for split in ("val", "test"):
        chosen: list[int] = []
        kept = []
        for part in left:
            if len(chosen) + len(members[part]) <= held_out:
                chosen += members[part]
            else:
                kept.append(part)
        if held_out and not chosen:
            smallest = min(kept, key=lambda part: len(members[part]))
            chosen = members[smallest]
            kept.remove(smallest)
        left, splits[split] = kept, np.array(chosen, np.intp)
    return splits | {"train": np.array([i for part in left for i in members[part]], np.intp)}


def _shuffled(source: Source, seed: int) -> NDArray[np.intp]:
    """Returns the numbers of the images in an order that depends on the seed and on each one's own name."""
    if isinstance(source.paths, ManyPaths):
        return _shuffled_names(source.paths.names, seed)
    places = [_place(seed, source.name(path)) for path in source.paths]
    return np.array(sorted(range(len(places)), key=places.__getitem__), np.intp)


@lru_cache(maxsize=2)
def _shuffled_names(names: Names, seed: int) -> NDArray[np.intp]:
    places = (int.from_bytes(_place(seed, name)[:8]) for name in names)  # 8 of the 64 bytes tell millions apart
    return np.argsort(np.fromiter(places, np.uint64, len(names)), kind="stable")


def _place(seed: int, name: str) -> bytes:
    return hashlib.blake2b(f"{seed}:{name}".encode(errors="surrogatepass")).digest()


def spread(count: int, most: int) -> list[int]:
    """Returns the numbers of at most `most` of `count` items, evenly spread."""
    kept = min(most, count)
    return [i * count // kept for i in range(kept)]


def has_part(root: Path, part: str) -> bool:
    """Returns whether a root has a folder of this name: train, val or test."""
    return len(part_of_shards(root, part)) > 0 if is_shards(root) else (root / part).is_dir()


def whole_folder(root: Path, part: str = "") -> Source:
    """Returns all the images under a root, or under one folder of it.

    Raises:
        FileNotFoundError: If there are no images.
    """
    if is_shards(root):
        source: Source = ShardSource(root, part_of_shards(root, part), part)
    else:
        source = Source(root / part, images_of(root / part))
    if not source.paths:
        raise FileNotFoundError(f"no images ({READABLE_NAMES}) under {root / part}")
    return source
