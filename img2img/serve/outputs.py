"""What is downloaded: a restored picture of any strength in its own format, or all of them as a ZIP file."""

from __future__ import annotations

import io
import secrets
import threading
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np

from img2img.imaging.formats import Header
from img2img.imaging.reading import RowReader, open_rows, read_header
from img2img.imaging.values import Pixels
from img2img.imaging.writing import create_rows
from img2img.inference.jobs import name_outputs
from img2img.inference.strength import blend, enlarged
from img2img.inference.thumbnails import thumbnail
from img2img.serve.pictures import Picture
from img2img.serve.work import Restored

SIDE = 1600
"""Longest side of the pictures on the page, and of the masks that are painted on them, in pixels."""
QUALITY = 95
"""Of JPEG, WebP and AVIF, as that of `restore`."""
AROUND = 2
"""Rows on each side that `enlarged` looks at."""
_STRIP = 128
_PIECE = 1 << 18
# Decoders and encoders may hold whole images: one at a time of each kind.
_ENCODING, _SHOWING = threading.Lock(), threading.Lock()


def encode(picture: Picture, restored: Restored, strength: float) -> Path:
    """Returns a new file with the picture at a strength, in its own format and depth, with its metadata.

    Raises:
        ValueError: If the format cannot hold it.
        OSError: If it cannot be written.
    """
    file = picture.folder / f"download-{secrets.token_hex(8)}{restored.suffix}"
    with _ENCODING, ExitStack() as stack:
        result = stack.enter_context(open_rows(restored.image))
        header = replace(result.header, metadata=read_header(picture.source).metadata)
        writer = stack.enter_context(create_rows(file, header, quality=QUALITY))
        if strength == 1:
            for pixels, alpha in _strips(result):
                writer.write(pixels, alpha)
        else:
            original = stack.enter_context(open_rows(picture.source))
            scale = result.header.height // original.header.height
            for before, (pixels, alpha) in zip(_enlarged(original, scale), _strips(result, scale), strict=True):
                writer.write(blend(before, pixels, strength), alpha)
    return file


def _strips(reader: RowReader, scale: int = 1) -> Iterator[tuple[Pixels, Pixels | None]]:
    """Yields the rows of all pages in strips that end with their page."""
    for _ in range(reader.header.pages):
        for top in range(0, reader.header.height, _STRIP * scale):
            yield reader.read(min(_STRIP * scale, reader.header.height - top))


def _enlarged(reader: RowReader, scale: int) -> Iterator[Pixels]:
    """Yields strips of the original, enlarged as the whole would be: with the rows around that enlarging looks at."""
    height = reader.header.height
    for _ in range(reader.header.pages):
        held, first = reader.read(0)[0], 0  # the rows from `first` on
        for top in range(0, height, _STRIP):
            bottom = min(top + _STRIP, height)
            start, stop = (max(0, top - AROUND), min(height, bottom + AROUND)) if scale > 1 else (top, bottom)
            more = reader.read(stop - first - len(held))[0]
            held, first = np.concatenate([held[start - first :], more]), start
            yield enlarged(held, scale)[(top - start) * scale : (bottom - start) * scale]


def preview(file: Path) -> bytes:
    """Returns an image file as a JPEG of at most `SIDE` pixels, which is made at the first time and kept beside it.

    Raises:
        UnreadableImage: If the file is damaged.
    """
    kept = file.with_name(f"{file.name}.preview")
    with _SHOWING:
        if not kept.exists():
            kept.write_bytes(thumbnail(file, SIDE))
    return kept.read_bytes()


def fit_mask(picture: Picture, painted: Path) -> Path:
    """Returns a mask of the picture's size from one that was painted on its preview, white where it is filled.

    Raises:
        ValueError: If it is not of the preview's size, or nothing is painted.
        UnreadableImage: If it is damaged.
    """
    header, mask = picture.header, picture.folder / "mask.png"
    seen = read_header(painted)
    if max(seen.width, seen.height) > SIDE or seen.pages > 1:
        raise ValueError(f"the mask must have at most {SIDE} pixels a side")
    with open_rows(painted) as reader:
        white = reader.read(seen.height)[0].max(axis=2) > np.iinfo(np.uint8).max // 2
    if abs(seen.width * header.height - seen.height * header.width) > max(header.width, header.height):
        raise ValueError(f"the mask is {seen.width}×{seen.height}, of another shape than the picture")
    if not white.any():
        raise ValueError("nothing is painted: paint over what should be filled")
    columns = np.arange(header.width) * seen.width // header.width
    gray = Header(header.width, header.height, 1, False, np.dtype(np.uint8), 1, "png", {})
    with create_rows(mask, gray) as writer:
        for top in range(0, header.height, _STRIP):
            rows = np.arange(top, min(top + _STRIP, header.height)) * seen.height // header.height
            writer.write((white[rows][:, columns, None] * 255).astype(np.uint8), None)
    return mask


def zipped(named: Iterable[tuple[str, Callable[[], Path]]]) -> Iterator[bytes]:
    """Yields a ZIP file of files that are made one by one, and removed when they are in it.

    Nothing is compressed, as pictures are already.

    Args:
        named: The name of each in the ZIP file, and what makes it.
    """
    pipe = _Pipe()
    with zipfile.ZipFile(pipe, "w") as archive:
        for name, make in named:
            entry = zipfile.ZipInfo(name, time.localtime()[:6])
            entry.external_attr = 0o644 << 16
            with archive.open(entry, "w", force_zip64=True) as target:
                file = make()
                try:
                    with open(file, "rb") as opened:
                        while piece := opened.read(_PIECE):
                            target.write(piece)
                            yield pipe.take()
                finally:
                    file.unlink(missing_ok=True)
            yield pipe.take()
    yield pipe.take()


class _Pipe(io.RawIOBase):
    """Keeps what is written until it is taken."""

    def __init__(self) -> None:
        self._held = bytearray()

    def writable(self) -> bool:
        """Returns True."""
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        """Keeps data."""
        self._held += data
        return len(data)

    def take(self) -> bytes:
        """Returns what was kept."""
        taken = bytes(self._held)
        self._held.clear()
        return taken


def names_in_zip(pictures: Iterable[Picture]) -> list[str]:
    """Returns names for pictures in a ZIP file, as `restore` names outputs; no two are alike on any system."""
    return name_outputs([picture.name for picture in pictures], "keep", folds_case=True)
