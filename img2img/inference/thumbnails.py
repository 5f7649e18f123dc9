"""Pictures of images before and after, for the page of a report: thumbnails, and details at full size."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

import cv2
import numpy as np
import pyvips

from img2img.imaging.reading import UnreadableImage, open_rows, read_header
from img2img.imaging.values import Pixels, from_float, to_channels, to_float
from img2img.inference.jobs import Job

SIDES = {300: 640, 3000: 320}
"""Longest side of thumbnails in pixels, for pages of up to so many images."""
DETAIL = 320
"""Longest side of the details in pixels; only pages with the largest thumbnails have details."""
KINDS = ("before", "after", "before_detail", "after_detail", "sigma")
"""The pictures of an image: whole, details, and its uncertainty map."""
_STRIP = 128  # rows that are read at a time
# What libvips reads, recognised by content, so that no rarer loader (SVG, PDF) is reached.
_STREAMED = re.compile(rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|RIFF....WEBP|II[*+]\0|MM\0[*+]", re.DOTALL)
_SQUARE = 8  # pixels, side of a square in the checkerboard behind transparent images


class Thumbnails:
    """Makes a thumbnail and a detail of each finished file, before and after, in a run's hidden folder.

    The pictures are smaller the more `images` the page will hold.
    """

    def __init__(self, hidden: Path, images: int) -> None:
        self.hidden = hidden
        self.side = next((side for most, side in SIDES.items() if images <= most), 160)
        self.details = self.side == max(SIDES.values())

    def __call__(self, job: Job) -> dict[str, float]:
        """Writes the pictures; returns no scores."""
        pair = {"before": job.source, "after": job.destination}
        small = {which: thumbnail(path, self.side) for which, path in pair.items()}
        for kind in KINDS:  # also those of an earlier run
            self._file(job, kind).unlink(missing_ok=True)
        for which, data in small.items():
            self._file(job, which).write_bytes(data)
        if job.map is not None:
            self._file(job, "sigma").write_bytes(thumbnail(job.map, self.side))
        sizes = [(header.height, header.width) for header in map(read_header, pair.values())]
        if self.details and max(sizes[0]) > self.side and sizes[0] == sizes[1]:
            top, left = most_changed(small["before"], small["after"], sizes[0])
            for which, path in pair.items():
                self._file(job, f"{which}_detail").write_bytes(picture(_part(path, top, left)))
        return {}

    def _file(self, job: Job, which: str) -> Path:
        file = thumbnail_file(self.hidden, job.name, which)
        file.parent.mkdir(exist_ok=True)
        return file


def most_changed(before: bytes, after: bytes, size: tuple[int, int]) -> tuple[int, int]:
    """Returns the top and left of the detail in which two thumbnails of an image differ most.

    They are in pixels of the image, whose height and width are `size`.
    """
    first, second = (cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) for data in (before, after))
    assert first is not None and second is not None, "they have just been encoded"  # noqa: PT018
    difference = cv2.absdiff(first, second).astype(np.float32).mean(2)
    scales = [whole / small for whole, small in zip(size, difference.shape, strict=True)]
    window = [min(side, max(1, round(DETAIL / k))) for side, k in zip(difference.shape, scales, strict=True)]
    sums = cv2.boxFilter(difference, -1, (window[1], window[0]), anchor=(0, 0), normalize=False)
    inside = sums[: difference.shape[0] - window[0] + 1, : difference.shape[1] - window[1] + 1]
    place = np.unravel_index(int(inside.argmax()), inside.shape)
    top, left = (
        max(0, min(round(int(at) * k), whole - DETAIL)) for at, k, whole in zip(place, scales, size, strict=True)
    )
    return top, left


def _part(path: Path, top: int, left: int) -> Pixels:
    """Returns a detail of an image file, H×W×3 uint8; never holds more rows than a strip in memory."""
    with open_rows(path, first_page=True) as reader:
        for first in range(0, top, _STRIP):
            reader.read(min(_STRIP, top - first))
        rows, _ = reader.read(min(DETAIL, reader.header.height - top))
    return from_float(to_float(to_channels(rows[:, left : left + DETAIL], 3)), np.uint8)


def thumbnail_file(hidden: Path, name: str, which: str) -> Path:
    """Returns the path of an output's picture of one of `KINDS`."""
    return hidden / "thumbnails" / f"{hashlib.blake2b(os.fsencode(name), digest_size=12).hexdigest()}.{which}"


def thumbnail(path: Path, side: int = 640) -> bytes:
    """Returns an image file as a JPEG of at most `side` pixels: upright, 8-bit sRGB, on a checkerboard if transparent.

    JPEG is shrunk while it is decoded, and all are streamed, so memory does not grow with the image, except for what
    the decoder holds (`Header.held`). Images of the same size give pictures of the same size, and are never enlarged.
    Float values are shown as the networks see them: the stored values in [0, 1], without a further curve.

    libvips works in threads, which do not survive a fork: call this in the first process, or in spawned ones.

    Raises:
        UnreadableImage: If the file is missing, damaged or not a supported image.
    """
    try:
        with open(path, "rb") as file:
            if not _STREAMED.match(file.read(12)):
                return _encode(_by_rows(path, side))
            # A descriptor, not a name: libvips reads `[…]` in names as options, and refuses names that are not UTF-8.
            source = pyvips.Source.new_from_descriptor(file.fileno())
            return _encode(_shrink(_load(source, side), side))
    except OSError as error:
        raise UnreadableImage(f"cannot read {path}: {error.strerror or error}") from error
    except pyvips.Error as error:
        reason = next(iter(str(error.detail or "").strip().splitlines()), "damaged or truncated")
        raise UnreadableImage(f"cannot read {path}: {reason}") from error


def picture(pixels: Pixels) -> bytes:
    """Returns H×W×3 uint8 as a JPEG of the same size."""
    return _encode(pyvips.Image.new_from_array(np.ascontiguousarray(pixels)))


def _load(source: pyvips.Source, side: int) -> pyvips.Image:
    """Opens an image for streaming; JPEG is decoded only at the size needed."""
    # `thumbnail_source` would do this and the rest, but ignores damage whatever `fail_on` says (libvips 8.18).
    options = {"access": "sequential", "fail_on": "error"}
    image = pyvips.Image.new_from_source(source, "", **options)
    shrink = max(n for n in (1, 2, 4, 8) if n == 1 or max(image.width, image.height) >= n * side)
    if image.get("vips-loader") == "jpegload_source" and shrink > 1:
        image = pyvips.Image.new_from_source(source, "", shrink=shrink, **options)
    if image.format == "float":  # libvips would take RGB floats as linear and gray ones as 0 to 255
        image = (image * 255 + 0.5).cast("uchar").copy(interpretation="b-w" if image.bands < 3 else "srgb")
    return image


def _by_rows(path: Path, side: int) -> pyvips.Image:
    """Returns a file that libvips does not stream as `_shrink` does; holds no more of it than its decoder does."""
    with open_rows(path, first_page=True) as reader:
        width, height = reader.header.width, reader.header.height
        factor = max(1, max(width, height) // (4 * side))
        rows = factor * max(1, _STRIP // factor)
        strips = [_smaller(*reader.read(min(rows, height - top)), factor) for top in range(0, height, rows)]
    size = pyvips.Image.black(width, height).thumbnail_image(side, height=side, size="down")  # as of streamed files
    small = pyvips.Image.new_from_array(np.concatenate(strips))
    return small.thumbnail_image(size.width, height=size.height, size="force")


def _smaller(pixels: Pixels, alpha: Pixels | None, factor: int) -> Pixels:
    """Returns rows as uint8, H×W×C with any alpha last, whose squares of `factor` pixels a side become one pixel."""
    values: Pixels = to_float(pixels)
    if alpha is not None:  # the colours of transparent pixels must not bleed
        values = np.concatenate([values * to_float(alpha), to_float(alpha)], axis=2)
    if factor > 1:
        height, width = (-(-length // factor) for length in values.shape[:2])
        values = cv2.resize(values, (width, height), interpolation=cv2.INTER_AREA).reshape(height, width, -1)
    if alpha is not None:
        values[..., :-1] /= np.maximum(values[..., -1:], 1e-6)
    return from_float(values, np.uint8)


def _shrink(image: pyvips.Image, side: int) -> pyvips.Image:
    """Returns an image upright, in 8-bit sRGB, with sides of at most this length."""
    profile = {"input_profile": "cmyk"} if image.interpretation == "cmyk" else {}  # unless it has its own
    return image.thumbnail_image(side, height=side, size="down", output_profile="srgb", **profile)


def _encode(small: pyvips.Image) -> bytes:
    """Returns an 8-bit image as an opaque JPEG."""
    if small.hasalpha():
        small = small.copy_memory()  # alpha and colour are read separately, which a stream does not allow
        squares = (pyvips.Image.xyz(small.width, small.height) / _SQUARE).floor()
        board = ((squares[0] + squares[1]) % 2 * 48 + 207).cast("uchar")
        alpha = small[small.bands - 1]
        colours = small[0 : small.bands - 1] if small.bands > 2 else small[0]
        small = alpha.ifthenelse(colours, board, blend=True)
    # Full chroma: people look for colour noise and what is left of it.
    return bytes(small.jpegsave_buffer(Q=85, subsample_mode="off", optimize_coding=True, keep="none"))
