"""Cache of decoded images, which all workers and ranks read through shared memory maps.

Each image is decoded once. A crop of a 12-megapixel photograph then costs only the pages it touches.
"""

from __future__ import annotations

import copy
import hashlib
import os
import tempfile
import threading
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import platformdirs
from numpy.typing import NDArray
from tqdm import tqdm

from img2img.imaging.files import UnreadableImage, read_finite, to_channels
from img2img.imaging.reading import read_header

_FORMAT = 1  # part of every key; increase it when a change makes the stored pixels different
_OPEN_MAPS = 100  # each memory map holds a file descriptor, and some systems allow a process only 256
_SHOW_PROGRESS_FROM = 50  # files


def cache_folder() -> Path:
    """Returns the cache's folder, in `$IMG2IMG_CACHE` or the operating system's folder for caches."""
    return Path(os.environ.get("IMG2IMG_CACHE") or platformdirs.user_cache_dir("img2img")) / "decoded"


class Finish(Protocol):
    """A transform of decoded pixels before they are stored; several threads call it at once."""

    def key(self, path: Path) -> str:
        """Returns everything that the result depends on except the file itself; each key has its own stored file."""

    def __call__(self, path: Path, pixels: NDArray[Any]) -> NDArray[Any]:
        """Returns the pixels to store for an image, H×W×C, given its decoded pixels."""


class _Chained:
    """Applies one finish after another."""

    def __init__(self, first: Finish, then: Finish) -> None:
        self.first, self.then = first, then

    def key(self, path: Path) -> str:
        return f"{self.first.key(path)}|{self.then.key(path)}"

    def __call__(self, path: Path, pixels: NDArray[Any]) -> NDArray[Any]:
        return self.then(path, self.first(path, pixels))


class DecodedCache:
    """Decoded images as `.npy` files, keyed by the source's path, size and modification time.

    Beside them, a `.bad` file holds the reason why a source cannot be decoded, and a `.large` file the bytes that an
    image would take if it did not fit.

    Args:
        channels: Channels to decode to: 3 for RGB, 1 for gray.
        limit_gb: Size limit of the folder, in 10^9 bytes. The least recently used files of other runs are deleted to
            make room; images that still do not fit are decoded at each use. 0 switches the cache off.
        folder: Folder of the files; None for `cache_folder()`.
    """

    def __init__(self, channels: int, limit_gb: float, folder: Path | None = None) -> None:
        self.channels = channels
        self.limit = int(limit_gb * 1e9)
        self.folder = cache_folder() if folder is None else folder
        self.finish: Finish | None = None

    def finished_by(self, finish: Finish) -> DecodedCache:
        """Returns a cache with the same folder and limit that also applies `finish`, last, before storing images."""
        other = copy.copy(self)
        other.finish = finish if self.finish is None else _Chained(self.finish, finish)
        return other

    def prepare(self, paths: Sequence[Path], keep: Collection[str] = ()) -> None:
        """Decodes the images that the cache lacks; call it once, with all images of a run, before reading them.

        A file that cannot be decoded is recorded with the reason, see `problem`. For several caches, see
        `prepare_all`.

        Args:
            paths: The images.
            keep: Keys of other stored images that must not be deleted to make room.
        """
        if self.limit <= 0:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        room = _Room(self.folder, self.limit, keep={*keep, *self.keys(paths)})
        missing = [path for path in paths if self._is_missing(path, room)]
        with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
            decoded = pool.map(lambda path: self._decode_and_store(path, room), missing)
            hidden = len(missing) < _SHOW_PROGRESS_FROM
            for _ in tqdm(decoded, "Decoding", len(missing), disable=hidden):
                pass

    def keys(self, paths: Sequence[Path]) -> set[str]:
        """Returns the keys under which images are stored."""
        return {self._key(path) for path in paths}

    def problem(self, path: Path) -> str | None:
        """Returns why an image cannot be decoded, or None if it can; decodes it if the cache does not know."""
        if self._file(path, ".npy").exists() or self._file(path, ".large").exists():
            return None
        with suppress(FileNotFoundError):
            return self._file(path, ".bad").read_text(encoding="utf-8")
        try:
            self._decode(path)
        except UnreadableImage as error:
            return str(error)
        return None

    def open(self, path: Path) -> NDArray[Any]:
        """Returns an image as H×W×C, uint8, uint16 or float32 (or as its finish returned it); do not write to it.

        Raises:
            UnreadableImage: If the image cannot be decoded.
        """
        try:
            return _open_map(self._file(path, ".npy"))
        except FileNotFoundError:  # switched off, too large for the cache, or the source changed during the run
            return self._finished(path)

    def pixels(self, path: Path) -> int:
        """Returns an image's number of pixels.

        Raises:
            UnreadableImage: If the image cannot be decoded.
        """
        stored = self._file(path, ".npy").exists()
        if not stored and self.finish is None:
            header = read_header(path)  # cheaper than decoding an image that the cache does not keep
            return header.height * header.width
        height, width = self.open(path).shape[:2]
        return int(height * width)

    def _is_missing(self, path: Path, room: _Room) -> bool:
        stored, large = self._file(path, ".npy"), self._file(path, ".large")
        with suppress(FileNotFoundError):
            os.utime(stored)  # marks it as recently used
            return False
        with suppress(FileNotFoundError):
            return int(large.read_text()) <= room.left
        return not self._file(path, ".bad").exists()

    def _decode(self, path: Path) -> NDArray[Any]:
        return to_channels(read_finite(path).pixels, self.channels)

    def _finished(self, path: Path) -> NDArray[Any]:
        pixels = self._decode(path)
        return pixels if self.finish is None else self.finish(path, pixels)

    def _decode_and_store(self, path: Path, room: _Room) -> None:
        """Stores the pixels, or the reason why the image cannot be decoded."""
        try:
            pixels = np.ascontiguousarray(self._finished(path))
        except UnreadableImage as error:
            if not isinstance(error.__cause__, OSError):  # access may be granted, a disk may come back
                self._file(path, ".bad").write_text(str(error), encoding="utf-8")
            return
        if not room.take(pixels.nbytes):
            self._file(path, ".large").write_text(str(pixels.nbytes))
            return
        descriptor, name = tempfile.mkstemp(dir=self.folder, prefix=".")
        try:
            with os.fdopen(descriptor, "wb") as file:
                np.save(file, pixels)
            os.replace(name, self._file(path, ".npy"))  # atomic, even if another process writes it too
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        self._file(path, ".large").unlink(missing_ok=True)

    def _key(self, path: Path) -> str:
        try:
            stat = path.stat()
        except OSError:  # it vanished or is a broken link, so nothing is stored for it
            return "absent"
        identity = f"{_FORMAT}|{self.channels}|{os.path.abspath(path)}|{stat.st_size}|{stat.st_mtime_ns}"
        if self.finish is not None:
            identity += f"|{self.finish.key(path)}"
        return hashlib.blake2b(identity.encode(), digest_size=16).hexdigest()

    def _file(self, path: Path, suffix: str) -> Path:
        return self.folder / (self._key(path) + suffix)


def prepare_all(requests: Sequence[tuple[DecodedCache, Sequence[Path]]]) -> None:
    """Prepares several caches that share a folder, so that none deletes another's images to make room."""
    keep = {key for cache, paths in requests for key in cache.keys(paths)}
    for cache, paths in requests:
        cache.prepare(paths, keep)


class _Room:
    """Free bytes within the cache's limit, shared by the threads that fill it.

    Args:
        folder: The cache's folder.
        limit: Bytes that the folder may hold.
        keep: Keys of the files that must not be deleted.
    """

    def __init__(self, folder: Path, limit: int, keep: set[str]) -> None:
        self.folder, self.keep = folder, keep
        self.lock = threading.Lock()
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
