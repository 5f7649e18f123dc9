"""Cache of decoded images, which all workers and ranks read through shared memory maps.

Each image is decoded once. A crop of a 12-megapixel photograph then costs only the pages it touches.
"""

from __future__ import annotations

import copy
import hashlib
import os
import threading
import time
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache
from itertools import repeat
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import platformdirs
from numpy.typing import NDArray
from tqdm import tqdm

from img2img.data.shard_images import identity_of, local_file, size_in_shards
from img2img.imaging.files import UnreadableImage, read_finite, to_channels
from img2img.imaging.parts import appearing
from img2img.imaging.reading import read_header

_FORMAT = 1  # part of every key; increase it when a change makes the stored pixels different
_OPEN_MAPS = 100  # each memory map holds a file descriptor, and some systems allow a process only 256
_SHOW_PROGRESS_FROM = 50  # files
_GONE = "gone"  # in place of the key of a file that does not exist; nothing is ever stored under it
_ABANDONED = 3600  # seconds after which a temporary file belongs to a process that was killed


def cache_folder() -> Path:
    """Returns the cache's folder, in `$IMG2IMG_CACHE` or the operating system's folder for caches."""
    return Path(os.environ.get("IMG2IMG_CACHE") or platformdirs.user_cache_dir("img2img")) / "decoded"


class Finish(Protocol):
    """A transform of decoded pixels before they are stored; several threads call it at once."""

    def key(self, path: Path) -> str:
        """Returns everything that the result depends on except the file itself; each key has its own stored file."""

    def __call__(self, path: Path, pixels: NDArray[Any]) -> NDArray[Any]:
        """Returns the pixels to store for an image, H×W×C, given its decoded pixels."""


class DecodedCache:
    """Decoded images as `.npy` files, keyed by the source's path, size and modification time.

    Beside them, a `.bad` file holds the reason why a source cannot be decoded, and a `.large` file the size in bytes of
    an image that did not fit.

    A file keeps the key that it had when it was prepared: one that vanishes, is damaged or edited later is read as it
    was then, by this object and its copies in workers.

    Args:
        channels: Channels to decode to: 3 for RGB, 1 for gray.
        limit_gb: Size limit of the folder, in 10^9 bytes. The least recently used files of other runs are deleted to
            make room; images that still do not fit are decoded at each use. 0 switches the cache off.
        folder: Folder of the files; None for `cache_folder()`.

    Attributes:
        remote_limit: Bytes that are kept, beside this folder, of each of the remote shards.
    """

    def __init__(self, channels: int, limit_gb: float, folder: Path | None = None) -> None:
        self.channels = channels
        self.limit = int(limit_gb * 1e9)
        self.remote_limit = self.limit
        self.folder = cache_folder() if folder is None else folder
        self.finishes: tuple[Finish, ...] = ()
        self._keys: dict[Path, str] = {}  # of prepared files

    def finished_by(self, finish: Finish) -> DecodedCache:
        """Returns a cache with the same folder and limit that also applies `finish`, last, before storing images."""
        other = copy.copy(self)
        other.finishes, other._keys = (*self.finishes, finish), {}
        return other

    def prepare(self, paths: Sequence[Path], keep: Collection[str] = ()) -> None:
        """Decodes the images that the cache lacks; call it once, with all images of a run, before reading them.

        A file that cannot be decoded is recorded with the reason, see `problem`. `keep` holds the keys of other stored
        images that must not be deleted to make room. For several caches, see `prepare_all`.
        """
        if self.limit <= 0:
            return
        self._keys |= {path: self._key_now(path) for path in paths}
        room = _Room(self.folder, self.limit, keep={*keep, *self.keys(paths)})
        missing = [path for path in paths if self._is_missing(path, room)]
        hidden = len(missing) < _SHOW_PROGRESS_FROM
        with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
            list(
                tqdm(pool.map(self._decode_and_store, missing, repeat(room)), "Decoding", len(missing), disable=hidden)
            )
        if room.refused:
            warnings.warn(
                f"decoded images cannot be kept in {self.folder} ({room.refused}): they are decoded at each use, which "
                "is slower; make room there, or set IMG2IMG_CACHE to another folder",
                stacklevel=2,
            )

    def keys(self, paths: Sequence[Path]) -> set[str]:
        """Returns the keys under which images are stored."""
        return {self._key(path) for path in paths}

    def problem(self, path: Path) -> str | None:
        """Returns why an image cannot be decoded, or None if it can; decodes it if the cache does not know."""
        key = self._key(path)
        if self._stored(key) is not None or self._named(key, ".large").exists():
            self._keys[path] = key  # for processes that have not prepared it
            return None
        with suppress(OSError):
            if reason := self._named(key, ".bad").read_text(encoding="utf-8"):
                return reason
        try:
            self._decode(path)
        except UnreadableImage as error:
            return str(error)
        return None

    def open(self, path: Path) -> NDArray[Any]:
        """Returns an image as H×W×C, uint8, uint16 or float32 (or as its last finish returns it); do not write to it.

        Raises:
            UnreadableImage: If the image cannot be decoded.
        """
        stored = self._stored(self._key(path))
        return self._finished(path) if stored is None else stored  # switched off, too large, damaged, or never prepared

    def pixels(self, path: Path) -> int:
        """Returns an image's number of pixels.

        Raises:
            UnreadableImage: If the image cannot be decoded.
        """
        if not self.finishes and not self._file(path, ".npy").exists():
            size = size_in_shards(path)
            if size is not None:
                return size[0] * size[1]
            header = read_header(path)  # cheaper than decoding an image that the cache does not keep
            return header.height * header.width
        height, width = self.open(path).shape[:2]
        return int(height * width)

    def _is_missing(self, path: Path, room: _Room) -> bool:
        key = self._key(path)
        if self._stored(key) is not None:
            with suppress(OSError):  # of another user, or on a disk that is only read
                os.utime(self._named(key, ".npy"))  # marks it as recently used
            return False
        with suppress(OSError, ValueError):
            return int(self._named(key, ".large").read_text()) <= room.left
        bad = self._named(key, ".bad")
        return not bad.exists() or bad.stat().st_size == 0

    def _stored(self, key: str) -> NDArray[Any] | None:
        """Returns the stored pixels; None if there are none. What a full disk or a crash has damaged is deleted."""
        file = self._named(key, ".npy")
        try:
            return _open_map(file)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, EOFError):
            with suppress(OSError):
                file.unlink()
            return None

    def _decode(self, path: Path) -> NDArray[Any]:
        with local_file(path, self.remote_limit) as file:
            return to_channels(read_finite(file).pixels, self.channels)

    def _finished(self, path: Path) -> NDArray[Any]:
        pixels = self._decode(path)
        for finish in self.finishes:
            pixels = finish(path, pixels)
        return pixels

    def _decode_and_store(self, path: Path, room: _Room) -> None:
        """Stores the pixels, or the reason why the image cannot be decoded, under the key from before it was read."""
        if room.refused:
            return
        key = self._key(path)
        try:
            pixels, reason = np.ascontiguousarray(self._finished(path)), ""
        except UnreadableImage as error:
            if isinstance(error.__cause__, OSError):  # access may be granted, a disk may come back
                return
            pixels, reason = np.empty(0), str(error)
        if key == _GONE or self._key_now(path) != key:  # it changed while it was read: what was read may be a mixture
            del self._keys[path]
            return
        try:
            if reason:
                self._store(key, ".bad", lambda file: file.write(reason.encode("utf-8", "replace")))
            elif room.take(pixels.nbytes):
                self._store(key, ".npy", lambda file: np.save(file, pixels))
                self._named(key, ".large").unlink(missing_ok=True)
            else:
                self._store(key, ".large", lambda file: file.write(b"%d" % pixels.nbytes))
        except OSError as error:
            room.refused = error.strerror or str(error)

    def _store(self, key: str, suffix: str, write: Callable[[BinaryIO], object]) -> None:
        with appearing(self._named(key, suffix)) as part, open(part, "wb") as file:
            write(file)

    def _key(self, path: Path) -> str:
        return self._keys.get(path) or self._key_now(path)

    def _key_now(self, path: Path) -> str:
        try:
            place = identity_of(path)
        except OSError:  # it vanished or is a broken link, so nothing is stored for it
            return _GONE
        file = (_FORMAT, self.channels, *place)
        identity = "|".join(map(str, (*file, *(finish.key(path) for finish in self.finishes))))
        return hashlib.blake2b(identity.encode(), digest_size=16).hexdigest()

    def _file(self, path: Path, suffix: str) -> Path:
        return self._named(self._key(path), suffix)

    def _named(self, key: str, suffix: str) -> Path:
        return self.folder / (key + suffix)


def prepare_all(requests: Sequence[tuple[DecodedCache, Sequence[Path]]]) -> None:
    """Prepares several caches that share a folder, so that none deletes another's images to make room."""
    keep = {key for cache, paths in requests for key in cache.keys(paths)}
    for cache, paths in requests:
        cache.prepare(paths, keep)


class _Room:
    """Free bytes within the cache's limit, shared by the threads that fill it; files with a key in `keep` stay."""

    def __init__(self, folder: Path, limit: int, keep: set[str]) -> None:
        self.folder, self.keep = folder, keep
        self.refused = ""  # why nothing more can be stored
        self.lock = threading.Lock()
        self._remove_abandoned()
        self.left = limit - sum(size for _, size, _ in self._files())
        if self.left < 0:
            self._evict(0)

    def take(self, size: int) -> bool:
        """Reserves `size` bytes, deleting the least recently used files of other runs; returns whether they fit."""
        with self.lock:
            if size > self.left:
                self._evict(size)
            fits = size <= self.left
            self.left -= size if fits else 0
            return fits

    def _remove_abandoned(self) -> None:
        for file in self.folder.glob(".*"):
            with suppress(OSError):
                if file.stat().st_mtime < time.time() - _ABANDONED:
                    file.unlink()

    def _evict(self, needed: int) -> None:
        for _, size, file in sorted(self._files()):
            if needed <= self.left:
                break
            if file.stem not in self.keep:
                with suppress(OSError):  # another run deleted it first, or (on Windows) has it open
                    file.unlink()
                    self.left += size

    def _files(self) -> Iterator[tuple[float, int, Path]]:
        for file in self.folder.glob("*.npy"):
            with suppress(OSError):  # another run has just deleted it
                stat = file.stat()
                yield stat.st_mtime, stat.st_size, file


@lru_cache(maxsize=_OPEN_MAPS)
def _open_map(file: Path) -> NDArray[Any]:
    array: NDArray[Any] = np.load(file, mmap_mode="r", allow_pickle=False)
    return array
