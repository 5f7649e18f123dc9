"""Images in shards: plain tar files, on disk or in object storage, with an index that says where each image is.

Our index says which image a sample needs, so that shards give the samples that the folder gave. Bytes of remote shards
come from fsspec, by range: an image costs one request, whatever the order. litdata reads in an order of its own; read
by number, it makes two requests for an image and keeps nothing on disk. obstore hangs in forked workers.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from img2img.data.names import ENDS, NAMES, Names, open_names, synced
from img2img.data.remote import address_of, is_remote, remote_file, remote_range
from img2img.errors import UserError
from img2img.imaging.files import UnreadableImage

INDEX, PLACES = "img2img_shards.json", "images.bin"
FORMAT = 1
_WORDS = ("shard", "crc", "height", "width", "depth", "reserved")
PLACE = np.dtype([("offset", "<u8"), ("length", "<u8"), *((word, "<u4") for word in _WORDS)])
"""Which shard holds an image and where, the CRC-32 of its bytes, its size in pixels, and the bytes of each value."""


def shard_name(number: int) -> str:
    """Returns the file name of a shard."""
    return f"shard-{number:06d}.tar"


class Shards:
    """The index of a folder of shards; see `open_shards`.

    Args:
        root: The folder of the shards; of a remote one, the path that stands for its address.
        index: The folder of the index files.
        digest: Digest of the index, which names the images and their bytes.
        cache: Folder in which bytes of remote shards are kept.
    """

    def __init__(self, root: Path, index: Path, digest: str, cache: Path) -> None:
        self.root, self.digest, self.cache = root, digest, cache / digest
        self.names: Names = open_names(index)
        self.places: NDArray[Any] = np.memmap(index / PLACES, PLACE, "r")
        if len(self.places) != len(self.names):
            raise ValueError("its parts do not belong together")

    def path_of(self, number: int) -> Path:
        """Returns the path of an image."""
        return self.root / shard_name(int(self.places["shard"][number])) / self.names[number]

    def read(self, number: int) -> bytes:
        """Returns the bytes of an image's file.

        Raises:
            UserError: If the shard is missing or out of reach.
            UnreadableImage: If the bytes are not those that were stored.
        """
        place = self.places[number]
        shard, begin, length = self.root / shard_name(int(place["shard"])), int(place["offset"]), int(place["length"])
        if is_remote(self.root):
            data = remote_range(shard, begin, length)
        else:
            try:
                with open(shard, "rb") as file:
                    file.seek(begin)
                    data = file.read(min(length, os.fstat(file.fileno()).st_size))
            except OSError as error:
                raise UserError(f"cannot read {shard}: {error.strerror or error}; restore this file") from error
        if not self._whole(number, data):
            raise UnreadableImage(f"cannot read {self.path_of(number)}: its bytes in the shard are damaged")
        return data

    def kept(self, number: int, limit: int) -> Path | None:
        """Returns where the bytes of a remote image are kept, or None if they are beyond the first `limit` bytes.

        Which images are kept follows from the index, so that many processes fill the cache without counting bytes.
        """
        if not is_remote(self.root) or int(self._ends[number]) > limit:
            return None
        return self.cache / str(self.places["shard"][number]) / str(number)

    def load(self, number: int, kept: Path) -> None:
        """Keeps the bytes of a remote image in a file of the cache, if they are not there undamaged.

        Raises:
            OSError: If the file cannot be written.
        """
        with suppress(FileNotFoundError):
            if self._whole(number, kept.read_bytes()):
                return
        data = self.read(number)
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_whole(kept, data)

    def decoded_bytes(self, numbers: Sequence[int] | NDArray[np.uint32], channels: int) -> int:
        """Returns how much memory images take with this number of channels."""
        places = self.places[np.asarray(numbers)]
        sizes = places["height"].astype(np.uint64) * places["width"] * places["depth"]
        return int(sizes.sum()) * channels

    @property
    def size(self) -> int:
        """Bytes of all images' files."""
        return int(self._ends[-1])

    @property
    def _ends(self) -> NDArray[np.uint64]:
        return _ends_of(self)

    def _whole(self, number: int, data: bytes) -> bool:
        place = self.places[number]
        return len(data) == int(place["length"]) and zlib.crc32(data) == int(place["crc"])


@lru_cache(maxsize=4)
def _ends_of(shards: Shards) -> NDArray[np.uint64]:
    return np.cumsum(shards.places["length"], dtype=np.uint64)


def write_whole(path: Path, data: bytes, sync: bool = False) -> None:
    """Writes a file that appears complete or not at all, whichever processes write it.

    Args:
        path: The file.
        data: What it holds.
        sync: Whether that is to outlast a power cut, too; for files whose content is not checked when they are read.

    Raises:
        OSError: If it cannot be written.
    """
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            if sync:
                synced(file)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def make_room(used: Sequence[Shards], limit: int) -> None:
    """Deletes the bytes of other remote shards, the least recently used first, until those of these fit in the cache.

    Args:
        used: The shards that are about to be read; each keeps at most its share of the limit.
        limit: Bytes.
    """
    remote = {shards.cache: shards for shards in used if is_remote(shards.root)}
    for cache, shards in remote.items():
        os.utime(cache)
        for unfinished in cache.glob("*/.*"):  # of processes that were killed
            unfinished.unlink(missing_ok=True)
        limit -= min(limit // len(remote), shards.size)
    others = {folder for cache in remote for folder in cache.parent.iterdir()} - set(remote)
    for folder in sorted(others, key=lambda path: path.stat().st_mtime, reverse=True):
        limit -= sum(file.stat().st_size for file in folder.glob("*/*"))
        if limit < 0:
            shutil.rmtree(folder, ignore_errors=True)


def is_shards(root: Path) -> bool:
    """Returns whether a root is a folder of shards; every remote root must be one."""
    return is_remote(root) or (root / INDEX).is_file()


def open_shards(root: Path) -> Shards:
    """Opens the index of shards, or returns the one that this process has opened; of remote ones, a copy on disk.

    Raises:
        UserError: If there is none, it is damaged, or it is out of reach.
    """
    if is_remote(root):
        return _opened(root, "", 0)
    try:
        return _opened(root, os.path.abspath(root), (root / INDEX).stat().st_mtime_ns)
    except FileNotFoundError as error:
        raise UserError(f"{root} holds no shards") from error


@lru_cache(maxsize=16)
def _opened(root: Path, place: str, changed: int) -> Shards:
    """Opens the index of shards; `place` and `changed` keep the cache from returning one that has changed."""
    from img2img.data.cache import cache_folder

    cache = cache_folder().parent / "shards"
    try:
        text = remote_file(root / INDEX) if is_remote(root) else (root / INDEX).read_bytes()
    except FileNotFoundError as error:
        shown = address_of(root)
        raise UserError(f"{shown} holds no shards; write them with: img2img shard PHOTOS {shown}") from error
    try:
        index = json.loads(text)
        if index["format"] != FORMAT:
            raise UserError(f"{address_of(root)} holds shards of another version of img2img; write them again")
        digest = hashlib.blake2b(text, digest_size=16).hexdigest()
        return Shards(root, _fetched(root, index, cache / digest / "index") if is_remote(root) else root, digest, cache)
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"the index of the shards in {address_of(root)} is damaged ({error}); write them again"
        ) from error


def _fetched(root: Path, index: dict[str, Any], folder: Path) -> Path:
    """Returns the folder that holds a copy of the index files, each of the size that the index says.

    Raises:
        UserError: If they cannot be kept.
        ValueError: If they are damaged.
    """
    for name in (NAMES, ENDS, PLACES):
        copy, size = folder / name, int(index["sizes"][name])
        if copy.is_file() and copy.stat().st_size == size:
            continue
        data = remote_file(root / name)
        if len(data) != size or zlib.crc32(data) != index["crcs"][name]:
            raise ValueError(f"{name} is not the one that was written")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_whole(copy, data, sync=True)
        except OSError as error:
            raise UserError(
                f"cannot keep the index of {address_of(root)} in {folder}: {error.strerror}; "
                "let IMG2IMG_CACHE name a folder with room"
            ) from error
    return folder
