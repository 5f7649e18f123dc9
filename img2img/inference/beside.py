"""Counts what is decoded beside the images: masks, maps of the strength, references."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from img2img.errors import UserError
from img2img.imaging.formats import Header
from img2img.inference.jobs import Job
from img2img.inference.masks import MaskFinder, MaskReader
from img2img.inference.references import References
from img2img.inference.strength import FULL, Strength, StrengthRows


def counted(
    jobs: Iterable[Job], masks: MaskFinder | None, references: References | None, strength: Strength = FULL
) -> list[Job]:
    """Returns the jobs with headers whose `held` is the most that decoders hold at once for the file.

    A mask or a map of the strength is read along with its image. A reference is read when the output is written; where
    it would not fit into the memory limit, it does not count, because it will not be read.
    """

    def of(job: Job) -> Job:
        if job.header is None or job.problem:
            return job
        beside = (open_ for open_ in (masks, strength.open) if open_ is not None)
        held = job.header.held + sum(_held_by(open_, job.source, job.header) for open_ in beside)
        if references is not None:
            held = max(held, references.held(job))
        return replace(job, header=replace(job.header, held=held))

    if masks is None and references is None and strength.maps is None:
        return list(jobs)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:  # most of the time on network drives is waiting
        return list(pool.map(of, jobs))


def _held_by(open_: Callable[[Path, Header], MaskReader | StrengthRows | None], path: Path, header: Header) -> int:
    """Returns the bytes that the decoder of an image's mask or map holds; 0 if it is unusable, as the run will say."""
    try:
        companion = open_(path, header)
    except (ValueError, UserError):
        return 0
    if companion is None:
        return 0
    companion.close()
    return companion.held
