"""Images in shards by path: sequences of them, and the files that stand for them while they are read.

An image of shards has a path like any other, `shards/shard-000003.tar/beach.jpg`.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from img2img.data.names import ManyPaths
from img2img.data.shards import Shards, is_shards, open_shards
from img2img.imaging.files import UnreadableImage

_MEMBER = re.compile(r"(.+?)/shard-\d{6,}\.tar/(.+)")


class ShardPaths(ManyPaths):
    """Paths of images in shards."""

    def __init__(self, shards: Shards, chosen: Sequence[int] | NDArray[np.uint32]) -> None:
        super().__init__(shards.root, shards.names, chosen)
        self.shards = shards

    def path_of(self, number: int) -> Path:
        """Returns the path of image `number` of the index."""
        return self.shards.path_of(number)

    def number_of(self, path: Path) -> int | None:
        """Returns the number of an image in the index, or None if it is not there."""
        match = _MEMBER.fullmatch(path.as_posix())
        return None if match is None or Path(match[1]) != self.root else self.names.number_of(match[2])

    def read_on_use(self, channels: int, limit: int) -> bool:
        """Returns whether images are decoded when they are used: they are many, or exceed the cache."""
        return super().read_on_use(channels, limit) or self.shards.decoded_bytes(self.chosen, channels) > limit

    def in_shards(self) -> list[Shards]:
        """Returns the shards."""
        return [self.shards]

    def among(self, positions: NDArray[np.intp]) -> ShardPaths:
        """Returns the paths at these positions, in the order of their names."""
        return ShardPaths(self.shards, np.sort(np.asarray(self.chosen, np.uint32)[positions]))

    def __reduce__(self) -> Any:
        """Lets worker processes open the index themselves, instead of copying it."""
        return (_shard_paths, (self.root, self.chosen))


def _shard_paths(root: Path, chosen: Sequence[int] | NDArray[np.uint32]) -> ShardPaths:
    return ShardPaths(open_shards(root), chosen)


def part_of_shards(root: Path, part: str) -> ShardPaths:
    """Returns the images of shards, or those of one folder in them, such as `train`."""
    shards = open_shards(root)
    first = shards.names.first_from(f"{part}/") if part else 0
    last = shards.names.first_from(f"{part}0") if part else len(shards.names)  # 0 is the character after /
    return ShardPaths(shards, range(first, last))


def name_in_shards(path: Path) -> str:
    """Returns the name that an image in shards had in the folder."""
    match = _MEMBER.fullmatch(path.as_posix())
    assert match is not None
    return match[2]


def member_of(path: Path) -> tuple[Shards, int] | None:
    """Returns the shards that hold an image and its number in them, or None for a file of its own.

    Raises:
        UserError: If the index of the shards cannot be read.
    """
    match = _MEMBER.fullmatch(path.as_posix())
    if match is None or not is_shards(Path(match[1])):
        return None
    shards = open_shards(Path(match[1]))
    number = shards.names.number_of(match[2])
    return None if number is None else (shards, number)


@contextmanager
def local_file(path: Path, limit: int = 0) -> Iterator[Path]:
    """Gives a file with an image's bytes while the context lasts: the image itself, or a copy of one in shards.

    Args:
        path: The image.
        limit: Bytes of remote shards that are kept in the user's cache folder.

    Raises:
        UserError: If the shard is missing or out of reach.
        UnreadableImage: If the bytes are damaged, or what is done with the file raises it; it names the image.
    """
    member = member_of(path)
    if member is None:
        yield path
        return
    shards, number = member
    kept = shards.kept(number, limit)
    if kept is not None:
        try:
            shards.load(number, kept)
        except OSError:  # no place on disk
            kept = None
    with ExitStack() as stack:
        copy = kept
        if copy is None:
            copy = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="img2img-"))) / "image"
            copy.write_bytes(shards.read(number))
        try:
            yield copy
        except UnreadableImage as error:
            raise UnreadableImage(str(error).replace(str(copy), str(path))) from error


def size_in_shards(path: Path) -> tuple[int, int] | None:
    """Returns the height and width of an image in shards, or None for a file of its own."""
    member = member_of(path)
    if member is None:
        return None
    place = member[0].places[member[1]]
    return int(place["height"]), int(place["width"])


def identity_of(path: Path) -> tuple[str, int, int]:
    """Returns what names an image's file and changes when it does: its place, its size, and its time of change.

    For an image in shards these are the shards' digest with its number, its size and its CRC-32.

    Raises:
        OSError: If there is no such file.
    """
    member = member_of(path)
    if member is None:
        stat = path.stat()
        return os.path.abspath(path), stat.st_size, stat.st_mtime_ns
    shards, number = member
    return f"{shards.digest}/{number}", int(shards.places["length"][number]), int(shards.places["crc"][number])
