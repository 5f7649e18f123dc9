"""Small pictures of what was restored, and the page that compares them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from img2img.callbacks.journal import Journal, Record
from img2img.callbacks.report_page import Entry, thumbnail, write_report_page
from img2img.data.worklist import Job

PAGE = "restore_report.html"
SIDES = {300: 640, 3000: 320}
"""Longest side of thumbnails in pixels, by up to how many images there are: the page holds them all."""


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
        """Writes both; returns no scores."""
        for which, path in (("before", job.source), ("after", job.destination)):
            file = thumbnail_file(self.hidden, job.name, which)
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(thumbnail(path, self.side))
        return {}


def thumbnail_file(hidden: Path, name: str, which: str) -> Path:
    """Returns where an output's thumbnail lies, `before` or `after`."""
    return hidden / "thumbnails" / f"{hashlib.blake2b(os.fsencode(name), digest_size=12).hexdigest()}.{which}"


def write_page(journal: Journal, records: Sequence[Record], summary: dict[str, Any]) -> Path:
    """Writes the page of a run and returns its path."""
    path = journal.folder / PAGE
    facts = {
        "Model": str(summary["model"]),
        "Version": f"img2img {summary['version']}",
        "Ended": str(summary["ended"]),
        "Speed": f"{summary['megapixels_per_second']} MP/s",
    }
    write_report_page(path, f"Restored: {journal.folder.name}", facts, _entries(journal, records))
    return path


def _entries(journal: Journal, records: Sequence[Record]) -> Iterator[Entry]:
    for record in records:
        before, after = (_read(thumbnail_file(journal.hidden, record.name, which)) for which in ("before", "after"))
        yield Entry(
            name=record.name,
            status=record.status,
            reason=record.reason,
            width=record.width,
            height=record.height,
            seconds=record.seconds,
            before=before,
            after=after,
            scores=record.scores,
        )


def _read(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None
