"""What is on the disk, compared with what a run has left there."""

from __future__ import annotations

import os
from pathlib import Path

from img2img.inference.jobs import Job
from img2img.inference.journal import Record


def is_done(job: Job, record: Record | None) -> bool:
    """Returns whether an earlier run finished a file, and neither the file nor its outputs have changed since."""
    if record is None or record.status == "failed":
        return False
    pairs = (job.source, (record.source_bytes, record.source_time)), (job.destination, (record.bytes, record.time))
    if any(state_of(path) != state for path, state in pairs):
        return False
    if job.map is None or record.status == "skipped":
        return True
    return state_of(job.map) == (record.map_bytes, record.map_time)


def others_files(job: Job, record: Record | None) -> list[Path]:
    """Returns the files that a job would overwrite although no run made them, or they were changed since.

    The record is the one that the run left when it restored the file; None if it did not.
    """
    made = (None, None) if record is None else ((record.bytes, record.time), (record.map_bytes, record.map_time))
    places = zip((job.destination, job.map), made, strict=True)
    return [path for path, known in places if path and _is_foreign(path, known)]


def _is_foreign(path: Path, known: tuple[int, int] | None) -> bool:
    return os.path.lexists(path) and (known is None or state_of(path) != known)  # a dangling link has no state


def states_of(job: Job) -> dict[Path, tuple[int, int]]:
    """Returns sizes and modification times of the outputs of a job that exist."""
    found = ((path, state_of(path)) for path in (job.destination, job.map) if path is not None)
    return {path: state for path, state in found if state is not None}


def may_replace(job: Job, path: Path) -> bool:
    """Returns whether what is at the place of an output may be replaced: anything, or what was there before the run."""
    return job.known is None or (path in job.known and state_of(path) == job.known[path])


def state_of(path: Path) -> tuple[int, int] | None:
    """Returns a file's size and modification time; None if they cannot be read."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns
