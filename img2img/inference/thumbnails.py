"""Small pictures of images before and after, for the page of a report."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from img2img.inference.jobs import Job
from img2img.inference.report_page import thumbnail

SIDES = {300: 640, 3000: 320}
"""Longest side of thumbnails in pixels, by the most images that it is for: the page holds them all."""


class Thumbnails:
    """Makes a thumbnail of each finished file, before and after, in a run's hidden folder.

    Args:
        hidden: The hidden folder.
        images: How many there will be.
    """

    def __init__(self, hidden: Path, images: int) -> None:
        self.hidden = hidden
        self.side = next((side for most, side in SIDES.items() if images <= most), 160)

    def __call__(self, job: Job) -> dict[str, float]:
        """Writes both pictures; returns no scores."""
        for which, path in (("before", job.source), ("after", job.destination)):
            file = thumbnail_file(self.hidden, job.name, which)
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(thumbnail(path, self.side))
        return {}


def thumbnail_file(hidden: Path, name: str, which: str) -> Path:
    """Returns the path of an output's thumbnail, `before` or `after`."""
    return hidden / "thumbnails" / f"{hashlib.blake2b(os.fsencode(name), digest_size=12).hexdigest()}.{which}"
