"""Images decoded once, then read through memory maps that all workers and ranks share.

A crop of a 12-megapixel photograph then costs the pages it touches, not the decoding of a JPEG.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
from numpy.typing import NDArray
from tqdm import tqdm

from img2img.imaging.files import UnreadableImage, read_image, to_channels

_FORMAT = 1  # part of every key: raise it when the stored pixels would come out otherwise
_OPEN_MAPS = 256  # a memory map holds a file descriptor, of which a process has about a thousand
_SHOW_PROGRESS_FROM = 50  # files


def cache_folder() -> Path:
    """Returns the cache's folder: `$IMG2IMG_CACHE`, or the place where this operating system keeps caches."""
    return Path(os.environ.get("IMG2IMG_CACHE") or platformdirs.user_cache_dir("img2img")) / "decoded"


class DecodedCache:
    """Decoded images as `.npy` files, keyed by the source's path, size and modification time.

    Args:
        channels: Channels to decode to: 3 for RGB, 1 for gray.
        limit_gb: The most that the folder may hold, in 10^9 bytes; the least recently used files of other runs make
            room, what does not fit is decoded at each use. 0 switches the cache off.
        folder: Where the files lie; None for `cache_folder()`.
    """

    def __init__(self, channels: int, limit_gb: float, folder: Path | None = None) -> None:
        self.channels = channels
        self.limit = int(limit_gb * 1e9)
        self.folder = cache_folder() if folder is None else folder

    def __getstate__(self) -> dict[str, Any]:
        """Leaves the open maps behind when a worker process is started by pickling."""
        return {"channels": self.channels, "limit": self.limit, "folder": self.folder}

    def prepare(self, paths: Sequence[Path]) -> None:
        """Decodes what the cache lacks; run by one process a node before the others read.

        A file that cannot be decoded is remembered with its reason, see `problem`.
        """
        if self.limit <= 0:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        keep = {self._key(path) for path in paths}
        missing = []
        for path in paths:
            stored = self._file(path, ".npy")
            if stored.exists():
                os.utime(stored)  # marks it as recently used
            elif not (self._file(path, ".bad").exists() or self._file(path, ".large").exists()):
                missing.append(path)
        room = self.limit - self._evict(keep)
        with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
            decoded = pool.map(self._decode_and_store, missing)
            hidden = len(missing) < _SHOW_PROGRESS_FROM
            for path, used in zip(missing, tqdm(decoded, "Decoding", len(missing), disable=hidden), strict=True):
                room -= used
                if room < 0:
                    room = self.limit - self._evict(keep)
                if room < 0:
                    room += used
                    self._file(path, ".npy").unlink()
                    self._file(path, ".large").touch()

    def problem(self, path: Path) -> str | None:
        """Returns why an image cannot be decoded, or None if it can; decodes it where the cache does not know."""
        if self._file(path, ".npy").exists() or self._file(path, ".large").exists():
            return None
        bad = self._file(path, ".bad")
        if bad.exists():
            return bad.read_text(encoding="utf-8")
        try:
            self._decode(path)
        except UnreadableImage as error:
            return str(error)
        return None

    def open(self, path: Path) -> NDArray[Any]:
        """Returns an image as H×W×C, uint8, uint16 or float32; do not write to it.

        Raises:
            UnreadableImage: If it cannot be decoded.
        """
        try:
            return _open_map(self._file(path, ".npy"))
        except FileNotFoundError:  # switched off, too large for the cache, or the source changed during the run
            return self._decode(path)

    def _decode(self, path: Path) -> NDArray[Any]:
        return to_channels(read_image(path).pixels, self.channels)

    def _decode_and_store(self, path: Path) -> int:
        """Stores the pixels, or the reason why there are none, and returns the bytes used."""
        try:
            pixels = np.ascontiguousarray(self._decode(path))
        except UnreadableImage as error:
            self._file(path, ".bad").write_text(str(error), encoding="utf-8")
            return 0
        descriptor, name = tempfile.mkstemp(dir=self.folder, prefix=".")
        with os.fdopen(descriptor, "wb") as file:
            np.save(file, pixels)
        os.replace(name, self._file(path, ".npy"))  # whole or not at all, whoever else is writing it too
        return pixels.nbytes

    def _evict(self, keep: set[str]) -> int:
        """Deletes the least recently used files of other runs until the limit holds; returns what is used."""
        files = sorted((f.stat().st_mtime, f.stat().st_size, f) for f in self.folder.glob("*.npy"))
        used = sum(size for _, size, _ in files)
        for _, size, file in files:
            if used <= self.limit:
                break
            if file.stem not in keep:
                file.unlink(missing_ok=True)
                used -= size
        return used

    def _key(self, path: Path) -> str:
        stat = path.stat()
        identity = f"{_FORMAT}|{self.channels}|{os.path.abspath(path)}|{stat.st_size}|{stat.st_mtime_ns}"
        return hashlib.blake2b(identity.encode(), digest_size=16).hexdigest()

    def _file(self, path: Path, suffix: str) -> Path:
        return self.folder / (self._key(path) + suffix)


@lru_cache(maxsize=_OPEN_MAPS)
def _open_map(file: Path) -> NDArray[Any]:
    array: NDArray[Any] = np.load(file, mmap_mode="r", allow_pickle=False)
    return array
