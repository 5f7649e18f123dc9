"""The pictures that were uploaded: their files in a private folder, and what is known of them."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout
from starlette.concurrency import run_in_threadpool

from img2img.errors import printable
from img2img.imaging.formats import READABLE_NAMES, SUFFIXES, Header, depth
from img2img.imaging.reading import UnreadableImage, read_header
from img2img.serve.limits import Limits, Refused

if TYPE_CHECKING:
    from img2img.serve.work import Work

LONGEST = 1000
"""Characters of a name."""
_LOCK = "lock"


@dataclass(eq=False)
class Picture:
    """A picture that was uploaded.

    Attributes:
        id: Its name in addresses, random.
        name: Its name and folders as the browser gave them, with forward slashes; never used on disk.
        folder: Its own folder, which holds all its files.
        header: Header of the file.
        mask: What to fill, for models that fill holes: `alpha`, a colour, or the painted file; None for nothing.
        work: Its restoration, waiting, running or done; None before the first.
    """

    id: str
    name: str
    folder: Path
    header: Header
    mask: str | None = None
    work: Work | None = None

    @property
    def source(self) -> Path:
        """The file as it was uploaded."""
        return self.folder / f"source{Path(self.name).suffix.lower()}"

    def describe(self) -> dict[str, Any]:
        """Returns what the page needs to know of it."""
        header = self.header
        about = {"id": self.id, "name": self.name, "width": header.width, "height": header.height}
        about |= {"pages": header.pages, "bits": depth(header), "alpha": header.alpha, "masked": self.mask is not None}
        return about | ({"state": "stored"} if self.work is None else self.work.describe())

    def said(self, text: str) -> str:
        """Returns a message with the picture's name in place of paths of the server."""
        text = text.replace(str(self.source), self.name)
        return printable(re.sub(re.escape(str(self.folder)) + r"[^\s:,;]*", self.name, text))


class Pictures:
    """All pictures of a server, in a folder that only its user can read; empty when the server ends.

    Args:
        place: The folder in which to make it.
        limits: How much may be held.
    """

    def __init__(self, place: Path, limits: Limits) -> None:
        place.mkdir(parents=True, exist_ok=True)
        with FileLock(place / _LOCK):  # another server may start now
            _remove_abandoned(place)
            self.folder = Path(tempfile.mkdtemp(prefix="pictures-", dir=place))  # for this user only
            self._lock = FileLock(self.folder / _LOCK)
            self._lock.acquire(timeout=0)
        self.limits = limits
        self.bytes = 0
        self._pictures: dict[str, Picture] = {}
        self._weights: dict[str, int] = {}
        self._weighing = threading.Lock()

    def close(self) -> None:
        """Removes the folder with everything in it."""
        self._pictures.clear()
        self._lock.release()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __iter__(self) -> Iterator[Picture]:
        return iter(list(self._pictures.values()))

    def __getitem__(self, id: str) -> Picture:
        """Returns a picture.

        Raises:
            Refused: With status 404, if there is none.
        """
        if id not in self._pictures:
            raise Refused(404, "there is no such picture; it may have been removed")
        return self._pictures[id]

    async def add(self, name: str, size: int | None, content: AsyncIterator[bytes]) -> Picture:
        """Receives a picture; only its header is read.

        Args:
            name: The name that the browser gave, with folders if it has any.
            size: How many bytes the sender says there are; None if it does not say.
            content: The bytes.

        Raises:
            Refused: If the name is not one of a picture, the limits are exceeded, or it is not a picture.
        """
        check_name(name)
        self._check_room(size or 0)
        if len(self._weights) >= self.limits.pictures:
            raise Refused(507, f"the server holds {self.limits.pictures} pictures, its limit; remove some")
        picture = Picture(secrets.token_urlsafe(9), name, Path(), _UNKNOWN)
        picture.folder = self.folder / picture.id
        picture.folder.mkdir()
        try:
            await self.receive(picture, picture.source, content)
            picture.header = await run_in_threadpool(_read_header, picture)
            self.limits.check_pixels(picture.header.width * picture.header.height * picture.header.pages)
        except BaseException:
            self._empty(picture)
            raise
        self._pictures[picture.id] = picture
        return picture

    async def receive(self, picture: Picture, path: Path, content: AsyncIterator[bytes]) -> None:
        """Writes what is received into a file of a picture; never holds more than a piece of it in memory.

        Raises:
            Refused: If the limits are exceeded, or nothing came.
        """
        size, before = 0, self._weights.get(picture.id, 0)
        with open(path, "wb") as file:
            async for piece in content:
                size += len(piece)
                self.limits.check_size(size)
                self._weigh(picture.id, before + size)
                self._check_room(0)
                await run_in_threadpool(file.write, piece)
        if not size:
            raise Refused(400, "the file is empty: send its bytes as the body of the request")

    def _check_room(self, more: int) -> None:
        self.limits.check_size(more)
        if self.bytes + more > self.limits.gigabytes * 1_000_000_000:
            full = f"the server holds {self.limits.gigabytes} GB, its limit; download pictures and remove them"
            raise Refused(507, full)

    def weigh(self, picture: Picture) -> None:
        """Notes how much a picture takes, after its files changed."""
        if picture.id in self._pictures:
            size = 0
            for folder, _, names in os.walk(picture.folder):
                for name in names:
                    with suppress(FileNotFoundError):  # a download that has just ended
                        size += os.stat(os.path.join(folder, name)).st_size
            self._weigh(picture.id, size)

    def _weigh(self, id: str, size: int) -> None:
        with self._weighing:
            self.bytes += size - self._weights.get(id, 0)
            self._weights[id] = size

    def said(self, text: str) -> str:
        """Returns a message without paths of the server; `Picture.said` for all pictures."""
        for picture in self:
            text = picture.said(text)
        return re.sub(re.escape(str(self.folder)) + r"[^\s:,;]*", "the picture", text)

    def remove(self, picture: Picture) -> None:
        """Removes a picture with all its files; what still works on it is stopped first."""
        self._pictures.pop(picture.id, None)
        if picture.work is None:
            self._empty(picture)
        else:
            picture.work.cancel()
            picture.work.result.add_done_callback(lambda _: self._empty(picture))  # at once, if it is done

    def _empty(self, picture: Picture) -> None:
        shutil.rmtree(picture.folder, ignore_errors=True)
        self._weigh(picture.id, 0)
        self._weights.pop(picture.id, None)


_UNKNOWN = Header(0, 0, 1, False, None, 1, "", {})  # type: ignore[arg-type]  # until the file is there


def check_name(name: str) -> None:
    """Checks that a name is that of a picture, below a folder at most.

    Raises:
        Refused: If it leads out of its folder, could mean something else on another system, or has the wrong suffix.
    """
    parts = name.split("/")
    strange = "\\" in name or not name.isprintable() or re.match(r"[A-Za-z]:", name)
    if strange or len(name) > LONGEST or any(part.strip() in ("", ".", "..") for part in parts):
        raise Refused(400, "the name must be one of a file, with folders before it at most: photos/day1/a.png")
    if Path(name).suffix.lower() not in SUFFIXES:
        raise Refused(415, f"{name} is not named like a picture; there are {READABLE_NAMES}")


def _read_header(picture: Picture) -> Header:
    try:
        return read_header(picture.source)
    except UnreadableImage as error:
        raise Refused(422, picture.said(str(error))) from error


def _remove_abandoned(place: Path) -> None:
    """Removes what servers that were killed have left."""
    for folder in place.glob("pictures-*"):
        if folder.is_symlink() or not folder.is_dir():
            continue
        lock = FileLock(folder / _LOCK)
        with suppress(Timeout, OSError):  # a server that runs, or somebody else's
            lock.acquire(timeout=0)
            lock.release()
            shutil.rmtree(folder, ignore_errors=True)
