"""Writes a folder of images as shards, for training on more images than a disk holds as files."""

from __future__ import annotations

import io
import itertools
import json
import os
import tarfile
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
from tqdm import tqdm

from img2img.data.listing import images_of
from img2img.data.names import ENDS, NAMES, synced
from img2img.data.remote import address_of, exists, is_remote, remote_root, upload
from img2img.data.shards import FORMAT, INDEX, PLACE, PLACES, shard_name
from img2img.errors import UserError
from img2img.imaging.files import UnreadableImage, read_finite
from img2img.imaging.formats import READABLE_NAMES

_TOGETHER = 64  # images that are decoded at once, to check them


@dataclass(frozen=True)
class Sharded:
    """What `shard` wrote.

    Attributes:
        images: Number of images.
        shards: Number of tar files.
        size: Bytes of the images' files.
        problems: Why files were left out, a line for each.
    """

    images: int
    shards: int
    size: int
    problems: list[str] = field(default_factory=list)


def shard(input: str, output: str, shard_mb: int = 64, progress: bool = False) -> Sharded:
    """Writes a folder of images as shards, which `--data.root` takes like the folder.

    Shards are plain tar files that hold the images' files unchanged, with an index beside them. The index is written
    last: a folder without it is not used. Each image is decoded once; one that cannot be is left out.

    Args:
        input: The folder of images, searched recursively; `train/`, `val/` and `test/` in it stay what they are.
        output: The folder of the shards, which must be new or empty; or an address such as `s3://bucket/photos`.
        shard_mb: Size of a shard, in 10^6 bytes.
        progress: Whether to show a progress bar.

    Raises:
        FileNotFoundError: If the folder holds no readable images.
        UserError: If the output is not empty or cannot be written, the size is below 1, or object storage is out of
            reach.
    """
    if shard_mb < 1:
        raise UserError(f"shard_mb must be at least 1, not {shard_mb}")
    root, place = Path(input).expanduser(), remote_root(output)
    target = place or Path(output).expanduser()
    _check_free(target)
    paths = images_of(root)
    if not paths:
        raise FileNotFoundError(f"no images ({READABLE_NAMES}) under {root}")
    try:
        return _write(root, paths, target, shard_mb, progress)
    except OSError as error:
        if error.errno is None:
            raise
        raise UserError(f"cannot write shards to {address_of(target)}: {error.strerror}") from error


def _write(root: Path, paths: Sequence[Path], target: Path, shard_mb: int, progress: bool) -> Sharded:
    problems: list[str] = []
    with ExitStack() as stack:
        folder = target
        if is_remote(target):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="img2img-")))
        folder.mkdir(parents=True, exist_ok=True)
        writer = stack.enter_context(_Writer(folder, target, shard_mb * 1_000_000))
        pool = stack.enter_context(ThreadPoolExecutor(min(4, os.cpu_count() or 1)))
        bar = stack.enter_context(tqdm(total=len(paths), desc="Sharding", disable=not progress))
        for block in _blocks(paths):
            for path, checked in zip(block, pool.map(_checked, block), strict=True):
                if isinstance(checked, str):
                    problems.append(checked)
                else:
                    writer.add(path.relative_to(root).as_posix(), *checked)
                bar.update()
        if not writer.images:
            raise FileNotFoundError(f"none of the {len(paths)} image file(s) under {root} can be read")
        writer.finish()
        return Sharded(writer.images, writer.shards, writer.size, problems)


def _check_free(target: Path) -> None:
    if is_remote(target):
        if exists(target / INDEX):
            raise UserError(f"{address_of(target)} already holds shards; give another address")
    elif target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"{target} is not empty; give a new folder for the shards")


def _checked(path: Path) -> tuple[bytes, tuple[int, int, int]] | str:
    """Returns a file's bytes, and the image's height, width and bytes of each value; or why it cannot be read."""
    try:
        before = path.stat()
        data, pixels = path.read_bytes(), read_finite(path).pixels
        if (before.st_mtime_ns, before.st_size) != (path.stat().st_mtime_ns, len(data)):
            return f"{path} changed while it was read"
    except (UnreadableImage, OSError) as error:
        return str(error)
    return data, (pixels.shape[0], pixels.shape[1], pixels.dtype.itemsize)


class _Writer:
    """Writes files into shards, and then their index; deletes them if that fails."""

    def __init__(self, folder: Path, target: Path, shard_bytes: int) -> None:
        self.folder, self.target, self.shard_bytes = folder, target, shard_bytes
        self.images = self.shards = self.size = self.end = 0
        self.crcs = {name: 0 for name in (NAMES, ENDS, PLACES)}
        self.index: dict[str, BinaryIO] = {name: open(folder / name, "wb") for name in self.crcs}  # noqa: SIM115
        self.file: BinaryIO | None = None
        self.tar: tarfile.TarFile | None = None

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *exception: object) -> None:
        for file in (*self.index.values(), self.file):
            if file is not None:
                file.close()
        if exception[0] is not None:
            for name in (*self.index, *map(shard_name, range(self.shards))):
                (self.folder / name).unlink(missing_ok=True)

    def add(self, name: str, data: bytes, shape: tuple[int, int, int]) -> None:
        """Adds an image's file, unchanged; names must come sorted."""
        if self.tar is None:
            self.file = open(self.folder / shard_name(self.shards), "wb")  # noqa: SIM115
            self.tar = tarfile.TarFile(fileobj=self.file, mode="w", format=tarfile.PAX_FORMAT)
            self.shards += 1
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode = len(data), 0o644
        self.tar.addfile(entry, io.BytesIO(data))
        offset = self.tar.offset - -(-len(data) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
        text = name.encode("utf-8", "surrogatepass")
        self.end += len(text)
        place = np.array([(offset, len(data), self.shards - 1, zlib.crc32(data), *shape, 0)], PLACE)
        for part, written in ((NAMES, text), (ENDS, self.end.to_bytes(8, "little")), (PLACES, place.tobytes())):
            self.index[part].write(written)
            self.crcs[part] = zlib.crc32(written, self.crcs[part])
        self.images, self.size = self.images + 1, self.size + len(data)
        if self.tar.offset >= self.shard_bytes:
            self._end_shard()

    def finish(self) -> None:
        """Ends the last shard and writes the index, whose last file makes the shards usable."""
        self._end_shard()
        sizes = {}
        for name, file in self.index.items():
            synced(file)
            sizes[name] = file.tell()
            self._put(name)
        about = {"format": FORMAT, "images": self.images, "shards": self.shards, "bytes": self.size}
        part = self.folder / f".{INDEX}"
        with open(part, "wb") as file:
            file.write(json.dumps(about | {"sizes": sizes, "crcs": self.crcs}, indent=1).encode())
            synced(file)
        part.replace(self.folder / INDEX)
        self._put(INDEX)

    def _end_shard(self) -> None:
        if self.tar is None or self.file is None:
            return
        self.tar.close()
        synced(self.file)
        self.file.close()
        self.tar = self.file = None
        name = shard_name(self.shards - 1)
        self._put(name)
        if is_remote(self.target):
            (self.folder / name).unlink()

    def _put(self, name: str) -> None:
        if is_remote(self.target):
            upload(self.folder / name, self.target / name)


def _blocks(paths: Iterable[Path]) -> Iterator[tuple[Path, ...]]:
    """Yields the paths in blocks, as `itertools.batched` of Python 3.12 does."""
    remaining = iter(paths)
    while block := tuple(itertools.islice(remaining, _TOGETHER)):
        yield block
