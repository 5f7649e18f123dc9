"""Names of millions of images in files that processes share, and the paths that are made of them on use.

A list of `Path` objects takes about half a kilobyte for each image, and each worker process ends up with a copy. Here
they are text in one memory-mapped file: a name costs its letters and eight bytes, once for all processes.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

LARGE = 100_000
"""Images up to which each is a `Path` in memory, and is decoded once before training."""
NAMES, ENDS = "names.bin", "ends.bin"
_BLOCK = 100_000  # names that are decoded together
_MEASURED = 1000  # images that stand for all of a large folder
Item = TypeVar("Item")


class OnUse(Sequence[Item]):
    """A sequence that makes its items when they are used."""

    def item(self, number: int) -> Item:
        """Returns an item, given a number from 0 to the length."""
        raise NotImplementedError

    @overload
    def __getitem__(self, number: int) -> Item: ...
    @overload
    def __getitem__(self, number: slice) -> list[Item]: ...
    def __getitem__(self, number: int | slice) -> Item | list[Item]:
        """Returns an item, or those of a slice."""
        places = range(len(self))[number]
        return self.item(places) if isinstance(places, int) else [self.item(place) for place in places]


class Names(OnUse[str]):
    """Sorted names, each a POSIX path; see `open_names`.

    Args:
        text: The names as UTF-8, one after the other; surrogates, which stand for other bytes, are kept.
        ends: Where each ends in the text.
    """

    def __init__(self, text: NDArray[np.uint8], ends: NDArray[np.uint64]) -> None:
        self.text, self.ends = text, ends
        self.folder: Path | None = None

    def __len__(self) -> int:
        return len(self.ends)

    def item(self, number: int) -> str:
        """Returns a name."""
        begin = int(self.ends[number - 1]) if number else 0
        return _decoded(self.text[begin : int(self.ends[number])].tobytes())

    def __iter__(self) -> Iterator[str]:
        for first in range(0, len(self), _BLOCK):
            begin = int(self.ends[first - 1]) if first else 0
            ends = (self.ends[first : first + _BLOCK] - np.uint64(begin)).tolist()
            block = self.text[begin : begin + ends[-1]].tobytes()
            yield from (_decoded(block[one:other]) for one, other in pairwise([0, *ends]))

    def first_from(self, name: str) -> int:
        """Returns how many names are smaller."""
        return bisect_left(self, name)

    def number_of(self, name: str) -> int | None:
        """Returns the number of a name, or None if it is not among them."""
        number = self.first_from(name)
        return number if number < len(self) and self[number] == name else None

    def __reduce__(self) -> Any:
        """Lets worker processes map the files themselves, instead of copying the names."""
        return (Names, (self.text, self.ends)) if self.folder is None else (open_names, (self.folder,))


def open_names(folder: Path) -> Names:
    """Opens the names that `write_names` wrote to two files of a folder.

    Raises:
        OSError: If the files cannot be read.
        ValueError: If they are damaged.
    """
    ends = np.memmap(folder / ENDS, np.dtype("<u8"), "r")
    text = np.memmap(folder / NAMES, np.uint8, "r")
    if int(ends[-1]) != len(text) or (ends[1:] <= ends[:-1]).any():
        raise ValueError(f"{folder}: the names of the images are damaged")
    names = Names(text, ends)
    names.folder = folder
    return names


def write_names(names: Iterable[str], text: BinaryIO, ends: BinaryIO) -> int:
    """Writes sorted names, without holding them in memory; returns how many there are."""
    count = end = 0
    for count, name in enumerate(names, 1):  # noqa: B007 - counts
        end += text.write(name.encode("utf-8", "surrogatepass"))
        ends.write(end.to_bytes(8, "little"))
    return count


class ManyPaths(OnUse[Path]):
    """Paths that are made on use, of more images than are checked before training.

    Args:
        root: The folder that the names are relative to.
        names: The names of its images.
        chosen: Numbers of the images that belong to this sequence, ascending; None for all.
    """

    def __init__(self, root: Path, names: Names, chosen: Sequence[int] | NDArray[np.uint32] | None = None) -> None:
        self.root, self.names = root, names
        self.chosen = range(len(names)) if chosen is None else chosen

    def __len__(self) -> int:
        return len(self.chosen)

    def item(self, number: int) -> Path:
        """Returns a path."""
        return self.path_of(int(self.chosen[number]))

    def __contains__(self, path: object) -> bool:
        number = self.number_of(path) if isinstance(path, Path) else None
        place = 0 if number is None else int(np.searchsorted(self.chosen, number))
        return number is not None and place < len(self) and int(self.chosen[place]) == number

    def path_of(self, number: int) -> Path:
        """Returns the path of image `number` of the table."""
        return self.root / self.names[number]

    def number_of(self, path: Path) -> int | None:
        """Returns the number of an image in the table, or None if it is not there."""
        return self.names.number_of(path.relative_to(self.root).as_posix()) if path.is_relative_to(self.root) else None

    def among(self, positions: NDArray[np.intp]) -> ManyPaths:
        """Returns the paths at these positions, in the order of their names."""
        chosen = np.sort(np.asarray(self.chosen, np.uint32)[positions])
        return type(self)(self.root, self.names, chosen)

    def read_on_use(self, channels: int, limit: int) -> bool:
        """Returns whether images are decoded and checked when they are used, not before training.

        Args:
            channels: Channels that they are decoded to.
            limit: Bytes of decoded images that the cache holds.
        """
        return len(self) > LARGE

    def in_shards(self) -> list[Any]:
        """Returns the shards that hold the images."""
        return []

    def total(self, weigh: Callable[[Path], float]) -> float:
        """Returns the sum of what images weigh; of more than `LARGE`, estimated from a thousand, evenly spread."""
        count = len(self)
        spread = [k * count // _MEASURED for k in range(_MEASURED)] if count > max(LARGE, _MEASURED) else range(count)
        return sum(weigh(self[number]) for number in spread) * count / len(spread)


class ChainedPaths(ManyPaths):
    """The paths of several folders, one folder after the other."""

    def __init__(self, parts: Sequence[Sequence[Path]]) -> None:
        self.parts, self.ends = parts, np.cumsum([len(part) for part in parts])

    def __len__(self) -> int:
        return int(self.ends[-1])

    def item(self, number: int) -> Path:
        """Returns a path."""
        part = int(np.searchsorted(self.ends, number, side="right"))
        return self.parts[part][number - (int(self.ends[part - 1]) if part else 0)]

    def __contains__(self, path: object) -> bool:
        return any(path in part for part in self.parts)

    def read_on_use(self, channels: int, limit: int) -> bool:
        """Returns whether those of any folder are decoded and checked when they are used."""
        return any(isinstance(part, ManyPaths) and part.read_on_use(channels, limit) for part in self.parts)

    def in_shards(self) -> list[Any]:
        """Returns the shards that hold images."""
        return [held for part in self.parts if isinstance(part, ManyPaths) for held in part.in_shards()]

    def total(self, weigh: Callable[[Path], float]) -> float:
        """Returns the sum of what images weigh."""
        return sum(total(weigh, part) for part in self.parts)


def total(weigh: Callable[[Path], float], paths: Sequence[Path]) -> float:
    """Returns the sum of what images weigh; of more than `LARGE`, an estimate."""
    return paths.total(weigh) if isinstance(paths, ManyPaths) else sum(map(weigh, paths))


def synced(file: BinaryIO) -> None:
    """Waits until a file is on disk, so that a rename after it never makes an incomplete file appear complete."""
    file.flush()
    os.fsync(file.fileno())


def _decoded(text: bytes) -> str:
    return text.decode("utf-8", "surrogatepass")
