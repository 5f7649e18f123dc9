"""Pictures of images before and after, for the page of a report: small ones, and details at full size."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import cv2
import numpy as np

from img2img.imaging.reading import open_rows, read_header
from img2img.imaging.values import Pixels, from_float, to_channels, to_float
from img2img.inference.jobs import Job
from img2img.inference.report_page import picture, thumbnail

SIDES = {300: 640, 3000: 320}
"""Longest side of thumbnails in pixels, by the most images that it is for: the page holds them all."""
DETAIL = 320
"""Longest side of the details in pixels; only pages with the largest thumbnails have details."""
_STRIP = 128  # rows that are read at a time


class Thumbnails:
    """Makes a thumbnail and a detail of each finished file, before and after, in a run's hidden folder.

    Args:
        hidden: The hidden folder.
        images: How many there will be.
    """

    def __init__(self, hidden: Path, images: int) -> None:
        self.hidden = hidden
        self.side = next((side for most, side in SIDES.items() if images <= most), 160)
        self.details = self.side == max(SIDES.values())

    def __call__(self, job: Job) -> dict[str, float]:
        """Writes the pictures; returns no scores."""
        pair = {"before": job.source, "after": job.destination}
        small = {which: thumbnail(path, self.side) for which, path in pair.items()}
        for which, data in small.items():
            self._file(job, which).write_bytes(data)
            self._file(job, f"{which}_detail").unlink(missing_ok=True)
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
    """Returns the top and left, in pixels of the image, of the detail in which two thumbnails differ most.

    Args:
        before: Thumbnail of the input.
        after: Thumbnail of the output.
        size: Height and width of the image itself.
    """
    first, second = (_decoded(data) for data in (before, after))
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


def _decoded(data: bytes) -> Pixels:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None, "it has just been encoded"
    return image


def _part(path: Path, top: int, left: int) -> Pixels:
    """Returns a detail of an image file, H×W×3 uint8; holds no other rows in memory than a strip."""
    with open_rows(path, first_page=True) as reader:
        for first in range(0, top, _STRIP):
            reader.read(min(_STRIP, top - first))
        rows, _ = reader.read(min(DETAIL, reader.header.height - top))
    return from_float(to_float(to_channels(rows[:, left : left + DETAIL], 3)), np.uint8)


def thumbnail_file(hidden: Path, name: str, which: str) -> Path:
    """Returns the path of an output's picture: `before`, `after`, `before_detail` or `after_detail`."""
    return hidden / "thumbnails" / f"{hashlib.blake2b(os.fsencode(name), digest_size=12).hexdigest()}.{which}"
