"""Pictures of images before and after, for the page of a report: small ones, and details at full size."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import cv2
import numpy as np

from img2img.imaging.files import from_float, read_image, to_channels, to_float
from img2img.imaging.values import Pixels
from img2img.inference.jobs import Job
from img2img.inference.report_page import picture, thumbnail

SIDES = {300: 640, 3000: 320}
"""Longest side of thumbnails in pixels, by the most images that it is for: the page holds them all."""
DETAIL = 320
"""Longest side of the detail in pixels."""
MOST_PIXELS = 50_000_000
"""Larger images get no detail, because they would be held in memory whole."""
_CELL = 8  # pixels a side, the steps in which a detail is looked for


class Thumbnails:
    """Makes a thumbnail and a detail of each finished file, before and after, in a run's hidden folder.

    Args:
        hidden: The hidden folder.
        images: How many there will be.
    """

    def __init__(self, hidden: Path, images: int) -> None:
        self.hidden = hidden
        self.side = next((side for most, side in SIDES.items() if images <= most), 160)

    def __call__(self, job: Job) -> dict[str, float]:
        """Writes the pictures; returns no scores."""
        for which, path in (("before", job.source), ("after", job.destination)):
            self._file(job, which).write_bytes(thumbnail(path, self.side))
        header = job.header
        if header is not None and max(header.width, header.height) > self.side and job.pixels <= MOST_PIXELS:
            pixels = [to_channels(read_image(path).pixels, 3) for path in (job.source, job.destination)]
            if pixels[0].shape == pixels[1].shape:
                eight_bit = [from_float(to_float(image), np.uint8) for image in pixels]
                top, left = most_changed(*eight_bit, DETAIL)
                for which, image in zip(("before_detail", "after_detail"), eight_bit, strict=True):
                    self._file(job, which).write_bytes(picture(image[top : top + DETAIL, left : left + DETAIL]))
        return {}

    def _file(self, job: Job, which: str) -> Path:
        file = thumbnail_file(self.hidden, job.name, which)
        file.parent.mkdir(exist_ok=True)
        return file


def most_changed(before: Pixels, after: Pixels, side: int) -> tuple[int, int]:
    """Returns the top and left of the square in which two images differ most, H×W×C uint8 each."""
    difference = cv2.absdiff(before, after).mean(2).astype(np.float32)
    height, width = difference.shape
    cells = cv2.resize(difference, (-(-width // _CELL), -(-height // _CELL)), interpolation=cv2.INTER_AREA)
    rows, columns = (min(side // _CELL, length) for length in cells.shape)
    sums = cv2.boxFilter(cells, -1, (columns, rows), anchor=(0, 0), normalize=False)[
        : cells.shape[0] - rows + 1, : cells.shape[1] - columns + 1
    ]
    row, column = np.unravel_index(int(sums.argmax()), sums.shape)
    return max(0, min(int(row) * _CELL, height - side)), max(0, min(int(column) * _CELL, width - side))


def thumbnail_file(hidden: Path, name: str, which: str) -> Path:
    """Returns the path of an output's picture: `before`, `after`, `before_detail` or `after_detail`."""
    return hidden / "thumbnails" / f"{hashlib.blake2b(os.fsencode(name), digest_size=12).hexdigest()}.{which}"
